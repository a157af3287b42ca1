"""Stripe's words into the desk's: which facts an event, or an object that Stripe was asked for, tells.

The reference of a payment is its payment intent; a checkout that has none (nothing to pay) stands for itself. One
payment arrives as several events and objects, and all of them come to the same facts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from courses.models import PaymentFact, Purchase
from courses.money import from_coins
from vouchers.languages import known_language
from vouchers.payments.facts import Claims, text_of

Kind = PaymentFact.Kind
Json = Mapping[str, Any]
MOST_COINS = 10**10  # more than a column of amounts holds, where a coin is a unit
NOT_REFUNDED = {"failed", "canceled"}
# https://docs.stripe.com/api/disputes/object: an inquiry that was closed cost nothing.
DISPUTE_ENDS = {"won": Kind.DISPUTE_WON, "warning_closed": Kind.DISPUTE_WON, "lost": Kind.DISPUTE_LOST}


@dataclass(frozen=True, kw_only=True)
class Told:
    """Who told us, when by Stripe's clock; of which mode and, where it is not the desk's own, of which account."""

    source: str
    at: dt.datetime
    live: bool | None = None
    account: str = ""


def facts_of(kind: str, thing: Json, told: Told) -> list[PaymentFact]:
    """The facts of an event of this type about this object; none where it does not concern us."""
    read = READERS.get(kind)
    return read(thing, told) if read else []


def session_completed(session: Json, told: Told) -> list[PaymentFact]:
    """Completed is not paid: a bank transfer comes days later, by `async_payment_succeeded`."""
    return _session(session, told, Kind.PENDING if session.get("payment_status") == "unpaid" else Kind.PAID)


def session_paid(session: Json, told: Told) -> list[PaymentFact]:
    return _session(session, told, Kind.PAID)


def session_failed(session: Json, told: Told) -> list[PaymentFact]:
    return _session(session, told, Kind.FAILED)


def intent_paid(intent: Json, told: Told) -> list[PaymentFact]:
    """Of a shop that makes its own intents. Every checkout has an intent too, which says nothing of a course."""
    reference, metadata = text_of(intent, "id"), _metadata(intent)
    if not reference or not text_of(metadata, "courseId"):
        return []
    gross = _coins(intent, "amount_received") or _coins(intent, "amount")
    beside = _coins(intent, "amount_details", "tax", "total_tax_amount") + _coins(
        intent, "amount_details", "shipping", "amount"
    )
    claims = _claims(intent, told, email=text_of(intent, "receipt_email"), net=gross - beside, gross=gross)
    return [_fact(Kind.PAID, reference, reference, told, claims=claims)]


def charge_refunded(charge: Json, told: Told) -> list[PaymentFact]:
    """A charge knows the sum of all its refunds."""
    key = text_of(charge, "id")
    reference = _reference(charge) or key
    amount = _amount(charge, "amount_refunded")
    return [_fact(Kind.REFUNDED, reference, key, told, amount)] if key and amount else []


def refund_moved(refund: Json, told: Told) -> list[PaymentFact]:
    key, reference = text_of(refund, "id"), _reference(refund) or _id(refund.get("charge"))
    if not key or not reference:
        return []
    kind = Kind.REFUND_FAILED if text_of(refund, "status") in NOT_REFUNDED else Kind.REFUNDED
    return [_fact(kind, reference, key, told, _amount(refund, "amount"))]


def dispute_opened(dispute: Json, told: Told) -> list[PaymentFact]:
    return _dispute(dispute, told, Kind.DISPUTED)


def dispute_closed(dispute: Json, told: Told) -> list[PaymentFact]:
    end = DISPUTE_ENDS.get(text_of(dispute, "status"))
    return _dispute(dispute, told, end) if end else []


READERS: dict[str, Callable[[Json, Told], list[PaymentFact]]] = {
    "checkout.session.completed": session_completed,
    "checkout.session.async_payment_succeeded": session_paid,
    "checkout.session.async_payment_failed": session_failed,
    "checkout.session.expired": session_failed,
    "payment_intent.succeeded": intent_paid,
    "charge.refunded": charge_refunded,
    "charge.refund.updated": refund_moved,
    "refund.created": refund_moved,
    "refund.updated": refund_moved,
    "refund.failed": refund_moved,
    "charge.dispute.created": dispute_opened,
    "charge.dispute.closed": dispute_closed,
}
CONCERNS = tuple(READERS)


def _session(session: Json, told: Told, kind: PaymentFact.Kind) -> list[PaymentFact]:
    key = text_of(session, "id")
    recurring = (session.get("mode") or "payment") != "payment"
    if not key or (recurring and not text_of(_metadata(session), "courseId")):
        return []
    gross = _coins(session, "amount_total")
    if session.get("amount_subtotal") is None:
        net = gross - _coins(session, "total_details", "amount_tax")
    else:
        net = _coins(session, "amount_subtotal") - _coins(session, "total_details", "amount_discount")
    email = (
        text_of(session, "customer_details", "email")
        or text_of(session, "customer_email")
        or text_of(session, "receipt_email")
    )
    claims = _claims(session, told, email=email, net=net, gross=gross, checkout=key, recurring=recurring)
    return [_fact(kind, _reference(session) or key, key, told, claims=claims)]


def _claims(
    thing: Json, told: Told, *, email: str, net: int, gross: int, checkout: str = "", recurring: bool = False
) -> Claims:
    metadata, currency = _metadata(thing), text_of(thing, "currency").lower()
    return Claims(
        course_id=text_of(metadata, "courseId"),
        email=text_of(metadata, "email") or email,
        quantity=text_of(metadata, "quantity") or "1",
        net=str(from_coins(max(0, net), currency)),
        gross=str(from_coins(gross, currency)),
        currency=currency,
        checkout=checkout,
        account=told.account,
        live=told.live,
        recurring=recurring,
        precise=bool(checkout),
        language=known_language(text_of(metadata, "language")) or known_language(text_of(thing, "locale")),
    )


def _dispute(dispute: Json, told: Told, kind: PaymentFact.Kind) -> list[PaymentFact]:
    key, reference = text_of(dispute, "id"), _reference(dispute) or _id(dispute.get("charge"))
    return [_fact(kind, reference, key, told, _amount(dispute, "amount"))] if key and reference else []


def _fact(
    kind: PaymentFact.Kind,
    reference: str,
    key: str,
    told: Told,
    amount: Decimal = Decimal(0),
    *,
    claims: Claims | None = None,
) -> PaymentFact:
    return PaymentFact(
        provider=Purchase.Provider.STRIPE,
        reference=reference,
        kind=kind,
        key=key,
        amount=claims.gross_amount if claims else amount,
        at=told.at,
        source=told.source,
        claims=claims.as_json() if claims else {},
    )


def _metadata(thing: Json) -> Json:
    metadata = thing.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _reference(thing: Json) -> str:
    return _id(thing.get("payment_intent"))


def _id(given: Any) -> str:
    """Of what may be an id, or the object it names."""
    return text_of(given, "id") if isinstance(given, Mapping) else text_of({"id": given}, "id")


def _amount(thing: Json, name: str) -> Decimal:
    return from_coins(_coins(thing, name), text_of(thing, "currency").lower())


def _coins(thing: Json, *path: str) -> int:
    """A whole number of coins at a path; zero where there is none."""
    found: Any = thing
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if type(found) is int and 0 <= found < MOST_COINS else 0
