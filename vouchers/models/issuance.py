"""One voucher owed to one email: waiting until the pool can fill it, then issued."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Self

from django.db import models
from django.db.models import DurationField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now, Upper

from courses.models import Course, Purchase
from vouchers.models.voucher import Voucher


class IssuanceQuerySet(models.QuerySet["Issuance"]):
    def waiting(self, course: Course) -> Self:
        """The queue of a course, first come first served; without those whose payment is disputed.

        Ordered by columns that only the index `issuance_queue` serves: by `id` alone the planner may walk the
        primary key past everything ever issued.
        """
        return self.filter(course=course, status=Issuance.Status.WAITING, held_since=None).order_by("created_at", "id")

    def waiting_too_long(self) -> Self:
        """Seats of payments that have waited for so long that staff are offered to give the money back."""
        patience = ExpressionWrapper(F("course__offer_refund_days") * dt.timedelta(days=1), DurationField())
        waiting = self.filter(status=Issuance.Status.WAITING, held_since=None)  # what the index of the queue serves
        return waiting.filter(purchase__isnull=False, created_at__lt=Now() - patience)

    def lock(self, pk: int) -> Issuance:
        """One issuance with its voucher, course and purchase, locked before they are read."""
        Issuance.objects.select_for_update().only("pk").get(pk=pk)
        return self.select_related("voucher", "course", "purchase").get(pk=pk)

    def still_owed(self, course: Course) -> Self:
        """What is being waited for or is still held unredeemed and valid."""
        waiting = Q(status=Issuance.Status.WAITING)
        # Looked up for each, or PostgreSQL would gather every valid voucher of every course first.
        valid = Exists(Voucher.objects.shown_as("issued").filter(pk=OuterRef("voucher")))
        return self.filter(waiting | Q(valid, status=Issuance.Status.ISSUED), course=course)

    def still_owed_to(self, email: str, course: Course) -> Self:
        """The same of one email, newest first."""
        return self.still_owed(course).filter(email__iexact=email).order_by("-id")

    def of_emails(self, emails: Sequence[str]) -> Self:
        """Of any of these, without regard to case as PostgreSQL sees it: Python makes more letters of some."""
        upper = RawSQL("SELECT upper(email) FROM unnest(%s::text[]) AS email", [list(emails)])
        return self.alias(upper=Upper("email")).filter(upper__in=upper)


class Issuance(models.Model):
    """The database keeps a voucher from being owed to two people at once (`issuance_voucher_once`)."""

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        ISSUED = "issued", "Issued"
        RETURNED = "returned", "Returned to the pool"
        CANCELLED = "cancelled", "Cancelled"

    CLOSED = (Status.RETURNED, Status.CANCELLED)

    course = models.ForeignKey(Course, on_delete=models.PROTECT, related_name="issuances", db_index=False)
    email = models.CharField(max_length=254)
    order_id = models.CharField("order", max_length=255, blank=True)
    purchase = models.ForeignKey(
        Purchase, on_delete=models.PROTECT, null=True, blank=True, related_name="issuances", db_index=False
    )
    unit = models.PositiveIntegerField(null=True, blank=True, help_text="Which seat of the purchase, from 1.")
    voucher = models.ForeignKey(Voucher, on_delete=models.PROTECT, null=True, blank=True, related_name="issuances")
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.WAITING)
    caller = models.CharField(max_length=200, help_text="Who asked: an API key, a user or the command line.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    issued_at = models.DateTimeField(null=True, blank=True)
    returned_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True, help_text="When the holder is known to have seen the code.")
    told_at = models.DateTimeField(
        null=True, blank=True, help_text="When the program that asked was first answered with the code."
    )
    held_since = models.DateTimeField(null=True, blank=True, help_text="Not filled meanwhile: its payment is disputed.")

    objects = IssuanceQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["course", "created_at", "id"],
                condition=Q(status="waiting"),  # on hold too: the summary counts them from it
                name="issuance_queue",
            ),
            models.Index(Upper("email"), "course", name="issuance_email"),
            models.Index(fields=["course", "id"], name="issuance_of_course"),
            # For the lists of what is rare.
            models.Index(
                fields=["status", "id"], condition=Q(status__in=["returned", "cancelled"]), name="issuance_closed"
            ),
            models.Index(fields=["id"], condition=Q(held_since__isnull=False), name="issuance_on_hold"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["course", "order_id"], condition=~Q(order_id=""), name="issuance_once_per_order"
            ),
            models.UniqueConstraint(
                fields=["purchase", "unit"], condition=Q(purchase__isnull=False), name="issuance_once_per_unit"
            ),
            models.UniqueConstraint(fields=["voucher"], condition=~Q(status="returned"), name="issuance_voucher_once"),
            models.CheckConstraint(
                condition=Q(purchase=None, unit=None) | Q(purchase__isnull=False, unit__gte=1),
                name="issuance_unit_of_purchase",
            ),
            models.CheckConstraint(condition=~Q(email=""), name="issuance_has_email"),
            models.CheckConstraint(
                condition=Q(held_since=None) | Q(status__in=["waiting", "cancelled"]), name="issuance_on_hold_waits"
            ),
            models.CheckConstraint(
                condition=(
                    Q(status__in=["waiting", "cancelled"], voucher=None, issued_at=None, returned_at=None)
                    | Q(status="issued", voucher__isnull=False, issued_at__isnull=False, returned_at=None)
                    | Q(status="returned", voucher__isnull=False, returned_at__isnull=False)
                ),
                name="issuance_status_matches_its_facts",
            ),
        ]

    def __str__(self) -> str:
        return f"Issuance {self.pk}"

    @property
    def position(self) -> int:
        """Place in the queue, counted from 1."""
        before = Q(created_at__lt=self.created_at) | Q(created_at=self.created_at, pk__lte=self.pk)
        return Issuance.objects.waiting(self.course).filter(before).count()


class IdempotencyKey(models.Model):
    """A request key a caller used, what it asked for then, and the issuance it names."""

    caller = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 over course, email and order.")
    issuance = models.ForeignKey(Issuance, on_delete=models.PROTECT, related_name="idempotency_keys", db_index=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="idempotency_key_once_per_caller")]

    def __str__(self) -> str:
        return f"Request key {self.pk}"
