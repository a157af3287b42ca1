"""Correct the address: what is owed to one email is owed to another one from now on, and is sent there.

Nothing else changes: the same code, the same order, the same request keys. The address before stays in the history.
"""

from __future__ import annotations

from django.db import transaction

from vouchers.delivery.outbox import queue_again, queue_notice_again
from vouchers.errors import NotCorrectable
from vouchers.models import AddressChange, Delivery, Issuance, Voucher


@transaction.atomic
def correct_address(issuance: Issuance, *, email: str, actor: str) -> Delivery | None:
    """Makes `email` the holder and queues an email to it; None where a waiting buyer has no news that could be sent.

    `actor` is who does it, such as `user:7`. Raises `NotCorrectable` for what is redeemed, no longer valid or closed,
    and for an address that is the holder's already.
    """
    locked = Issuance.objects.lock(issuance.pk)
    if locked.email == email:
        raise NotCorrectable(f"Issuance {locked.pk} is owed to this address already. Send its email again instead.")
    if locked.voucher and locked.status == Issuance.Status.ISSUED:
        _move_voucher(locked, locked.voucher, email)
    elif locked.status != Issuance.Status.WAITING:
        raise NotCorrectable(f"Issuance {locked.pk} is {locked.status}: nothing is owed that could be sent elsewhere.")
    AddressChange.objects.create(issuance=locked, old_email=locked.email, new_email=email, actor=actor)
    locked.email = email
    locked.save(update_fields=["email"])
    if locked.voucher_id:
        # A reminder is due once only: one that nobody was offered yet goes to the right address.
        once = Delivery.objects.filter(issuance=locked, kind__in=[Delivery.Kind.REMINDER, Delivery.Kind.EXPIRY])
        once.filter(status=Delivery.Status.QUEUED, attempts=0).update(email=email)
        return queue_again(locked)
    return queue_notice_again(locked.purchase, email) if locked.purchase else None


def _move_voucher(issuance: Issuance, voucher: Voucher, email: str) -> None:
    """A conditional update, because a redemption may be under way: it locks the voucher and not the issuance."""
    if not Voucher.objects.shown_as(Voucher.Status.ISSUED).filter(pk=voucher.pk).update(issued_to=email):
        voucher.refresh_from_db()
        raise NotCorrectable(f"The voucher of issuance {issuance.pk} is {voucher.shown_status}: its holder stays.")
