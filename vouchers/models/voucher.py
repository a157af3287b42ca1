"""One code of one course, and the sets of them that the services speak of."""

from __future__ import annotations

import datetime as dt
from typing import Self

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Upper
from django.utils import timezone

from courses.models import Course
from vouchers.codes import STORED_FORM
from vouchers.models.batch import Batch

FOREVER = dt.date.max


class VoucherQuerySet(models.QuerySet["Voucher"]):
    def with_code(self, code: str) -> Self:
        """The voucher of a cleaned code; `iexact` is what the unique index serves."""
        return self.filter(code__iexact=code)

    def held_by(self, email: str) -> Self:
        """Vouchers of a holder; the index leaves out the pool, so the filter says that too."""
        return self.filter(issued_to__iexact=email).exclude(issued_to="")

    def pool(self, course: Course) -> Self:
        """What can be issued now, in the order in which it is issued: soonest expiry, then order of upload.

        Filter and order are those of the index `voucher_pool`, column for column; nothing else serves them
        (docs/decisions/0003).
        """
        return self.filter(
            course=course, status=Voucher.Status.AVAILABLE, valid_until__gte=course_cutoff(course)
        ).order_by("valid_until", "position")

    def lock_next(self, course: Course) -> Voucher | None:
        """Takes the next code that no other transaction is looking at; None says nothing about locked ones."""
        return self.pool(course).select_for_update(skip_locked=True).first()

    def lock_next_waiting(self, course: Course) -> Voucher | None:
        """The same, but waits for whoever holds the last codes: their transaction may yet roll back."""
        voucher = self.pool(course).select_for_update().first()
        # Midnight may have come meanwhile, and PostgreSQL looks again with the day it was asked with.
        return voucher if voucher and voucher.valid_until >= course_cutoff(course) else None

    def lock_some(self, course: Course, number: int) -> list[Voucher]:
        return list(self.pool(course).select_for_update(skip_locked=True)[:number])

    def redeemable(self) -> Self:
        return self.filter(status__in=Voucher.OPEN, valid_until__gte=timezone.localdate(), held_since=None)

    def revocable(self) -> Self:
        return self.filter(status__in=Voucher.OPEN)

    def shown_as(self, status: str) -> Self:
        """Vouchers by the status that people see, in which `expired` is a matter of today's date."""
        today = timezone.localdate()
        if status == Voucher.EXPIRED:
            return self.filter(status__in=Voucher.OPEN, valid_until__lt=today)
        if status in Voucher.OPEN:
            return self.filter(status=status, valid_until__gte=today)
        return self.filter(status=status)


class Voucher(models.Model):
    """A code; its surrogate key goes into URLs and logs, the code never does.

    The database refuses every move between statuses but the legal ones (migration 0002).
    """

    class Status(models.TextChoices):
        AVAILABLE = "available", "Available"
        ISSUED = "issued", "Issued"
        REDEEMED = "redeemed", "Redeemed"
        REVOKED = "revoked", "Revoked"

    OPEN = (Status.AVAILABLE, Status.ISSUED)
    EXPIRED = "expired"  # not stored: a voucher expires by the calendar, without a job
    SHOWN_STATUSES = [*Status.choices, (EXPIRED, "Expired")]

    code = models.CharField(max_length=128)
    # The database has one key for both, "voucher_of_batch" (migration 0013): the batch of a voucher, and its course.
    course = models.ForeignKey(
        Course, on_delete=models.PROTECT, related_name="vouchers", db_index=False, db_constraint=False
    )
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="vouchers", db_constraint=False)
    position = models.BigIntegerField(help_text="Place in the order of issuing: batch * 2**32 + line.")
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.AVAILABLE)
    expires_on = models.DateField(null=True, blank=True, help_text="Last valid day in the shop's time zone.")
    valid_until = models.GeneratedField(
        expression=Coalesce("expires_on", models.Value(FOREVER)),
        output_field=models.DateField(),
        db_persist=True,
    )
    issued_to = models.CharField(max_length=254, blank=True)
    issued_at = models.DateTimeField(null=True, blank=True)
    redeemed_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=300, blank=True)
    held_since = models.DateTimeField(null=True, blank=True, help_text="On hold: its payment is disputed.")
    note = models.TextField(blank=True, help_text="For staff; buyers never see it.")

    objects = VoucherQuerySet.as_manager()

    class Meta:
        permissions = [
            ("issue_voucher", "Can issue a voucher"),
            ("resend_voucher", "Can send a voucher again"),
            ("revoke_voucher", "Can revoke a voucher"),
            ("reveal_voucher", "Can see whole codes"),
            ("replace_voucher", "Can replace a voucher by another one"),
            ("correct_address", "Can correct the address of a holder"),
        ]
        indexes = [
            models.Index(
                fields=["course", "valid_until", "position"],
                condition=Q(status="available"),
                name="voucher_pool",
            ),
            models.Index(fields=["course", "id"], name="voucher_of_course"),
            models.Index(Upper("issued_to"), condition=~Q(issued_to=""), name="voucher_holder"),
            # For the lists of what has left the pool, and of what expires.
            models.Index(fields=["status", "id"], condition=~Q(status="available"), name="voucher_status"),
            models.Index(
                fields=["valid_until", "course", "id"], condition=Q(valid_until__lt=FOREVER), name="voucher_expiry"
            ),
            # For parts of codes; without the pool, so that imports need not keep it.
            GinIndex(
                OpClass(Upper("code"), name="gin_trgm_ops"), condition=~Q(status="available"), name="voucher_code_parts"
            ),
        ]
        constraints = [
            models.UniqueConstraint(Upper("code"), name="voucher_code_unique_without_case"),
            models.CheckConstraint(condition=Q(code__regex=STORED_FORM), name="voucher_code_form"),
            models.CheckConstraint(
                condition=(
                    Q(status="available", issued_at=None, issued_to="", redeemed_at=None, revoked_at=None)
                    | Q(status="issued", issued_at__isnull=False, redeemed_at=None, revoked_at=None) & ~Q(issued_to="")
                    | Q(status="redeemed", issued_at__isnull=False, redeemed_at__isnull=False, revoked_at=None)
                    | Q(status="revoked", redeemed_at=None, revoked_at__isnull=False)
                    & (Q(issued_at__isnull=False) | Q(issued_to=""))
                ),
                name="voucher_status_matches_its_facts",
            ),
            models.CheckConstraint(
                condition=Q(held_since=None) | Q(status__in=["issued", "revoked"]),
                name="voucher_on_hold_is_held",
            ),
        ]

    def __str__(self) -> str:
        return f"Voucher {self.pk}"

    @property
    def shown_status(self) -> str:
        return self.EXPIRED if self.status in self.OPEN and self.is_past else self.status

    @property
    def is_past(self) -> bool:
        return self.expires_on is not None and self.expires_on < timezone.localdate()


def course_cutoff(course: Course) -> dt.date:
    """The earliest last day a code of this course may have to be issued today."""
    return timezone.localdate() + dt.timedelta(days=course.minimum_validity_days)


def course_cutoff_in_sql(today: dt.date) -> models.expressions.Combinable:
    """The same as an expression over courses, for statements about many of them on one day."""
    return models.ExpressionWrapper(
        models.Value(today, output_field=models.DateField()) + F("minimum_validity_days"),
        output_field=models.DateField(),
    )
