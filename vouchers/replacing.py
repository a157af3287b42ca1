"""Replace: a voucher is revoked, and the same buyer gets another code of the same course in its place."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from courses.models import Course
from vouchers.delivery.outbox import queue_again
from vouchers.errors import NotReplaceable, NotRevocable
from vouchers.issuing import LAST_CODE_SECONDS
from vouchers.locks import LockTimeout, limit_lock_wait, lock_timeout_as_error
from vouchers.models import Issuance, Replacement, Voucher
from vouchers.outgoing.announcing import announce_issued
from vouchers.revoking import revoke_voucher


@transaction.atomic
def replace_voucher(issuance: Issuance, *, reason: str, actor: str) -> Voucher:
    """Revokes the voucher of an issuance, gives it the next code of the pool and queues its email; returns the new one.

    What is owed stays the same issuance, so that its order and its payment lead to the new code. `actor` is who does
    it, such as `user:7`. Raises `NotReplaceable` for what is redeemed, revoked, on hold or not issued, and where the
    pool is empty; then nothing is changed.
    """
    locked = Issuance.objects.lock(issuance.pk)
    old = locked.voucher
    if old is None or locked.status != Issuance.Status.ISSUED:
        raise NotReplaceable(f"Issuance {locked.pk} is {locked.status}: it holds no voucher to be replaced.")
    if old.held_since:
        raise NotReplaceable(f"The voucher of issuance {locked.pk} is on hold: its payment is disputed.")
    new = _take_next(locked.course)
    if new is None:
        raise NotReplaceable(f"The pool of {locked.course_id} is empty. Upload codes, then replace it.")
    _revoke(locked, old, reason)
    Replacement.objects.create(
        issuance=locked, voucher=old, reason=reason, actor=actor, seen_at=locked.seen_at, told_at=locked.told_at
    )
    Voucher.objects.filter(pk=new.pk).update(
        status=Voucher.Status.ISSUED, issued_to=locked.email, issued_at=timezone.now()
    )
    new.refresh_from_db()
    # Of the new code nobody has seen anything yet.
    locked.voucher, locked.seen_at, locked.told_at = new, None, None
    locked.save(update_fields=["voucher", "seen_at", "told_at"])
    queue_again(locked)
    announce_issued([locked])
    return new


def _take_next(course: Course) -> Voucher | None:
    """The next code of the pool, locked; others' last codes are waited for as when one is issued."""
    voucher = Voucher.objects.lock_next(course)
    if voucher:
        return voucher
    try:
        with lock_timeout_as_error(), transaction.atomic():
            limit_lock_wait(LAST_CODE_SECONDS)
            return Voucher.objects.lock_next_waiting(course)
    except LockTimeout:
        return None


def _revoke(issuance: Issuance, old: Voucher, reason: str) -> None:
    try:
        revoke_voucher(old, reason=f"Replaced: {reason}"[:300])
    except NotRevocable as refusal:
        raise NotReplaceable(f"The voucher of issuance {issuance.pk} cannot be replaced: {refusal.message}") from None
