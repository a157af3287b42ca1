"""Whether nobody waits for what is there."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from courses.models import Course
from vouchers.doctor.check import HealableCheck, Row
from vouchers.filling import fill_waiting


class QueuesMove(HealableCheck):
    name = "queues_move"
    title = "Nobody waits while the pool has a code"
    # Of vouchers and buyers that have both been there for a minute: the sweeper comes every two seconds.
    breaks = """
        SELECT c.id AS key, q.waiting
        FROM courses_course c JOIN (
            SELECT course_id, count(*) AS waiting FROM vouchers_issuance
            WHERE status = 'waiting' AND held_since IS NULL AND created_at < now() - interval '1 minute'
            GROUP BY course_id
        ) AS q ON q.course_id = c.id
        WHERE EXISTS (
            SELECT FROM vouchers_voucher v JOIN vouchers_batch b ON b.id = v.batch_id
            WHERE v.course_id = c.id AND v.status = 'available' AND v.valid_until >= %s + c.minimum_validity_days
                AND b.created_at < now() - interval '1 minute'
        )
    """
    sentence = "Course {key}: {waiting} wait although the pool has a code."
    advice = "Start a worker, or look into the log of the one that runs: any would have filled the queue."

    def statement(self) -> tuple[str, list[Any]]:
        return self.breaks, [timezone.localdate()]

    def mend(self, row: Row) -> None:
        fill_waiting(Course.objects.get(pk=row["key"]), wait=True)
