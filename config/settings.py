"""Every setting of the desk, read once from the environment or a `.env` file.

A value that makes no sense stops the start with a sentence that names it. What can only be judged by
looking at several settings, or at the database, is a system check (`config/checks.py`).
"""

from __future__ import annotations

import ipaddress
import os
import re
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import dj_email_url
import environs
from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

BASE_DIR = Path(__file__).resolve().parent.parent

env = environs.Env()
env.read_env(str(BASE_DIR / ".env"), recurse=False)


def refuse(name: str, what: str) -> ImproperlyConfigured:
    """The one form in which a setting is turned down: its name, what is wrong, what to write instead."""
    return ImproperlyConfigured(f"{name}: {what}")


# Where the desk is ---------------------------------------------------------------------------------

try:
    PORT: int = env.int("PORT", default=8000, validate=environs.validate.Range(min=1, max=65535))
    LOG_LEVEL: str = env.str(
        "LOG_LEVEL",
        default="INFO",
        validate=environs.validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
    )
    TIME_ZONE: str = env.str("TIME_ZONE", default="UTC")
    SHOP_LANGUAGE: str = env.str("SHOP_LANGUAGE", default="en", validate=environs.validate.OneOf(["en", "de"]))
    ALERT_EMAILS: list[str] = env.list("ALERT_EMAILS", default=[])
    BASE_URL: str = env.str("BASE_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
    ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[])
    CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", default=[])
except environs.EnvError as error:
    raise ImproperlyConfigured(str(error)) from None

if TIME_ZONE not in available_timezones():
    raise refuse("TIME_ZONE", f"{TIME_ZONE!r} is no time zone; write one such as Europe/Berlin.")
USE_TZ = True
# The admin and the API speak English; emails and the shop's pages speak to buyers in theirs.
LANGUAGE_CODE = "en"
USE_I18N = True
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "config" / "locale"]

_base = urlsplit(BASE_URL)
if _base.scheme not in {"http", "https"} or not _base.hostname or _base.query or _base.fragment:
    raise refuse("BASE_URL", f"{BASE_URL!r} is no address of a site; write one such as https://shop.example.")
for _origin in CORS_ALLOWED_ORIGINS:
    _parts = urlsplit(_origin)
    if _parts.scheme not in {"http", "https"} or not _parts.netloc or _parts.path or _parts.query:
        raise refuse("CORS_ALLOWED_ORIGINS", f"{_origin!r} is no origin; write one such as https://shop.example.")

ALLOWED_HOSTS = ALLOWED_HOSTS or [_base.hostname, "localhost", "127.0.0.1", "[::1]"]
CSRF_FAILURE_VIEW = "config.errors.csrf_failure"
CSRF_TRUSTED_ORIGINS = [f"{_base.scheme}://{_base.netloc}"]

TRUSTED_PROXIES: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
_networks: list[str] = env.list("TRUSTED_PROXIES", default=[])
for _network in _networks:
    try:
        TRUSTED_PROXIES.append(ipaddress.ip_network(_network))
    except ValueError as error:
        raise refuse("TRUSTED_PROXIES", f"{error}; write networks such as 10.0.0.0/8, separated by commas.") from None

# The database --------------------------------------------------------------------------------------

# manage.py starts an embedded PostgreSQL and sets DATABASE_URL where the environment has none.
DATABASE_URL: str = env.str("DATABASE_URL", default="")
EMBEDDED_POSTGRES: bool = env.bool("EMBEDDED_POSTGRES_RUNNING", default=False)


def database(url: str) -> dict[str, object]:
    """Django's settings for a libpq URI; libpq itself takes it apart, so several hosts work too."""
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise refuse("DATABASE_URL", f"not the address of a PostgreSQL database ({str(error).strip()}).") from None
    if url and (not re.match(r"postgres(ql)?://", url) or not parts.get("dbname")):
        raise refuse("DATABASE_URL", "write it as postgresql://user:password@host:5432/database.")
    wanted = f"{parts.pop('options', '')} {SESSION_TIMEOUTS}".strip()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", ""),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, **parts, "options": wanted},
    }


# One idle open transaction keeps dead index entries alive and slows every issue (docs/decisions/0003).
SESSION_TIMEOUTS = "-c idle_in_transaction_session_timeout=30s -c statement_timeout=30s -c lock_timeout=10s"
DATABASES = {"default": database(DATABASE_URL)}
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Security ------------------------------------------------------------------------------------------

SECRET_KEY: str = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    raise refuse(
        "SECRET_KEY",
        "not set; `make run` makes one of its own, elsewhere give at least 50 random characters.",
    )
if len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 5 or "change-me" in SECRET_KEY:
    raise refuse("SECRET_KEY", "too short or a published default; give at least 50 random characters.")

_https = _base.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = _https
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
# Whether every subdomain of the shop speaks HTTPS, for a year, is not ours to promise.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
CORS_EXPOSE_HEADERS = ["ETag", "Link", "Retry-After", "X-Request-ID"]
CORS_ALLOW_HEADERS = ["authorization", "content-type", "idempotency-key", "if-none-match", "x-request-id"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# The application -----------------------------------------------------------------------------------

INSTALLED_APPS = [
    "config.apps.ConfigConfig",
    "courses",
    "vouchers",
    "config.apps.DeskAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "procrastinate.contrib.django",
    "djstripe",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "anymail",
    "django_htmx",
]
MIDDLEWARE = [
    "config.middleware.RequestLog",
    "config.middleware.TrustedProxies",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
# Several threads, so that a slow mail server delays nothing else; a job every second is not worth keeping.
PROCRASTINATE_WORKER_DEFAULTS = {"concurrency": 4, "delete_jobs": "successful"}
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

# Uploads: a file of 1,000,000 codes of 128 characters is 130 MB; a JSON list is held in memory.
UPLOAD_MAX_BYTES = 256 * 1024 * 1024
JSON_UPLOAD_MAX_BYTES = 64 * 1024 * 1024
REQUEST_MAX_BYTES = 64 * 1024
# The admin's upload page takes pasted text as a form field.
DATA_UPLOAD_MAX_MEMORY_SIZE = JSON_UPLOAD_MAX_BYTES

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "vouchers.api.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "config.errors.answer",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Voucher desk",
    "DESCRIPTION": "Pools of voucher codes for courses: upload, issue, redeem, count.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/",
}

# Email ---------------------------------------------------------------------------------------------

DEFAULT_FROM_EMAIL: str = env.str("DEFAULT_FROM_EMAIL", default=f"vouchers@{_base.hostname}")
if "@" not in parseaddr(DEFAULT_FROM_EMAIL)[1]:
    raise refuse("DEFAULT_FROM_EMAIL", f"{DEFAULT_FROM_EMAIL!r} is no email address.")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
for _address in ALERT_EMAILS:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", _address):
        raise refuse("ALERT_EMAILS", f"{_address!r} is no email address; write addresses, separated by commas.")
EMAIL_TIMEOUT = 10  # seconds; django-anymail takes it from ANYMAIL below
ANYMAIL: dict[str, object] = {
    name.removeprefix("ANYMAIL_"): value for name, value in os.environ.items() if name.startswith("ANYMAIL_")
}
EMAIL_URL: str = env.str("EMAIL_URL", default="")
if EMAIL_URL:
    # Other schemes that dj_email_url lets pass come out of it as SMTP in the clear.
    try:
        if urlsplit(EMAIL_URL).scheme not in {"smtp", "submission"} or not urlsplit(EMAIL_URL).hostname:
            raise ValueError
        vars().update(dj_email_url.parse(EMAIL_URL) | {"EMAIL_TIMEOUT": EMAIL_TIMEOUT})  # type: ignore[no-untyped-call]
    except ValueError:
        raise refuse("EMAIL_URL", "write it as smtp://user:password@host:587/?tls=True, or …:465/?ssl=True.") from None
EMAIL_BACKEND: str = env.str(
    "EMAIL_BACKEND",
    default="django.core.mail.backends.smtp.EmailBackend" if EMAIL_URL else "vouchers.delivery.kept.KeptEmailBackend",
)
if ANYMAIL and not EMAIL_BACKEND.startswith("anymail."):
    raise refuse("EMAIL_BACKEND", "ANYMAIL_… is set, so name the provider: anymail.backends.mailgun.EmailBackend.")
# How many days payloads and bodies are kept that the books do not need; 0: for ever (docs/privacy.md).
try:
    _days = environs.validate.Range(min=0, max=36_500)
    WEBHOOK_PAYLOAD_DAYS: int = env.int("WEBHOOK_PAYLOAD_DAYS", default=30, validate=_days)
    EMAIL_BODY_DAYS: int = env.int("EMAIL_BODY_DAYS", default=90, validate=_days)
except environs.EnvError as error:
    raise ImproperlyConfigured(str(error)) from None
# Not every provider takes our metadata; an email without it is better than none.
ANYMAIL |= {"REQUESTS_TIMEOUT": EMAIL_TIMEOUT, "IGNORE_UNSUPPORTED_FEATURES": True}

# Payments ------------------------------------------------------------------------------------------

STRIPE_SECRET_KEY: str = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET: str = env.str("STRIPE_WEBHOOK_SECRET", default="")
PAYPAL_CLIENT_ID: str = env.str("PAYPAL_CLIENT_ID", default="")
PAYPAL_CLIENT_SECRET: str = env.str("PAYPAL_CLIENT_SECRET", default="")
PAYPAL_WEBHOOK_ID: str = env.str("PAYPAL_WEBHOOK_ID", default="")
PAYPAL_API_HOST: str = env.str("PAYPAL_API_HOST", default="").rstrip("/") or "https://api-m.paypal.com"
# dj-stripe refuses other keys with an exception of its own, at the first webhook.
if STRIPE_SECRET_KEY and not re.fullmatch(r"(sk|rk)_(test|live)_[A-Za-z0-9]{24,}", STRIPE_SECRET_KEY):
    raise refuse(
        "STRIPE_SECRET_KEY", "no secret key of Stripe; these begin with sk_test_, sk_live_, rk_test_, rk_live_."
    )
if STRIPE_WEBHOOK_SECRET and not re.fullmatch(r"\S{8,}", STRIPE_WEBHOOK_SECRET):
    raise refuse("STRIPE_WEBHOOK_SECRET", "too short for a secret; Stripe shows it as whsec_….")
_stripe_host: str = env.str("STRIPE_API_HOST", default="").rstrip("/")
for _name, _host in {"STRIPE_API_HOST": _stripe_host, "PAYPAL_API_HOST": PAYPAL_API_HOST}.items():
    if _host and (urlsplit(_host).scheme not in {"http", "https"} or not urlsplit(_host).hostname):
        raise refuse(_name, f"{_host!r} is no address; write one such as https://api.example.")
if _stripe_host:  # dj-stripe warns where this is set at all
    STRIPE_API_HOST: str = _stripe_host
STRIPE_LIVE_MODE = "_live_" in STRIPE_SECRET_KEY
STRIPE_LIVE_SECRET_KEY = STRIPE_SECRET_KEY if STRIPE_LIVE_MODE else ""
STRIPE_TEST_SECRET_KEY = "" if STRIPE_LIVE_MODE else STRIPE_SECRET_KEY
# A payment that only looks like one, for trying out: where nothing real can be paid, and never in production.
_payments = (STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, PAYPAL_CLIENT_ID, PAYPAL_CLIENT_SECRET, PAYPAL_WEBHOOK_ID)
DEMO_PAYMENTS = EMBEDDED_POSTGRES and not any(_payments) and not _https

# Logging -------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "config.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers and its lines with raw paths: the request line of ours says the same, masked.
        "django": {"handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "ERROR"},
        "procrastinate": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},
        # Its line at each refused signature; our own says the same.
        "djstripe": {"level": "ERROR"},
        "procrastinate.periodic": {"level": "ERROR"},
    },
}
