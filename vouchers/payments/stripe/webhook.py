"""POST /webhooks/stripe/<uuid>/: dj-stripe's view, behind a look at the signature and at what it would stumble over."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any
from uuid import UUID

import stripe
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from djstripe.models import WebhookEndpoint
from djstripe.views import ProcessWebhookView

from config.errors import shape
from vouchers.errors import BadSignature, DeskError, InvalidRequest, TooLarge
from vouchers.payments.stripe.endpoint import DEMO, make_known

logger = logging.getLogger(__name__)

TOLERANCE = 300  # seconds, either way
MAX_BYTES = 1024 * 1024
LONGEST_ID, LONGEST_REQUEST_ID = 250, 50  # as dj-stripe's columns have it
LAST_SECOND = 2**33  # of a clock that goes wrong; the year 2242
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # and not a backslash that a buyer wrote before "u0000"


@method_decorator(csrf_exempt, name="dispatch")
class StripeWebhook(ProcessWebhookView):  # type: ignore[misc]  # dj-stripe has no types
    """400 for what is not proved to come from Stripe, with nothing stored; what is proved is kept by dj-stripe, which
    calls `vouchers/signals.py` in the same transaction."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return refusal(request, 405, "Events are sent by POST.", "method_not_allowed", Allow="POST")
        try:
            self.prove(request, kwargs["uuid"])
        except DeskError as error:
            logger.warning("A webhook of Stripe was refused", extra={"event": {"why": error.code}})
            return refusal(request, error.status, error.message, error.code)
        # dj-stripe takes the address of the client from there, whoever wrote it, and stumbles over "unknown".
        request.META.pop("HTTP_X_FORWARDED_FOR", None)
        vars(request).pop("headers", None)
        response: HttpResponse = super().dispatch(request, *args, **kwargs)
        if response.status_code == 400:
            return refusal(request, 400, "The event is not as Stripe writes it.", "malformed_body")
        return JsonResponse({"received": True}, status=response.status_code)

    def prove(self, request: HttpRequest, uuid: UUID) -> None:
        """Raises `BadSignature`, `InvalidRequest`, `TooLarge`, or `Http404` where there is no such endpoint."""
        endpoint = find_endpoint(uuid)
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdigit() or int(length) > MAX_BYTES:
            raise TooLarge(f"The request is larger than {MAX_BYTES:,} bytes.")
        verify(request.body, request.headers.get("Stripe-Signature", ""), endpoint.secret)
        event = read_event(request.body)
        make_known(endpoint, str(event.get("account") or ""))


def find_endpoint(uuid: UUID) -> WebhookEndpoint:
    endpoint = WebhookEndpoint.objects.select_related("djstripe_owner_account").filter(djstripe_uuid=uuid).first()
    if endpoint is None or (endpoint.id == DEMO and not settings.DEMO_PAYMENTS):
        raise Http404
    return endpoint


def verify(body: bytes, header: str, secret: str) -> None:
    """Raises `BadSignature`. Stripe's library lets a time in the future pass, dj-stripe what an endpoint is set to."""
    if not secret.strip():
        logger.error("The secret of a Stripe endpoint is empty, so its events cannot be verified")
        raise BadSignature("The desk has no secret for this endpoint: set STRIPE_WEBHOOK_SECRET, or it in the admin.")
    try:
        stripe.WebhookSignature.verify_header(body.decode(), header, secret, TOLERANCE)
    except (stripe.SignatureVerificationError, UnicodeDecodeError, TypeError):  # TypeError: it is not in ASCII
        raise BadSignature("The signature is missing, wrong or too old.") from None
    if time_of(header) > time.time() + TOLERANCE:
        raise BadSignature("The signature is of the future: compare the clocks.")


def time_of(header: str) -> int:
    """When a verified header was signed."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    return int(parts["t"])


def read_event(body: bytes) -> dict[str, Any]:
    """A proved event. Raises `InvalidRequest` where it has not the form that dj-stripe, or PostgreSQL, relies on."""
    try:
        event = json.loads(body)
        json.dumps(event, ensure_ascii=False).encode()  # half of a UTF-16 pair is no text
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not is_well_formed(event) or NUL.search(body):
        raise InvalidRequest("The event is not as Stripe writes it.")
    return event


def is_well_formed(event: dict[str, Any]) -> bool:
    created, account, request = event.get("created", 0), event.get("account"), event.get("request")
    return (
        isinstance(event.get("data"), dict)
        and isinstance(event["data"].get("object"), dict)
        and all(isinstance(event.get(name), str) and len(event[name]) <= LONGEST_ID for name in ("id", "type"))
        and isinstance(event.get("livemode"), bool)
        and (created is None or (type(created) is int and 0 <= created < LAST_SECOND))
        and (account is None or (isinstance(account, str) and len(account) <= LONGEST_ID))
        and (not isinstance(request, dict) or len(str(request.get("id"))) <= LONGEST_REQUEST_ID)
    )


def refusal(request: HttpRequest, status: int, message: str, code: str, **headers: str) -> JsonResponse:
    body = shape(message, code, request.META.get("REQUEST_ID", ""))
    return JsonResponse(body, status=status, headers=headers)
