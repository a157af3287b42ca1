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
    """Every line read is accounted for: `read = inserted + duplicates + invalid`."""

    class Source(models.TextChoices):
        ADMIN = "admin", "Admin"
        API = "api", "API"
        COMMAND = "command", "Command"

    course = models.ForeignKey(Course, on_delete=models.PROTECT, related_name="batches")
    actor = models.CharField(max_length=200, help_text="Who uploaded: a user, an API key or the command line.")
    source = models.CharField(max_length=10, choices=Source.choices)
    file_name = models.CharField(max_length=255, blank=True)
    sha256 = models.CharField("SHA-256 of the file", max_length=64, blank=True)
    expires_on = models.DateField(null=True, blank=True, help_text="Last valid day of codes without one of their own.")
    read = models.PositiveIntegerField(default=0)
    inserted = models.PositiveIntegerField(default=0)
    duplicates = models.PositiveIntegerField(default=0)
    invalid = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    if TYPE_CHECKING:
        vouchers: RelatedManager[Voucher]
        rejected_lines: RelatedManager[RejectedLine]

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "batches"
        constraints = [
            models.CheckConstraint(
                condition=Q(read=F("inserted") + F("duplicates") + F("invalid")),
                name="batch_accounts_for_every_line",
            ),
        ]

    def __str__(self) -> str:
        return f"Batch {self.pk}"


class RejectedLine(models.Model):
    """A line of a batch that did not become a voucher, and why."""

    class Kind(models.TextChoices):
        DUPLICATE = "duplicate", "Duplicate"
        INVALID = "invalid", "Invalid"

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="rejected_lines", db_index=False)
    line = models.PositiveIntegerField(help_text="Line of the file, or place in the list, counted from 1.")
    code = models.CharField(max_length=200, help_text="As given, cut to 200 characters.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    reason = models.CharField(max_length=300, help_text="Where a duplicate already is, or what is wrong with the code.")

    class Meta:
        ordering = ["batch", "line"]
        indexes = [models.Index(fields=["batch", "kind", "line"], name="rejected_line_of_batch")]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
