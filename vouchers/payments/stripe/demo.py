"""The test payment: without any provider's keys, a checkout of Stripe's form that nobody pays for.

What Stripe would tell us comes from here instead, signed and posted to the very webhook that Stripe would post to.
There is none but on a desk with an embedded database and no keys (`DEMO_PAYMENTS`), which is no production.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import requests
from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext

from courses.models import PaymentFact, Purchase
from courses.money import to_coins
from vouchers.errors import ProviderUnreachable
from vouchers.payments.orders import Order, Started
from vouchers.payments.stripe.api import secret_key
from vouchers.payments.stripe.endpoint import address_of, demo_endpoint

TIMEOUT = 30  # seconds


class Demo:
    name = Purchase.Provider.STRIPE

    def is_ready(self) -> bool:
        return settings.DEMO_PAYMENTS and not secret_key()

    def start(self, order: Order) -> Started:
        checkout = f"cs_test_{secrets.token_hex(12)}"
        return Started(checkout, settings.BASE_URL + reverse("test_payment", args=[checkout]))

    def refund(self, purchase: Purchase, amount: Decimal, key: str) -> None:
        coins = to_coins(purchase.refunded_amount + amount, purchase.currency)
        charge = {
            "object": "charge",
            "id": purchase.reference.replace("pi_", "ch_"),
            "payment_intent": purchase.reference,
            "currency": purchase.currency,
            "amount": to_coins(purchase.amount, purchase.currency),
            "amount_refunded": coins,
        }
        tell("charge.refunded", charge)

    def missed(self, since: dt.datetime) -> Iterator[list[PaymentFact]]:
        return iter(())


def pay(purchase: Purchase) -> None:
    """What Stripe tells once a buyer has paid a checkout. Raises `ProviderUnreachable`."""
    tell("checkout.session.completed", _session(purchase) | {"payment_status": "paid", "status": "complete"})


def give_up(purchase: Purchase) -> None:
    """What Stripe tells of a checkout that is over, and was not paid."""
    tell("checkout.session.expired", _session(purchase) | {"payment_status": "unpaid", "status": "expired"})


def _session(purchase: Purchase) -> dict[str, Any]:
    coins = to_coins(purchase.amount, purchase.currency)
    return {
        "object": "checkout.session",
        "id": purchase.checkout,
        "payment_intent": purchase.checkout.replace("cs_test_", "pi_"),
        "mode": "payment",
        "currency": purchase.currency,
        "amount_subtotal": coins,
        "amount_total": coins,
        "total_details": {"amount_discount": 0, "amount_tax": 0, "amount_shipping": 0},
        "client_reference_id": str(purchase.pk),
        "customer_details": {"email": purchase.email},
        "metadata": {
            "courseId": purchase.course_id,
            "email": purchase.email,
            "quantity": str(purchase.quantity),
            "purchaseId": str(purchase.pk),
            "language": purchase.language,
        },
    }


def tell(kind: str, thing: dict[str, Any]) -> None:
    """Posts an event to our own webhook, signed as Stripe signs. Raises `ProviderUnreachable`."""
    endpoint = demo_endpoint()
    event = {
        "object": "event",
        "id": f"evt_{secrets.token_hex(12)}",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "api_version": "2026-05-27.dahlia",
        "data": {"object": thing},
    }
    body = json.dumps(event)
    headers = {"Stripe-Signature": sign(body, endpoint.secret), "Content-Type": "application/json"}
    try:
        answer = requests.post(settings.BASE_URL + address_of(endpoint), body, headers=headers, timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ProviderUnreachable(gettext("The test payment")) from error


def sign(body: str, secret: str) -> str:
    """Stripe's scheme: https://docs.stripe.com/webhooks#verify-manually"""
    now = int(time.time())
    signature = hmac.new(secret.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={now},v1={signature}"
