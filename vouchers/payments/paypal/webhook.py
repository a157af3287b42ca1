"""PayPal's webhook: the event says that something happened and to what, and PayPal, asked, says what it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from courses.models import PaymentFact
from vouchers.api.base import DeskView
from vouchers.errors import InvalidRequest, NotConfirmed, TooLarge
from vouchers.payments import settling
from vouchers.payments.facts import text_of
from vouchers.payments.paypal.api import facts_of_payment, fetch_capture, fetch_dispute, fetch_refund
from vouchers.payments.paypal.client import Tree
from vouchers.payments.paypal.events import capture_of, facts_of_dispute, facts_of_refund, facts_of_reversal
from vouchers.payments.paypal.signature import verify

Event = Mapping[str, Any]
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@extend_schema(exclude=True)
class PayPalWebhook(DeskView):
    """By signature alone. An event of a type that does not concern us is answered 200, and nothing is done."""

    authentication_classes = []
    anonymous = True
    max_bytes = 256 * 1024

    def post(self, request: Request) -> Response:
        body = request._request.body
        if len(body) > self.max_bytes:
            raise TooLarge(f"The request is larger than {self.max_bytes:,} bytes.")
        verify(request.headers, body)
        event = _event(body)
        facts_of = FACTS.get(text_of(event, "event_type"))
        if facts_of and (facts := facts_of(event)):
            settling.record(facts)
        return Response({"received": True})


def _event(body: bytes) -> Event:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise InvalidRequest("The body is no event of PayPal's.")
    return event


def _of_capture(event: Event) -> list[PaymentFact]:
    return facts_of_payment(_confirmed(fetch_capture(_id_in(event, "id"))), _source(event))


def _of_refund(event: Event) -> list[PaymentFact]:
    return facts_of_refund(_confirmed(fetch_refund(_id_in(event, "id"))), _source(event))


def _of_reversal(event: Event) -> list[PaymentFact]:
    """PayPal sends it with the payment, or with a refund that it made itself.

    Such a refund is not always to be fetched, but the payment it names is.
    """
    resource_id = _id_in(event, "id")
    if text_of(event, "resource_type") != "refund":
        return facts_of_reversal(_confirmed(fetch_capture(resource_id)), _source(event))
    if refund := fetch_refund(resource_id):
        return facts_of_refund(refund, _source(event))
    capture_id = _checked(capture_of(event["resource"]))
    return facts_of_reversal(_confirmed(fetch_capture(capture_id)), _source(event))


def _of_dispute(event: Event) -> list[PaymentFact]:
    return facts_of_dispute(_confirmed(fetch_dispute(_id_in(event, "dispute_id"))), _source(event))


# The type of an event only says what to ask for; PENDING may have become COMPLETED meanwhile, and is then that.
FACTS: dict[str, Callable[[Event], list[PaymentFact]]] = {
    "PAYMENT.CAPTURE.COMPLETED": _of_capture,
    "PAYMENT.CAPTURE.PENDING": _of_capture,
    "PAYMENT.CAPTURE.DENIED": _of_capture,
    "PAYMENT.CAPTURE.DECLINED": _of_capture,
    "PAYMENT.CAPTURE.REFUNDED": _of_refund,
    "PAYMENT.CAPTURE.REVERSED": _of_reversal,
    "PAYMENT.REFUND.PENDING": _of_refund,
    "PAYMENT.REFUND.FAILED": _of_refund,
    "CUSTOMER.DISPUTE.CREATED": _of_dispute,
    "CUSTOMER.DISPUTE.UPDATED": _of_dispute,
    "CUSTOMER.DISPUTE.RESOLVED": _of_dispute,
}


def _id_in(event: Event, name: str) -> str:
    """The id of what an event is about."""
    return _checked(text_of(event, "resource", name))


def _checked(resource_id: str) -> str:
    """It becomes a part of an address at PayPal, and so is to be an id and nothing else."""
    if not ID.fullmatch(resource_id):
        raise NotConfirmed("The event does not say what it is about.")
    return resource_id


def _confirmed(found: Tree) -> Tree:
    if not found:
        raise NotConfirmed("PayPal, asked, does not know what this event is about. Nothing was done.")
    return found


def _source(event: Event) -> str:
    return text_of(event, "id") or "webhook"
