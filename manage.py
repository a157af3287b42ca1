"""Runs the desk's commands; where no DATABASE_URL is set, with a PostgreSQL of its own beside it."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path

import environs
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError

from config import embedded_postgres

BASE_DIR = Path(__file__).resolve().parent
WITHOUT_DATABASE = {
    "collectstatic",
    "compilemessages",
    "diffsettings",
    "help",
    "makemessages",
    "version",
}


def needs_database(arguments: list[str]) -> bool:
    """Whether this command line comes to a question to the database."""
    if not arguments or {"-h", "--help", "--version"} & set(arguments):
        return False
    if arguments[0] == "check":
        return any(argument.startswith("--database") for argument in arguments)
    return arguments[0] not in WITHOUT_DATABASE


def hold_embedded_database() -> embedded_postgres.Server:
    """Start or join the database under `.pg`, and tell this process and its children where it is."""
    server = embedded_postgres.start(BASE_DIR / ".pg")
    os.environ["DATABASE_URL"] = server.url
    os.environ["EMBEDDED_POSTGRES_RUNNING"] = "true"
    if not os.environ.get("SECRET_KEY"):
        os.environ["SECRET_KEY"] = embedded_postgres.kept_secret(server.home / "secret_key")
    return server


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    environs.Env().read_env(str(BASE_DIR / ".env"), recurse=False)
    # As an exception, so that the database is let go on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    server = None
    try:
        if not os.environ.get("DATABASE_URL") and needs_database(sys.argv[1:]):
            server = hold_embedded_database()
        elif not os.environ.get("DATABASE_URL") and not os.environ.get("SECRET_KEY"):
            os.environ["SECRET_KEY"] = secrets.token_urlsafe(50)
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, embedded_postgres.EmbeddedPostgresError) as error:
        sys.exit(str(error))
    except OperationalError as error:
        sys.exit(f"The database does not do its part: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        if server:
            server.release()


if __name__ == "__main__":
    main()
