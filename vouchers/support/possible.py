"""What can be done about a case now; the services say so once more, under their locks."""

from __future__ import annotations

from courses.models import Purchase
from vouchers.models import Issuance, Voucher
from vouchers.payments.deeds import refundable
from vouchers.support.cases import Case
from vouchers.tombstones import is_tombstone


def can_resend(issuance: Issuance) -> bool:
    sendable = issuance.voucher is not None and issuance.voucher.held_since is None
    return _holds_valid(issuance) and sendable and not is_tombstone(issuance.email)


def can_correct(issuance: Issuance) -> bool:
    return issuance.status == Issuance.Status.WAITING or _holds_valid(issuance)


def can_replace(issuance: Issuance) -> bool:
    voucher = issuance.voucher
    issued = issuance.status == Issuance.Status.ISSUED
    return issued and voucher is not None and voucher.status == Voucher.Status.ISSUED and voucher.held_since is None


def can_revoke(voucher: Voucher) -> bool:
    return voucher.status in Voucher.OPEN


def can_return(case: Case, issuance: Issuance) -> bool:
    """Whether its code was revoked before anybody saw it; the database has the last word (docs/decisions/0001)."""
    voucher = issuance.voucher
    revoked = voucher is not None and voucher.status == Voucher.Status.REVOKED
    if not revoked or issuance.status != Issuance.Status.ISSUED or issuance.seen_at or issuance.told_at:
        return False
    return not any(email.carries_code and email.attempts for email in case.emails_of(issuance))


def can_refund(purchase: Purchase) -> bool:
    paid = purchase.provider != Purchase.Provider.VOUCHER and purchase.paid_at is not None
    return paid and refundable(purchase) > 0


def _holds_valid(issuance: Issuance) -> bool:
    voucher = issuance.voucher
    issued = issuance.status == Issuance.Status.ISSUED
    return issued and voucher is not None and voucher.shown_status == Voucher.Status.ISSUED


def open_seats(issuance: Issuance) -> list[Issuance]:
    """The other seats of its payment that are owed to the same address and could be sent elsewhere, in the order in
    which they are locked."""
    if issuance.purchase_id is None:
        return []
    seats = Issuance.objects.filter(purchase=issuance.purchase_id, email__iexact=issuance.email).exclude(pk=issuance.pk)
    return [seat for seat in seats.select_related("voucher").order_by("pk") if can_correct(seat)]
