"""Stripe as it speaks to us: recorded forms of its objects, in events that are signed with its scheme."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any

from django.test import Client

from vouchers.payments.stripe.endpoint import address_of, endpoint_of_secret

SECRET = "whsec_" + "s" * 32  # of the tests' own endpoint
KEY = "sk_test_" + "k" * 24
numbers = itertools.count(1)


def signature(body: str, secret: str = SECRET, at: float | None = None) -> str:
    when = int(time.time() if at is None else at)
    return f"t={when},v1={hmac.new(secret.encode(), f'{when}.{body}'.encode(), hashlib.sha256).hexdigest()}"


def event(kind: str, thing: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": f"evt_{next(numbers):024}",
        "object": "event",
        "api_version": "2026-05-27.dahlia",
        "created": int(time.time()),
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    } | more


@dataclass
class Payment:
    """One payment, and what Stripe says of it; amounts in cents."""

    amount: int = 4900
    quantity: int = 1
    course: str | None = "JS101"
    email: str | None = "ann@example.com"
    currency: str = "usd"
    number: int = field(default_factory=lambda: next(numbers))

    @property
    def intent_id(self) -> str:
        return f"pi_{self.number:024}"

    @property
    def session_id(self) -> str:
        return f"cs_test_{self.number:024}"

    @property
    def metadata(self) -> dict[str, str]:
        given = {"courseId": self.course, "email": self.email, "quantity": str(self.quantity)}
        return {name: value for name, value in given.items() if value is not None}

    def session(self, **more: Any) -> dict[str, Any]:
        return {
            "id": self.session_id,
            "object": "checkout.session",
            "amount_subtotal": self.amount,
            "amount_total": self.amount,
            "currency": self.currency,
            "customer_details": {"email": "details@example.com", "name": "Ann"},
            "customer_email": None,
            "livemode": False,
            "metadata": self.metadata,
            "mode": "payment",
            "payment_intent": self.intent_id,
            "payment_status": "paid",
            "status": "complete",
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        } | more

    def intent(self, **more: Any) -> dict[str, Any]:
        return {
            "id": self.intent_id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_received": self.amount,
            "currency": self.currency,
            "latest_charge": f"ch_{self.number:024}",
            "livemode": False,
            "metadata": self.metadata,
            "receipt_email": None,
            "status": "succeeded",
        } | more

    def charge(self, refunded: int, **more: Any) -> dict[str, Any]:
        return {
            "id": f"ch_{self.number:024}",
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount,
            "amount_refunded": refunded,
            "currency": self.currency,
            "payment_intent": self.intent_id,
            "refunded": refunded == self.amount,
            "status": "succeeded",
        } | more

    def refund(self, amount: int, name: str = "re_1", **more: Any) -> dict[str, Any]:
        return {
            "id": f"{name}_{self.number}",
            "object": "refund",
            "amount": amount,
            "charge": f"ch_{self.number:024}",
            "currency": self.currency,
            "payment_intent": self.intent_id,
            "status": "succeeded",
        } | more

    def dispute(self, status: str = "needs_response", name: str = "dp_1", **more: Any) -> dict[str, Any]:
        return {
            "id": f"{name}_{self.number}",
            "object": "dispute",
            "amount": self.amount,
            "charge": f"ch_{self.number:024}",
            "currency": self.currency,
            "payment_intent": self.intent_id,
            "reason": "fraudulent",
            "status": status,
        } | more

    # What a story of this payment consists of.

    def completed(self, **more: Any) -> dict[str, Any]:
        return event("checkout.session.completed", self.session(**more))

    def completed_unpaid(self) -> dict[str, Any]:
        return event("checkout.session.completed", self.session(payment_status="unpaid"))

    def paid_later(self) -> dict[str, Any]:
        return event("checkout.session.async_payment_succeeded", self.session())

    def failed_later(self) -> dict[str, Any]:
        return event("checkout.session.async_payment_failed", self.session(payment_status="unpaid"))

    def refunded(self, amount: int) -> dict[str, Any]:
        return event("charge.refunded", self.charge(amount))

    def disputed(self) -> dict[str, Any]:
        return event("charge.dispute.created", self.dispute())

    def dispute_ended(self, status: str) -> dict[str, Any]:
        return event("charge.dispute.closed", self.dispute(status))


def webhook_path(secret: str = SECRET) -> str:
    return address_of(endpoint_of_secret(secret))


def post(told: dict[str, Any] | str, *, header: str | None = None, path: str = "") -> Any:
    """Posts an event as Stripe does; `header` is its signature if it is to be another than the right one."""
    body = told if isinstance(told, str) else json.dumps(told)
    return Client(enforce_csrf_checks=True).post(
        path or webhook_path(),
        body,
        content_type="application/json; charset=utf-8",
        headers={"Stripe-Signature": signature(body) if header is None else header} if header != "" else {},
    )


def tell(*events: dict[str, Any]) -> None:
    """Posts events that are all to be taken."""
    for told in events:
        answer = post(told)
        assert answer.status_code == 200, answer.content
