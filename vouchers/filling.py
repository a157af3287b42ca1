"""The queue of buyers who wait for codes: filled from the pool, oldest first."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from courses.models import Course
from vouchers.delivery.outbox import queue_emails
from vouchers.locks import lock_names, try_lock_name
from vouchers.models import Issuance, Voucher
from vouchers.outgoing.announcing import announce_issued

FILL_AT_ONCE = 500


@transaction.atomic
def fill_waiting(course: Course, *, wait: bool = False) -> int:
    """Gives the queue of a course what the pool has, oldest first; returns how many were filled.

    One at a time for each course, so that nobody is filled before an older one whose row is locked. Where
    another transaction is at it, this one waits for it, or leaves it to that one and to the sweeper.
    """
    filled = 0
    # A long import read the course minutes ago, and staff may have raised its minimum validity since.
    course = Course.objects.get(pk=course.pk)
    if not Voucher.objects.pool(course).exists():
        return filled
    if wait:
        lock_names(f"queue {course.pk}")
    elif not try_lock_name(f"queue {course.pk}"):
        return filled
    while True:
        waiting = list(
            Issuance.objects.waiting(course).select_for_update(of=("self",)).select_related("purchase")[:FILL_AT_ONCE]
        )
        vouchers = Voucher.objects.lock_some(course, len(waiting)) if waiting else []
        _bind(course, waiting, vouchers)
        filled += len(vouchers)
        if len(vouchers) < FILL_AT_ONCE:
            return filled


def _bind(course: Course, waiting: list[Issuance], vouchers: list[Voucher]) -> None:
    now = timezone.now()
    pairs = list(zip(waiting, vouchers, strict=False))
    for issuance, voucher in pairs:
        voucher.status, voucher.issued_to, voucher.issued_at = Voucher.Status.ISSUED, issuance.email, now
        issuance.status, issuance.voucher, issuance.issued_at = Issuance.Status.ISSUED, voucher, now
    Voucher.objects.bulk_update(vouchers, ["status", "issued_to", "issued_at"])
    filled = [issuance for issuance, _ in pairs]
    Issuance.objects.bulk_update(filled, ["status", "voucher", "issued_at"])
    queue_emails(course, filled)
    announce_issued(filled)


def sweep_waiting() -> int:
    """Fills every queue whose pool has something; returns how many issuances were filled."""
    courses = Course.objects.filter(issuances__status=Issuance.Status.WAITING, issuances__held_since=None).distinct()
    return sum(fill_waiting(course) for course in courses)
