"""One upload of codes: who, when, from what file, with what result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from courses.models import Course

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from vouchers.models.voucher import Voucher


class Batch(models.Model):
    """Every line read is accounted for: `read = inserted + duplicates + invalid`.

    The API and the command store in one step. In the admin a batch is checked first, and stored once somebody
    has confirmed it; until then its counts say what would happen (`vouchers/importing/steps.py`).
    """

    class Source(models.TextChoices):
        ADMIN = "admin", "Admin"
        API = "api", "API"
        COMMAND = "command", "Command"
        GENERATED = "generated", "Generated"

    class Status(models.TextChoices):
        CHECKING = "checking", "Being checked"
        CHECKED = "checked", "Waits to be confirmed"
        STORING = "storing", "Being stored"
        STORED = "stored", "Stored"
        UNDOING = "undoing", "Being undone"
        UNDONE = "undone", "Undone"
        CANCELLED = "cancelled", "Cancelled"
        FAILED = "failed", "Failed"

    RUNNING = (Status.CHECKING, Status.STORING, Status.UNDOING)

    course = models.ForeignKey(Course, on_delete=models.PROTECT, related_name="batches", db_index=False)
    actor = models.CharField(max_length=200, help_text="Who uploaded: a user, an API key or the command line.")
    source = models.CharField(max_length=10, choices=Source.choices)
    file_name = models.CharField(max_length=255, blank=True)
    sha256 = models.CharField("SHA-256 of the file", max_length=64, blank=True)
    expires_on = models.DateField(null=True, blank=True, help_text="Last valid day of codes without one of their own.")
    pattern = models.CharField(max_length=200, blank=True, help_text="Of generated codes.")
    wanted = models.PositiveIntegerField(default=0, help_text="How many codes were to be generated.")
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.STORED)
    problem = models.TextField(blank=True, help_text="Why it failed, or could not be undone.")
    percent = models.PositiveSmallIntegerField(default=0, help_text="How far a running batch is.")
    cancel_asked = models.BooleanField(default=False)
    read = models.PositiveIntegerField(default=0)
    inserted = models.PositiveIntegerField(default=0)
    duplicates = models.PositiveIntegerField(default=0)
    repeated = models.PositiveIntegerField(default=0, help_text="Duplicates of an earlier line of the same upload.")
    invalid = models.PositiveIntegerField(default=0)
    filled = models.PositiveIntegerField(default=0, help_text="Waiting buyers who got one of these codes at once.")
    first_lines = models.JSONField(default=list, blank=True, help_text="Of a checked batch: how they were read.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    if TYPE_CHECKING:
        vouchers: RelatedManager[Voucher]
        rejected_lines: RelatedManager[RejectedLine]
        file_parts: RelatedManager[FilePart]

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "batches"
        permissions = [("undo_batch", "Can undo a batch")]
        indexes = [models.Index(fields=["course", "sha256"], condition=~Q(sha256=""), name="batch_of_the_same_file")]
        constraints = [
            # What vouchers refer to, and the index of the list of a course.
            models.UniqueConstraint(fields=["course", "id"], name="batch_of_course"),
            models.CheckConstraint(
                condition=Q(
                    status__in=[
                        "checking",
                        "checked",
                        "storing",
                        "stored",
                        "undoing",
                        "undone",
                        "cancelled",
                        "failed",
                    ]
                ),
                name="batch_status_known",
            ),
            models.CheckConstraint(condition=Q(repeated__lte=F("duplicates")), name="batch_repeats_are_duplicates"),
            models.CheckConstraint(
                condition=Q(read=F("inserted") + F("duplicates") + F("invalid")),
                name="batch_accounts_for_every_line",
            ),
        ]

    def __str__(self) -> str:
        return f"Batch {self.pk}"


class FilePart(models.Model):
    """A piece of the file of a batch that is not stored yet; here, so that any process can go on with it."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="file_parts", db_index=False)
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="file_part_once")]

    def __str__(self) -> str:
        return f"part {self.number} of {self.batch_id}"


class RejectedLine(models.Model):
    """A line of a batch that did not become a voucher, and why."""

    class Kind(models.TextChoices):
        DUPLICATE = "duplicate", "Duplicate"
        INVALID = "invalid", "Invalid"

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="rejected_lines", db_index=False)
    line = models.PositiveIntegerField(help_text="Line of the file, or place in the list, counted from 1.")
    code = models.CharField(max_length=200, help_text="As given, cut to 200 characters.")
    course = models.CharField(max_length=64, blank=True, help_text="The course that the line itself names.")
    expires_on = models.CharField(max_length=40, blank=True, help_text="The expiry that the line itself names.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    reason = models.CharField(max_length=300, help_text="Where a duplicate already is, or what is wrong with the code.")

    class Meta:
        ordering = ["batch", "line"]
        indexes = [models.Index(fields=["batch", "kind", "line"], name="rejected_line_of_batch")]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
