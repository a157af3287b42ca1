"""What the desk asks of Stripe: checkouts, refunds, and what happened lately."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import stripe
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext
from djstripe.models import APIKey

from courses.models import PaymentFact, Purchase
from courses.money import to_coins
from vouchers.errors import ProviderRefused, ProviderUnreachable
from vouchers.payments.orders import Order, Started
from vouchers.payments.stripe import events
from vouchers.payments.stripe.endpoint import OWN_ACCOUNT, is_own_account
from vouchers.payments.stripe.events import Told

logger = logging.getLogger(__name__)

TIMEOUT = 10  # seconds
RETRIES = 1
RECONCILIATION = "reconciliation"


class Stripe:
    name = Purchase.Provider.STRIPE

    def is_ready(self) -> bool:
        return bool(secret_key())

    def start(self, order: Order) -> Started:
        line: Any = {
            "quantity": order.quantity,
            "price_data": {
                "currency": order.course.currency,
                "unit_amount": to_coins(order.unit_price, order.course.currency),
                "product_data": {"name": order.course.name},
            },
        }
        asked: Any = {
            "mode": "payment",
            "line_items": [line],
            "customer_email": order.email,
            "client_reference_id": str(order.purchase_id),
            "metadata": {
                "courseId": order.course.pk,
                "email": order.email,
                "quantity": str(order.quantity),
                "purchaseId": str(order.purchase_id),
            },
            "success_url": order.success_url,
            "cancel_url": order.cancel_url,
        }
        if order.language:
            asked["locale"] = asked["metadata"]["language"] = order.language
        with refusals_in_our_words():
            session = client().v1.checkout.sessions.create(asked, {"idempotency_key": f"checkout {order.purchase_id}"})
        return Started(session.id, session.url or "")

    def refund(self, purchase: Purchase, amount: Decimal, key: str) -> None:
        with refusals_in_our_words():
            client().v1.refunds.create(
                {"payment_intent": purchase.reference, "amount": to_coins(amount, purchase.currency)},
                {"idempotency_key": key},
            )

    def missed(self, since: dt.datetime) -> Iterator[list[PaymentFact]]:
        created: Any = {"gte": int(since.timestamp())}
        with refusals_in_our_words():
            v1 = client().v1
            for session in v1.checkout.sessions.list({"created": created, "limit": 100}).auto_paging_iter():
                yield _facts_of_session(_plain(session))
            intents = v1.payment_intents.list({"created": created, "limit": 100, "expand": ["data.latest_charge"]})
            for intent in intents.auto_paging_iter():
                yield _facts_of_intent(_plain(intent))
        yield from _told_lately(created)


def secret_key() -> str:
    """From the environment, else from dj-stripe's admin; empty where there is none."""
    if settings.STRIPE_SECRET_KEY:
        return settings.STRIPE_SECRET_KEY
    kept = APIKey.objects.filter(type__in=["secret", "restricted"]).exclude(djstripe_owner_account__id=OWN_ACCOUNT)
    return kept.values_list("secret", flat=True).first() or ""


def takes_real_money() -> bool | None:
    """By the mode of the key; None where there is no key, and so no telling."""
    key = secret_key()
    return "_live_" in key if key else None


def client() -> stripe.StripeClient:
    address = getattr(settings, "STRIPE_API_HOST", "")
    return stripe.StripeClient(
        secret_key(),
        base_addresses={"api": address} if address else {},
        http_client=stripe.RequestsClient(timeout=TIMEOUT),
        max_network_retries=RETRIES,
    )


@contextmanager
def refusals_in_our_words() -> Iterator[None]:
    try:
        yield
    except (stripe.InvalidRequestError, stripe.PermissionError) as error:
        logger.warning("Stripe refused", extra={"event": {"code": error.code}})
        reason = error.user_message or error.code or gettext("it gave no reason")
        raise ProviderRefused(gettext("Stripe refused: %(reason)s") % {"reason": reason}) from error
    except stripe.StripeError as error:
        logger.warning("Stripe did not answer", extra={"event": {"error": type(error).__name__}})
        raise ProviderUnreachable("Stripe") from error


def _told_lately(created: Any) -> Iterator[list[PaymentFact]]:
    """What Stripe has told lately, also of older payments: a refund, the end of a dispute, a transfer that took long.
    A restricted key may not be permitted to ask for it."""
    try:
        with refusals_in_our_words():
            asked = client().v1.events.list({"created": created, "limit": 100, "types": [*events.CONCERNS]})
            for event in asked.auto_paging_iter():
                found = _plain(event)
                account = str(found.get("account") or "")
                told = _told(found, account="" if is_own_account(account) else account)
                yield events.facts_of(found["type"], found["data"]["object"], told)
    except ProviderRefused as error:
        logger.warning("Stripe did not say what it told", extra={"event": {"why": error.message}})


def _facts_of_session(session: dict[str, Any]) -> list[PaymentFact]:
    """What the webhooks of a checkout would have told."""
    told = _told(session)
    if session.get("payment_status") == "paid":
        return events.session_paid(session, told)
    return events.session_completed(session, told) if session.get("status") == "complete" else []


def _facts_of_intent(intent: dict[str, Any]) -> list[PaymentFact]:
    told = _told(intent)
    facts = events.intent_paid(intent, told) if intent.get("status") == "succeeded" else []
    charge = intent.get("latest_charge")
    return facts + (events.charge_refunded(charge, told) if isinstance(charge, dict) else [])


def _told(thing: dict[str, Any], account: str = "") -> Told:
    created = thing.get("created")
    at = dt.datetime.fromtimestamp(created, dt.UTC) if isinstance(created, int) else timezone.now()
    return Told(source=RECONCILIATION, at=at, live=thing.get("livemode"), account=account)


def _plain(thing: stripe.StripeObject) -> dict[str, Any]:
    return dict(thing.to_dict())
