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


class RedeemAttempt(models.Model):
    """A redemption of a voucher of ours that was refused, and why; the caller hears less.

    One row for each voucher, reason and caller, however often they try.
    """

    class Reason(models.TextChoices):
        OTHER_COURSE = "other_course", "Another course was named"
        NEVER_ISSUED = "never_issued", "The course takes only codes that were issued, and this one was not"
        OTHER_EMAIL = "other_email", "Not the email it was issued to"
        REDEEMED = "redeemed", "Redeemed before"
        REVOKED = "revoked", "Revoked"
        ON_HOLD = "on_hold", "On hold: its payment is disputed"
        EXPIRED = "expired", "Expired"

    voucher = models.ForeignKey(Voucher, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    reason = models.CharField(max_length=12, choices=Reason.choices)
    caller = models.CharField(max_length=200)
    course = models.CharField("course named", max_length=64, blank=True, help_text="By the last attempt.")
    email = models.CharField(max_length=254, blank=True, help_text="As given at the last attempt.")
    times = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(db_default=Now())
    last_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["voucher", "reason", "caller"], name="redeem_attempt_once"),
        ]

    def __str__(self) -> str:
        return f"Refused redemption of voucher {self.voucher_id}"


class Guess(models.Model):
    """A redemption answered with `voucher_not_found`, or codes asked for again; the limiter counts them by caller."""

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
