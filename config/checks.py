"""What can only be judged at the start by looking at several settings; each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register  # noqa: A004
from django.core.checks.registry import registry
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import get_connection
from django.db import connection
from django.urls import reverse
from djstripe import checks as of_djstripe
from djstripe.models import WebhookEndpoint

from vouchers.tracking import providers
from vouchers.tracking.proofs import secret

# They look into the database at every command, also where there is none; `stripe_endpoint_is_there` says the same.
registry.registered_checks -= {of_djstripe.check_webhook_validation, of_djstripe.check_webhook_endpoint_has_secret}


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


@register(Tags.compatibility)
def email_provider_is_believed(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Without it the desk sends, and never hears that an email bounced: what is not proved is refused."""
    slug = providers.provider_of_backend(settings.EMAIL_BACKEND)
    if not slug:
        return []
    provider, login = providers.PROVIDERS[slug], secret(providers.BASIC_AUTH)
    by_login = provider.setting == providers.BASIC_AUTH or bool(login)
    wanted = {"ANYMAIL_WEBHOOK_SECRET as user:password": by_login and ":" not in login}
    if provider.setting != providers.BASIC_AUTH:
        wanted[f"ANYMAIL_{provider.setting}"] = not secret(provider.setting)
    names = " and ".join(name for name, is_wanted in wanted.items() if is_wanted)
    if not names:
        return []
    address = settings.BASE_URL + reverse("email_tracking", args=[slug])
    if by_login:
        address = address.replace("://", "://user:password@", 1)
    return [
        Warning(
            f"{provider.name} tells the desk what became of its emails, and cannot be believed.",
            hint=f"Set {names}, and enter {address} at {provider.name}: docs/email.md.",
            id="desk.W005",
        )
    ]


@register(Tags.security, deploy=True)
def database_is_no_embedded_one(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not settings.EMBEDDED_POSTGRES and settings.DATABASE_URL:
        return []
    return [Warning("The embedded PostgreSQL is for trying out.", hint="Set DATABASE_URL.", id="desk.W002")]


@register(Tags.compatibility)
def payments_are_whole(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A provider with half of its settings takes money and does not hear of it, or the other way about."""
    problems: list[CheckMessage] = []
    if settings.STRIPE_SECRET_KEY and not settings.STRIPE_WEBHOOK_SECRET:
        problems.append(
            Warning(
                "STRIPE_SECRET_KEY is set and STRIPE_WEBHOOK_SECRET is not: unless an endpoint has its secret in the "
                "admin, nobody tells the desk of payments.",
                hint="Set it to the signing secret of the endpoint, then run: python manage.py stripe_webhook",
                id="desk.W003",
            )
        )
    paypal = ("PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET", "PAYPAL_WEBHOOK_ID")
    missing = [name for name in paypal if not getattr(settings, name)]
    if missing and len(missing) < len(paypal):
        hint = "Set all three, or none of them: docs/paypal.md."
        problems.append(
            Warning(f"PayPal is set up by halves: {', '.join(missing)} not set.", hint=hint, id="desk.W004")
        )
    return problems


@register(Tags.security, deploy=True)
def somebody_can_pay(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.STRIPE_SECRET_KEY or settings.STRIPE_WEBHOOK_SECRET or settings.PAYPAL_CLIENT_ID:
        return []
    hint = "Set STRIPE_… or PAYPAL_…, unless payments come in elsewhere and by POST /issue-voucher."
    return [Info("No payment provider is set up.", hint=hint, id="desk.I001")]


@register(Tags.database)
def stripe_endpoint_is_there(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Only where databases may be asked: python manage.py check --database default"""
    if not databases or "djstripe_webhookendpoint" not in connection.introspection.table_names():
        return []
    problems: list[CheckMessage] = [
        Error(
            f"The Stripe endpoint {endpoint.url} has an empty secret: all of its events are refused.",
            hint="Give it the secret that Stripe shows for it, or delete it.",
            id="desk.E002",
        )
        for endpoint in WebhookEndpoint.objects.filter(secret="")
    ]
    secret = settings.STRIPE_WEBHOOK_SECRET
    if secret and not WebhookEndpoint.objects.filter(secret=secret).exists():
        hint = "Run: python manage.py stripe_webhook"
        problems.append(Error("STRIPE_WEBHOOK_SECRET belongs to no endpoint yet.", hint=hint, id="desk.E003"))
    return problems
