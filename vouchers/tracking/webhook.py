"""POST /webhooks/email/<provider>/tracking/: what became of an email, told by who sends it."""

from __future__ import annotations

import logging
from typing import Any

from django.http import Http404, HttpRequest
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.response import Response

from vouchers.api.base import DeskView
from vouchers.errors import BadSignature
from vouchers.tracking import sns
from vouchers.tracking.events import read
from vouchers.tracking.proofs import json_object
from vouchers.tracking.providers import PROVIDERS, Provider
from vouchers.tracking.recording import record

logger = logging.getLogger(__name__)


@extend_schema(exclude=True)
class TrackingWebhook(DeskView):
    """By the provider's proof alone. What does not concern us is answered 200, and nothing is done."""

    authentication_classes = []
    anonymous = True
    max_bytes = 4 * 1024 * 1024  # Mandrill sends a thousand events at once

    def post(self, request: Request, provider: str) -> Response:
        sender, post = provider_at(provider), request._request
        prove(sender, post)
        if sender is PROVIDERS["amazon_ses"] and (message := json_object(post))["Type"] != sns.NOTIFICATION:
            sns.settle_subscription(message)
        elif told := read(sender.reader, post):
            record(provider, told, once_per_key=sender.token_is_all)
        return Response({"received": True})

    def head(self, request: Request, provider: str) -> Response:
        """Some providers look whether there is anything before they take an address."""
        provider_at(provider)
        return Response()

    def get(self, request: Request, provider: str) -> Response:
        """Unisender Go looks this way."""
        if provider != "unisender_go":
            raise MethodNotAllowed("GET")
        return Response()

    def get_authenticate_header(self, request: Request) -> str:
        return 'Basic realm="ANYMAIL_WEBHOOK_SECRET"'


def provider_at(slug: str) -> Provider:
    if slug not in PROVIDERS:
        raise Http404
    return PROVIDERS[slug]


def prove(provider: Provider, request: HttpRequest) -> None:
    try:
        provider.prove(request)
    except BadSignature as error:
        event: dict[str, Any] = {"provider": provider.name, "why": error.message}
        logger.warning("A post about an email was refused", extra={"event": event})
        raise
