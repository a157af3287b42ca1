"""The email providers that may tell the desk what became of an email, and what each must prove it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from anymail.webhooks.base import AnymailCoreWebhookView
from anymail.webhooks.brevo import BrevoTrackingWebhookView
from anymail.webhooks.mailgun import MailgunTrackingWebhookView
from anymail.webhooks.mailjet import MailjetTrackingWebhookView
from anymail.webhooks.mailtrap import MailtrapTrackingWebhookView
from anymail.webhooks.mandrill import MandrillCombinedWebhookView
from anymail.webhooks.postal import PostalTrackingWebhookView
from anymail.webhooks.sendgrid import SendGridTrackingWebhookView
from anymail.webhooks.sparkpost import SparkPostTrackingWebhookView
from anymail.webhooks.unisender_go import UnisenderGoTrackingWebhookView
from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated

from vouchers.errors import BadSignature, ProviderUnreachable
from vouchers.tracking import parsers, proofs, sns

BASIC_AUTH = "WEBHOOK_SECRET"


@dataclass(frozen=True)
class Provider:
    """`setting` is what its proof needs, without `ANYMAIL_`; without a `scheme` it signs nothing."""

    name: str
    reader: type[AnymailCoreWebhookView]
    setting: str = BASIC_AUTH
    scheme: proofs.Scheme | None = None
    asks_for_401: bool = False  # sends user and password only when it was asked for them
    token_is_all: bool = False  # signs a token instead of the body

    def prove(self, request: HttpRequest) -> None:
        """Raises `BadSignature`; `NotAuthenticated` to a signed post that wants to be asked for user and password.

        `WEBHOOK_SECRET` is asked of all where it is set, as django-anymail has it.
        """
        key, login = proofs.secret(self.setting), proofs.secret(BASIC_AUTH)
        if not key:
            raise BadSignature(f"ANYMAIL_{self.setting} is not set, so no post of {self.name} can be checked.")
        if self.asks_for_401 and "Authorization" not in request.headers:
            self.ask(request, key)
        if login:
            proofs.basic_auth(request, login)
        if self.scheme:
            self.scheme(request, key)

    def ask(self, request: HttpRequest, key: str) -> NoReturn:
        """Who shows neither a login nor a signature that can be checked is refused, and not asked for anything."""
        try:
            if self.scheme:
                self.scheme(request, key)
        except ProviderUnreachable:
            raise BadSignature(proofs.WRONG) from None
        raise NotAuthenticated("Send the user and password of ANYMAIL_WEBHOOK_SECRET.")


PROVIDERS: Mapping[str, Provider] = {
    "amazon_ses": Provider("Amazon SES", parsers.AmazonSES, scheme=sns.verify, asks_for_401=True),
    "brevo": Provider("Brevo", BrevoTrackingWebhookView),
    "mailersend": Provider("MailerSend", parsers.MailerSend, "MAILERSEND_SIGNING_SECRET", proofs.hmac_in("Signature")),
    "mailgun": Provider(
        "Mailgun", MailgunTrackingWebhookView, "MAILGUN_WEBHOOK_SIGNING_KEY", proofs.mailgun, token_is_all=True
    ),
    "mailjet": Provider("Mailjet", MailjetTrackingWebhookView),
    "mailtrap": Provider(
        "Mailtrap", MailtrapTrackingWebhookView, "MAILTRAP_TRACKING_SECRET", proofs.hmac_in("Mailtrap-Signature")
    ),
    "mandrill": Provider("Mandrill", MandrillCombinedWebhookView, "MANDRILL_WEBHOOK_KEY", proofs.mandrill),
    "postal": Provider("Postal", PostalTrackingWebhookView, "POSTAL_WEBHOOK_KEY", proofs.postal),
    "postmark": Provider("Postmark", parsers.Postmark),
    "resend": Provider("Resend", parsers.Resend, "RESEND_SIGNING_SECRET", proofs.svix),
    "sendgrid": Provider(
        "SendGrid", SendGridTrackingWebhookView, "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY", proofs.sendgrid
    ),
    "sparkpost": Provider("SparkPost", SparkPostTrackingWebhookView),
    "unisender_go": Provider(
        "Unisender Go", UnisenderGoTrackingWebhookView, "UNISENDER_GO_API_KEY", proofs.unisender_go
    ),
}


def provider_of_backend(backend: str) -> str:
    """The provider that an `EMAIL_BACKEND` of django-anymail sends by; empty for others and those that tell nothing."""
    prefix, suffix = "anymail.backends.", ".EmailBackend"
    slug = backend.removeprefix(prefix).removesuffix(suffix)
    slug = "brevo" if slug == "sendinblue" else slug
    return slug if backend.startswith(prefix) and slug in PROVIDERS else ""
