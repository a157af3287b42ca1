"""What can only be judged at the start by looking at several settings; each with what to do about it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import get_connection


@register(Tags.compatibility)
def email_backend_can_be_made(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Nothing is connected to; a provider without its key is found here, and not by the worker each second."""
    try:
        get_connection()
    except (ImportError, ImproperlyConfigured) as error:
        hint = "Name a backend, such as anymail.backends.mailgun.EmailBackend, and give it its ANYMAIL_… settings."
        return [Error(f"EMAIL_BACKEND: {error}", hint=hint, id="desk.E001")]
    return []


@register(Tags.security, deploy=True)
def mail_leaves_the_house(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.EMAIL_BACKEND != "vouchers.delivery.kept.KeptEmailBackend":
        return []
    return [
        Warning(
            "Emails are kept, not sent.",
            hint="Set EMAIL_URL, or EMAIL_BACKEND and ANYMAIL_….",
            id="desk.W001",
        )
    ]


@register(Tags.security, deploy=True)
def database_is_no_embedded_one(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not settings.EMBEDDED_POSTGRES and settings.DATABASE_URL:
        return []
    return [Warning("The embedded PostgreSQL is for trying out.", hint="Set DATABASE_URL.", id="desk.W002")]
