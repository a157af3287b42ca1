"""Courses with many vouchers, stored fast: with every trigger on, and without the indexes that only searches need."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django.db import connection
from django.utils import timezone

from courses.models import Course
from vouchers.models import Batch

# A fifth never expires, the others do so in three months, six, nine or a year.
STORE = """
INSERT INTO vouchers_voucher
    (code, course_id, batch_id, position, status, expires_on, issued_to, revoked_reason, note)
SELECT format('%%s-%%s', %(course)s, to_hex(2147483647::bigint * n %% 4294967296)), %(course)s, %(batch)s,
    %(batch)s * 4294967296 + n, 'available', nullif(%(today)s + (n %% 5 * 90)::int, %(today)s), '', '', ''
FROM generate_series(1, %(number)s::bigint) AS n
"""
# Two of a hundred were issued and revoked since: no issuance needs to be open for them.
REVOKE = """
UPDATE vouchers_voucher SET status = 'revoked', revoked_at = now(), issued_at = now(), issued_to = id || '@example.com'
WHERE position % 50 = 0
"""
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = 'vouchers_voucher'::regclass AND NOT indisprimary
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


def fill(courses: int, vouchers: int) -> None:
    """So many courses, `C000` and on, that share so many vouchers."""
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(INDEXES)
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for number in range(courses):
            cursor.execute(STORE, _part(f"C{number:03}", vouchers // courses, timezone.localdate()))
        cursor.execute(REVOKE)
        for _, definition in indexes:
            cursor.execute(definition)
        cursor.execute("VACUUM ANALYZE")
    print(f"{vouchers:,} vouchers of {courses} courses stored in {time.perf_counter() - started:.0f} s", flush=True)


def _part(name: str, number: int, today: dt.date) -> dict[str, Any]:
    course = Course.objects.create(id=name, name=f"The course {name}")
    batch = Batch.objects.create(
        course=course, actor="bench", source=Batch.Source.COMMAND, read=number, inserted=number
    )
    return {"course": name, "batch": batch.pk, "number": number, "today": today}
