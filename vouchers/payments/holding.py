"""A dispute puts what is not redeemed on hold, and its end releases it; what still waits is not filled meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from courses.models import PaymentFact, Purchase
from vouchers.delivery.outbox import send_postponed
from vouchers.filling import fill_waiting
from vouchers.models import Issuance, Voucher

Kind = PaymentFact.Kind


def open_disputes(facts: Sequence[PaymentFact]) -> list[PaymentFact]:
    ended = {fact.key for fact in facts if fact.kind in (Kind.DISPUTE_WON, Kind.DISPUTE_LOST)}
    return [fact for fact in facts if fact.kind == Kind.DISPUTED and fact.key not in ended]


def hold_or_release(purchase: Purchase) -> None:
    """Brings the vouchers and the waiting seats of a locked purchase to what its disputes say."""
    seats = Issuance.objects.filter(purchase=purchase)
    waiting = seats.filter(status=Issuance.Status.WAITING)
    # Of a seat that was returned the voucher is somebody else's by now.
    issued = seats.filter(status=Issuance.Status.ISSUED)
    vouchers = Voucher.objects.filter(pk__in=list(issued.values_list("voucher", flat=True)))
    if purchase.disputed_at:
        now = timezone.now()
        vouchers.filter(status=Voucher.Status.ISSUED, held_since=None).update(held_since=now)
        waiting.filter(held_since=None).update(held_since=now)
        return
    if vouchers.filter(held_since__isnull=False).update(held_since=None):
        send_postponed(issued)
    if waiting.filter(held_since__isnull=False).update(held_since=None) and purchase.course:
        fill_waiting(purchase.course)
