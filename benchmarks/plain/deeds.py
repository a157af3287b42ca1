"""The plain implementation, as a competent developer would write it in an afternoon: `bulk_create`, and a lock on the
next free row, for which everybody else waits."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection, transaction
from django.utils import timezone

from benchmarks.plain.models import Course, Voucher

COURSE = "JS101"


class PoolEmpty(Exception):
    """No voucher of the course is left."""


def prepare() -> None:
    with connection.schema_editor() as schema:
        schema.create_model(Course)
        schema.create_model(Voucher)
    Course.objects.create(id=COURSE, name="JavaScript Basics")


def store(codes: Iterable[str]) -> None:
    Voucher.objects.bulk_create((Voucher(course_id=COURSE, code=code) for code in codes), ignore_conflicts=True)


@transaction.atomic
def issue(email: str) -> None:
    free = Voucher.objects.select_for_update().filter(course_id=COURSE, issued_at=None)
    voucher = free.order_by("id").first()
    if voucher is None:
        raise PoolEmpty
    voucher.issued_to = email
    voucher.issued_at = timezone.now()
    voucher.save(update_fields=["issued_to", "issued_at"])
