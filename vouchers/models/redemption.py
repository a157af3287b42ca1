"""How a voucher was spent, and the wrong codes callers tried."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from courses.models import Purchase
from vouchers.models.voucher import Voucher


class Redemption(models.Model):
    """At most one per voucher; its free purchase commits with it."""

    voucher = models.OneToOneField(Voucher, on_delete=models.PROTECT, primary_key=True, related_name="redemption")
    purchase = models.OneToOneField(Purchase, on_delete=models.PROTECT, related_name="redemption")
    email = models.CharField(max_length=254, blank=True, help_text="As given at the checkout.")
    caller = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=255, blank=True)
    redeemed_at = models.DateTimeField()

    class Meta:
        ordering = ["-redeemed_at"]

    def __str__(self) -> str:
        return f"Redemption of voucher {self.pk}"


class Guess(models.Model):
    """A redemption answered with `voucher_not_found`; the limiter counts them by caller."""

    caller = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "guesses"
        indexes = [
            models.Index(fields=["caller", "at"], name="guess_of_caller"),
            models.Index(fields=["at"], name="guess_at"),
        ]

    def __str__(self) -> str:
        return f"Guess {self.pk}"
