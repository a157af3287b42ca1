"""How gunicorn serves the desk, under `manage.py run` and in a container alike."""

from __future__ import annotations

from pathlib import Path

import environs
from gunicorn import glogging


class Logger(glogging.Logger):
    """Without the access log, which `logconfig_dict` turns on: config.middleware.RequestLog masks codes."""

    @property
    def access_log_enabled(self) -> bool:
        return False


env = environs.Env()
env.read_env(str(Path(__file__).resolve().parent.parent / ".env"), recurse=False)

bind = f"{env.str('BIND', '127.0.0.1')}:{env.int('PORT', 8000)}"
worker_class = "gthread"
workers = env.int("WEB_CONCURRENCY", 2)
threads = 16
keepalive = 30
timeout = 120
graceful_timeout = 30
limit_request_line = 8190
control_socket_disable = True
# config.middleware.TrustedProxies decides whose X-Forwarded-… is believed.
forwarded_allow_ips = ""
logger_class = Logger
loglevel = env.str("LOG_LEVEL", "INFO").lower()
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "config.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": loglevel.upper()},
    "loggers": {"gunicorn.error": {"handlers": [], "propagate": True}},
}
