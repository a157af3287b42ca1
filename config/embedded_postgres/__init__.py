"""A PostgreSQL of our own where DATABASE_URL is unset: development, the first run, tests. Not for production.

Nothing here imports Django: `manage.py` starts the server before the settings are read.
"""

from config.embedded_postgres.place import ELSEWHERE, EmbeddedPostgresError
from config.embedded_postgres.server import NOT_DURABLE, Server, held, kept_secret, start
from config.embedded_postgres.watcher import Account

__all__ = ["ELSEWHERE", "NOT_DURABLE", "Account", "EmbeddedPostgresError", "Server", "held", "kept_secret", "start"]
