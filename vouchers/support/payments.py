"""What a timeline tells of the payment."""

from __future__ import annotations

from collections.abc import Iterator

from courses.models import PaymentFact, Purchase
from courses.money import in_words
from vouchers.payments.taking_back import SINGLE_REFUND
from vouchers.support.cases import Case
from vouchers.support.entries import Entry, Log, plural

Kind = PaymentFact.Kind
TONES: dict[str, str] = {
    Kind.PAID: "good",
    Kind.PENDING: "low",
    Kind.DISPUTED: "low",
    Kind.DISPUTE_WON: "good",
    Kind.FAILED: "bad",
    Kind.REFUNDED: "bad",
    Kind.REFUND_FAILED: "bad",
    Kind.DISPUTE_LOST: "bad",
}
WORDS: dict[str, str] = {
    Kind.PAID: "Paid",
    Kind.PENDING: "The payment is on its way",
    Kind.FAILED: "The payment failed",
    Kind.REFUNDED: "Refunded",
    Kind.REFUND_FAILED: "A refund failed",
    Kind.DISPUTED: "The payment is disputed",
    Kind.DISPUTE_WON: "The dispute was won",
    Kind.DISPUTE_LOST: "The dispute was lost",
}


def payment_entries(case: Case, log: Log) -> Iterator[Entry]:
    purchase = case.purchase
    if purchase is None:
        return
    yield _begun(purchase, case.facts)
    for fact in _told_once(case.facts):
        yield _fact(fact, purchase)
    yield from _decisions(purchase, log)


def _begun(purchase: Purchase, facts: list[PaymentFact]) -> Entry:
    """Before anything else of it: providers cut their times to seconds."""
    seats = f"{plural(purchase.quantity, 'seat')} of {purchase.course_id}" if purchase.course_id else "no known course"
    buyer = f" for {purchase.email}" if purchase.email else ""
    began = "Checkout begun" if purchase.began_here else "Payment heard of"
    return Entry(
        at=min([purchase.created_at, *(fact.at for fact in facts)]),
        kind="payment",
        what=f"{began}: {seats}{buyer}",
        detail=purchase.reference,
        who=purchase.get_provider_display(),
    )


def _told_once(facts: list[PaymentFact]) -> list[PaymentFact]:
    """Stripe tells of a refund by itself, and again within the sum of its charge."""
    single = sum(fact.amount for fact in facts if _is_single_refund(fact))
    return [
        fact
        for fact in facts
        if fact.kind != Kind.REFUNDED or _is_single_refund(fact) or not single or fact.amount > single
    ]


def _is_single_refund(fact: PaymentFact) -> bool:
    return fact.kind == Kind.REFUNDED and fact.key.startswith(SINGLE_REFUND)


def _fact(fact: PaymentFact, purchase: Purchase) -> Entry:
    amount = f": {in_words(fact.amount, purchase.currency)}" if fact.amount else ""
    return Entry(
        at=fact.at,
        kind="payment",
        what=f"{WORDS[fact.kind]}{amount}",
        tone=TONES[fact.kind],
        detail=fact.key,
        who=fact.get_provider_display(),
    )


def _decisions(purchase: Purchase, log: Log) -> Iterator[Entry]:
    """What the desk and its staff made of it. The review has no time of its own: it came with the payment."""
    if purchase.review:
        at = max(purchase.created_at, purchase.paid_at or purchase.created_at)
        yield Entry(at=at, kind="payment", what="To be reviewed by staff", tone="low", detail=purchase.review)
    if purchase.reviewed_at:
        accepted = purchase.accepted_at is not None
        who = log.take(purchase, "Accepted after review." if accepted else "Review closed.")
        what = "Accepted after review" if accepted else "Review closed, left as it is"
        yield Entry(at=purchase.reviewed_at, kind="staff", what=what, tone="good" if accepted else "", who=who)
    if purchase.completed_at:
        owed = f"{plural(purchase.quantity, 'voucher')} owed"
        yield Entry(at=purchase.completed_at, kind="payment", what=f"Payment found good, {owed}", tone="good")
