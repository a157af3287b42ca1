"""How many vouchers there are of each kind, as a sum of what ever changed."""

from __future__ import annotations

from django.db import models

from courses.models import Course
from vouchers.models.voucher import Voucher


class Tally(models.Model):
    """So many vouchers more, or fewer, of a course, a status and a last day. Triggers on vouchers write these rows,
    nothing changes them, and only their sum means something (docs/decisions/0020).

    No key of the database leads to the course: to look it up would lock its row at every issue.
    """

    course = models.ForeignKey(
        Course, on_delete=models.DO_NOTHING, related_name="tallies", db_constraint=False, db_index=False
    )
    status = models.CharField(max_length=9, choices=Voucher.Status.choices)
    was_issued = models.BooleanField(help_text="Whether it ever left the pool to a holder.")
    valid_until = models.DateField()
    number = models.IntegerField()

    class Meta:
        verbose_name_plural = "tallies"

    def __str__(self) -> str:
        return f"Tally {self.pk}"
