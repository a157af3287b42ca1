"""What a provider told us of a payment; written once, never changed, and in any order."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from courses.models.purchase import Purchase


class PaymentFact(models.Model):
    """One thing that happened to a payment, however often and in however many events it was told.

    A fact may come before the purchase it belongs to: a refund that overtakes its payment. So it names the payment
    by provider and reference, and not by a row.
    """

    class Kind(models.TextChoices):
        PAID = "paid", "Paid"
        PENDING = "pending", "Payment on its way"
        FAILED = "failed", "Failed"
        REFUNDED = "refunded", "Refunded"
        REFUND_FAILED = "refund_failed", "A refund failed"
        DISPUTED = "disputed", "Disputed"
        DISPUTE_WON = "dispute_won", "Dispute won"
        DISPUTE_LOST = "dispute_lost", "Dispute lost"

    provider = models.CharField(max_length=10, choices=Purchase.Provider.choices)
    reference = models.CharField(max_length=255, help_text="The provider's id of the payment.")
    kind = models.CharField(max_length=13, choices=Kind.choices)
    key = models.CharField(max_length=255, help_text="The provider's id of what happened: a charge, refund or dispute.")
    amount = models.DecimalField(
        max_digits=12, decimal_places=2, default=0, help_text="In major units; all that is known of under this key."
    )
    at = models.DateTimeField(help_text="By the provider's clock.")
    source = models.CharField(max_length=255, help_text="What told us: an event, the return page, the reconciliation.")
    claims = models.JSONField(default=dict, blank=True, help_text="What a payment says it is for.")
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["at", "id"]
        indexes = [models.Index(fields=["provider", "reference"], name="payment_fact_of_payment")]
        constraints = [
            models.UniqueConstraint(fields=["provider", "kind", "key"], name="payment_fact_once"),
            models.CheckConstraint(condition=~Q(reference="") & ~Q(key=""), name="payment_fact_has_names"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="payment_fact_amount_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
