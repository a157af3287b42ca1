"""The settings, each read in a process of its own from an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECRET = "x7Qp2" * 12
PRODUCTION = {
    "DATABASE_URL": "postgresql://desk:secret@db.example:5432/desk",
    "SECRET_KEY": SECRET,
    "BASE_URL": "https://vouchers.shop.example",
    "EMAIL_URL": "smtp://user:pass@mail.example:587/?tls=True",
}
PRINT = "import json; from config import settings as s; print(json.dumps({n: str(getattr(s, n)) for n in %r.split()}))"


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=False
    )


def read(names: str, **environment: str) -> dict[str, str]:
    done = python("-c", PRINT % names, **(PRODUCTION | environment))
    assert done.returncode == 0, done.stderr
    values: dict[str, str] = json.loads(done.stdout)
    return values


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SECRET_KEY", "", "SECRET_KEY: not set"),
        ("SECRET_KEY", "short", "SECRET_KEY: too short or a published default"),
        ("SECRET_KEY", "change-me" * 10, "SECRET_KEY: too short or a published default"),
        ("SECRET_KEY", "a" * 60, "SECRET_KEY: too short or a published default"),
        ("DATABASE_URL", "mysql://db.example/desk", "DATABASE_URL: "),
        ("DATABASE_URL", "postgresql://db.example", "DATABASE_URL: write it as postgresql://"),
        ("PORT", "eighty", "PORT"),
        ("PORT", "99999", "PORT"),
        ("BASE_URL", "shop.example", "BASE_URL: 'shop.example' is no address"),
        ("TIME_ZONE", "Berlin", "TIME_ZONE: 'Berlin' is no time zone"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        ("CORS_ALLOWED_ORIGINS", "shop.example", "CORS_ALLOWED_ORIGINS: 'shop.example' is no origin"),
        ("EMAIL_URL", "mail.example:25", "EMAIL_URL: write it as smtp://"),
        ("DEFAULT_FROM_EMAIL", "Shop", "DEFAULT_FROM_EMAIL: 'Shop' is no email address"),
        ("ALERT_EMAILS", "support@shop.example,boss", "ALERT_EMAILS: 'boss' is no email address"),
        ("SHOP_LANGUAGE", "fr", "SHOP_LANGUAGE"),
        ("WEBHOOK_PAYLOAD_DAYS", "-1", "WEBHOOK_PAYLOAD_DAYS"),
        ("EMAIL_BODY_DAYS", "many", "EMAIL_BODY_DAYS"),
        ("STRIPE_SECRET_KEY", "pk_test_" + "x" * 24, "STRIPE_SECRET_KEY: no secret key of Stripe"),
        ("STRIPE_SECRET_KEY", "sk_test_short", "STRIPE_SECRET_KEY: no secret key of Stripe"),
        ("STRIPE_WEBHOOK_SECRET", "whsec", "STRIPE_WEBHOOK_SECRET: too short"),
        ("STRIPE_API_HOST", "localhost:8420", "STRIPE_API_HOST: 'localhost:8420' is no address"),
        ("PAYPAL_API_HOST", "sandbox", "PAYPAL_API_HOST: 'sandbox' is no address"),
        ("ANYMAIL_MAILGUN_API_KEY", "key", "EMAIL_BACKEND: ANYMAIL_… is set, so name the provider"),
    ],
)
def test_a_value_that_makes_no_sense_stops_the_start_with_a_sentence(name: str, value: str, sentence: str) -> None:
    done = python("manage.py", "check", **(PRODUCTION | {name: value}))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_it_is_fit_for_production() -> None:
    done = python("manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stderr


def test_it_warns_where_no_email_would_leave_the_house() -> None:
    done = python("manage.py", "check", "--deploy", "--fail-level", "WARNING", **(PRODUCTION | {"EMAIL_URL": ""}))
    assert done.returncode == 1
    assert "Emails are kept, not sent." in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("STRIPE_SECRET_KEY", "sk_test_" + "x" * 24, "nobody tells the desk of payments"),
        ("PAYPAL_CLIENT_ID", "id", "PayPal is set up by halves: PAYPAL_CLIENT_SECRET, PAYPAL_WEBHOOK_ID not set."),
    ],
)
def test_it_says_what_payments_still_lack(name: str, value: str, sentence: str) -> None:
    done = python("manage.py", "check", "--fail-level", "WARNING", **(PRODUCTION | {name: value}))
    assert done.returncode == 1
    assert sentence in done.stderr


def test_it_offers_no_test_payment_in_production() -> None:
    assert read("DEMO_PAYMENTS") == {"DEMO_PAYMENTS": "False"}
    embedded = {"EMBEDDED_POSTGRES_RUNNING": "true", "BASE_URL": "http://127.0.0.1:8000"}
    assert read("DEMO_PAYMENTS", **embedded) == {"DEMO_PAYMENTS": "True"}
    assert read("DEMO_PAYMENTS", **embedded, PAYPAL_CLIENT_ID="id") == {"DEMO_PAYMENTS": "False"}
    assert read("DEMO_PAYMENTS", **embedded, STRIPE_WEBHOOK_SECRET="whsec_secret") == {"DEMO_PAYMENTS": "False"}
    assert read("DEMO_PAYMENTS", **(embedded | {"BASE_URL": "https://shop.example"})) == {"DEMO_PAYMENTS": "False"}


def test_it_refuses_a_backend_that_is_none() -> None:
    done = python("manage.py", "check", **(PRODUCTION | {"EMAIL_BACKEND": "anymail.backends.nobody.EmailBackend"}))
    assert done.returncode == 1
    assert "EMAIL_BACKEND" in done.stderr


def test_it_refuses_a_provider_without_its_key() -> None:
    done = python("manage.py", "check", **(PRODUCTION | {"EMAIL_BACKEND": "anymail.backends.mailgun.EmailBackend"}))
    assert done.returncode == 1
    assert "API_KEY" in done.stderr


def test_it_says_that_the_database_is_away() -> None:
    url = "postgresql://desk:secret@127.0.0.1:1/desk"
    done = python("manage.py", "vouchers_summary", **(PRODUCTION | {"DATABASE_URL": url}))
    assert done.returncode == 1
    assert done.stderr.startswith("The database does not do its part: connection failed")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_it_takes_several_hosts_of_a_database() -> None:
    url = "postgresql://desk:p%40ss@a.example:5432,b.example:5433/desk?target_session_attrs=read-write"
    found = read("DATABASES", DATABASE_URL=url)["DATABASES"]
    assert "'HOST': 'a.example,b.example'" in found
    assert "'PORT': '5432,5433'" in found
    assert "'PASSWORD': 'p@ss'" in found
    assert "'target_session_attrs': 'read-write'" in found


def test_it_reads_the_address_of_a_mail_server() -> None:
    found = read("EMAIL_BACKEND EMAIL_HOST EMAIL_PORT EMAIL_HOST_USER EMAIL_HOST_PASSWORD EMAIL_USE_TLS EMAIL_TIMEOUT")
    assert found == {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": "mail.example",
        "EMAIL_PORT": "587",
        "EMAIL_HOST_USER": "user",
        "EMAIL_HOST_PASSWORD": "pass",
        "EMAIL_USE_TLS": "True",
        "EMAIL_TIMEOUT": "10",
    }


def test_it_passes_a_provider_its_own_settings() -> None:
    found = read(
        "EMAIL_BACKEND ANYMAIL",
        EMAIL_URL="",
        EMAIL_BACKEND="anymail.backends.mailgun.EmailBackend",
        ANYMAIL_MAILGUN_API_KEY="key",
    )
    assert found["EMAIL_BACKEND"] == "anymail.backends.mailgun.EmailBackend"
    assert "'MAILGUN_API_KEY': 'key'" in found["ANYMAIL"]


def test_it_keeps_mail_where_nothing_is_set() -> None:
    assert read("EMAIL_BACKEND", EMAIL_URL="")["EMAIL_BACKEND"] == "vouchers.delivery.kept.KeptEmailBackend"
