"""One look of the doctor at the books, and what it found."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Checkup(models.Model):
    """`findings` is a list of `{"check", "count", "healable", "sentences": […]}`, empty where all is well."""

    started_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)
    findings = models.JSONField(default=list)
    actor = models.CharField(max_length=200, help_text="Who asked for it: the clock, a user or the command line.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Checkup {self.pk}"
