"""How far a purchase is, as its buyer may know it: no code, and nothing of anybody else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.db.models import F

from courses.models import Purchase
from vouchers.errors import PurchaseNotFound
from vouchers.models import Delivery, Issuance, Voucher

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
STATUSES = [
    ("pending", "Waiting for the payment"),
    ("failed", "The payment failed"),
    ("review", "The payment is being looked at"),
    ("paid", "Paid"),
    ("waiting", "Waiting for codes"),
    ("issued", "Issued"),
    ("disputed", "On hold: the payment is disputed"),
    ("refunded", "Refunded"),
]


@dataclass(frozen=True)
class Progress:
    """`issued` and `waiting` count seats, `sent` those whose email the mail server took, `unsent` those whose emails
    all failed for good or came back. `position` is the place of the first waiting seat in the queue, from 1; None where
    none waits. `email` is where the emails go: to who holds the seats, once an address was corrected, else to who
    bought."""

    status: str
    issued: int
    waiting: int
    sent: int
    unsent: int
    position: int | None
    email: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself that the buyer is to be shown."""
        if self.status == "issued":
            return self.sent + self.unsent >= self.issued
        return self.status in ("failed", "refunded", "paid")


def find_purchase(token: str) -> Purchase:
    """Raises `PurchaseNotFound`."""
    purchase = None
    if TOKEN.fullmatch(token):
        purchase = Purchase.objects.select_related("course").filter(token=token).first()
    if purchase is None:
        raise PurchaseNotFound
    return purchase


def progress_of(purchase: Purchase) -> Progress:
    seats = list(Issuance.objects.select_related("voucher", "course").filter(purchase=purchase).order_by("unit"))
    waiting = [seat for seat in seats if seat.status == Issuance.Status.WAITING]
    issued = [seat for seat in seats if _holds(seat)]
    sent, failed = _emailed(issued)
    return Progress(
        status=_status(purchase, issued, waiting),
        issued=len(issued),
        waiting=len(waiting),
        sent=len(sent),
        unsent=len(failed - sent),
        position=waiting[0].position or None if waiting else None,
        email=_holder(seats) or purchase.email,
    )


def _holder(seats: list[Issuance]) -> str:
    """Empty where several share the seats, or nobody has one."""
    emails = {seat.email for seat in seats}
    return emails.pop() if len(emails) == 1 else ""


def _holds(seat: Issuance) -> bool:
    return (
        seat.status == Issuance.Status.ISSUED
        and seat.voucher is not None
        and seat.voucher.status != Voucher.Status.REVOKED
    )


def _emailed(seats: list[Issuance]) -> tuple[set[int], set[int]]:
    """The seats of which an email was sent, and those of which every email failed for good or came back."""
    sent: set[int] = set()
    lost: set[int] = set()
    on_its_way: set[int] = set()
    brings = Delivery.objects.filter(issuance__in=seats, kind=Delivery.Kind.VOUCHER, email=F("issuance__email"))
    for delivery in brings:
        if delivery.state in Delivery.LOST:
            lost.add(delivery.issuance_id or 0)
        elif delivery.status == Delivery.Status.SENT:
            sent.add(delivery.issuance_id or 0)
        else:
            on_its_way.add(delivery.issuance_id or 0)
    return sent, lost - sent - on_its_way


def _status(purchase: Purchase, issued: list[Issuance], waiting: list[Issuance]) -> str:
    if not purchase.paid_at:
        return "failed" if purchase.failed_at else "pending"
    if purchase.provider == Purchase.Provider.VOUCHER:
        return "paid"
    if purchase.refunded_amount and not issued and not waiting:
        return "refunded"
    if not purchase.completed_at:
        return "review"
    if purchase.disputed_at:
        return "disputed"
    if waiting:
        return "waiting"
    return "issued" if issued else "paid"
