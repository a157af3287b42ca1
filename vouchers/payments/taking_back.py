"""Refunds and lost disputes take seats back: those never issued first, then waiting ones, then unredeemed ones.

The rules are those at the end of the promises: whole units, the refunded amount divided by the price of a seat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from courses.models import PaymentFact, Purchase
from courses.money import seats_for
from vouchers.errors import NotRevocable
from vouchers.models import Issuance, Voucher
from vouchers.revoking import REFUNDED, revoke_voucher

Kind = PaymentFact.Kind
SINGLE_REFUND = ("re_", "pyr_")  # Stripe's ids of refunds; under a charge's id stands the sum of its refunds


@dataclass(frozen=True)
class Taken:
    """`never_issued` seats get no voucher any more; `lacking` ones were redeemed before they could be taken back."""

    never_issued: int
    lacking: int

    @property
    def lacking_in_words(self) -> str:
        what = "a voucher" if self.lacking == 1 else f"{self.lacking} vouchers"
        return f"Refunded, or lost to a dispute, after {what} of it had been redeemed."


def amount_taken_back(facts: Sequence[PaymentFact]) -> Decimal:
    """All that went back to the buyer, in major units.

    A refund that failed after all is none. Stripe tells of a refund twice, by itself and in its charge; either may be
    missing, so the larger sum is right. A dispute that PayPal decides for the buyer is a refund there too; Stripe takes
    it beside all refunds.
    """
    refunds = [fact for fact in facts if fact.kind == Kind.REFUNDED]
    failed = {fact.key: fact.amount for fact in facts if fact.kind == Kind.REFUND_FAILED}
    good = [fact for fact in refunds if fact.key not in failed]
    single = sum((fact.amount for fact in good if fact.key.startswith(SINGLE_REFUND)), Decimal(0))
    summed = sum((fact.amount for fact in good if not fact.key.startswith(SINGLE_REFUND)), Decimal(0))
    summed = max(Decimal(0), summed - sum(amount for key, amount in failed.items() if key.startswith(SINGLE_REFUND)))
    disputed = {fact.key: fact.amount for fact in facts if fact.kind == Kind.DISPUTED}
    lost = (fact.amount or disputed.get(fact.key, Decimal(0)) for fact in facts if fact.kind == Kind.DISPUTE_LOST)
    refunded, lost_amount = max(single, summed), sum(lost, Decimal(0))
    if any(fact.provider == Purchase.Provider.PAYPAL for fact in facts):
        return max(refunded, lost_amount)
    return refunded + lost_amount


def seats_taken_back(purchase: Purchase) -> int:
    return seats_for(purchase.refunded_amount, purchase.amount, purchase.quantity, purchase.currency)


def take_back(purchase: Purchase, unissued: int) -> Taken:
    """Takes back the seats that the refunded amount stands for; of a locked purchase, `unissued` of whose seats have
    neither a voucher nor a place in the queue."""
    seats = _locked_seats(purchase)
    refunded, closed = sum(map(_is_refunded, seats)), sum(map(_is_closed, seats))
    due = max(0, seats_taken_back(purchase) - refunded)
    never_issued = min(due, unissued)
    # Not before: what staff give up later must not bring back a seat that was refunded before it was issued.
    due = max(0, due - never_issued - (closed - refunded))
    for seat in sorted(filter(_is_open, seats), key=lambda seat: seat.status != Issuance.Status.WAITING):
        if due and _take(seat):
            due -= 1
    return Taken(never_issued, due)


def _locked_seats(purchase: Purchase) -> list[Issuance]:
    """The last one first. Locked before they are read: the queue may be filling one of them just now."""
    seats = Issuance.objects.filter(purchase=purchase)
    locked = list(seats.select_for_update().order_by("pk").values_list("pk", flat=True))
    return list(Issuance.objects.select_related("voucher").filter(pk__in=locked).order_by("-unit"))


def _is_closed(seat: Issuance) -> bool:
    """Taken back already, or given up by staff for another reason: the money for it is what comes back now."""
    revoked = seat.voucher is not None and seat.voucher.status == Voucher.Status.REVOKED
    return revoked or seat.status in Issuance.CLOSED


def _is_refunded(seat: Issuance) -> bool:
    """Taken back by a refund or a lost dispute, and not by staff."""
    if seat.voucher is None or seat.status != Issuance.Status.ISSUED:
        return seat.status == Issuance.Status.CANCELLED
    return seat.voucher.status == Voucher.Status.REVOKED and seat.voucher.revoked_reason == REFUNDED


def _is_open(seat: Issuance) -> bool:
    return not _is_closed(seat)


def _take(seat: Issuance) -> bool:
    if seat.voucher is None:
        Issuance.objects.filter(pk=seat.pk).update(status=Issuance.Status.CANCELLED)
        return True
    try:
        revoke_voucher(seat.voucher, reason=REFUNDED)
    except NotRevocable:
        return False
    return True
