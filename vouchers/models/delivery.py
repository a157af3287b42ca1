"""One email to a buyer, and what became of it. The row is the outbox."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from courses.models import Purchase
from vouchers.models.issuance import Issuance


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> Self:
        """What is to be sent now, and what a sender took and never answered for, oldest first."""
        return self.filter(
            Q(status=Delivery.Status.QUEUED) | Q(status=Delivery.Status.SENDING), due_at__lte=Now()
        ).order_by("due_at", "id")


class Delivery(models.Model):
    """`due_at` is when to act next: send, send again, or, while `sending`, when the lease of the sender ends.

    A voucher's email belongs to its issuance; what is said about a purchase as a whole belongs to the purchase.
    """

    class Kind(models.TextChoices):
        VOUCHER = "voucher", "Voucher"
        WAITING = "waiting", "Place in the queue"
        CONFIRMATION = "confirmation", "Confirmation of a free purchase"

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        SENDING = "sending", "Sending"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"

    issuance = models.ForeignKey(
        Issuance, on_delete=models.PROTECT, null=True, blank=True, related_name="deliveries", db_index=False
    )
    purchase = models.ForeignKey(
        Purchase, on_delete=models.PROTECT, null=True, blank=True, related_name="deliveries", db_index=False
    )
    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.VOUCHER)
    series = models.PositiveIntegerField(default=1, help_text="1 is the first email, 2 the first resend.")
    email = models.CharField(max_length=254)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    due_at = models.DateTimeField(db_default=Now())
    attempts = models.PositiveIntegerField(default=0)
    message_id = models.CharField("Message-ID", max_length=255, unique=True)
    provider_id = models.CharField("provider's id", max_length=255, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["due_at", "id"], condition=Q(status__in=["queued", "sending"]), name="delivery_due"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["issuance", "kind", "series"], name="delivery_once_per_series"),
            models.UniqueConstraint(fields=["purchase", "kind", "series"], name="delivery_once_per_purchase"),
            models.CheckConstraint(
                condition=Q(kind="voucher", issuance__isnull=False, purchase=None)
                | Q(kind__in=["waiting", "confirmation"], issuance=None, purchase__isnull=False),
                name="delivery_kind_matches_its_subject",
            ),
            models.CheckConstraint(
                condition=Q(status="sent", sent_at__isnull=False)
                | Q(status__in=["queued", "sending", "failed"], sent_at=None),
                name="delivery_status_matches_its_facts",
            ),
        ]

    def __str__(self) -> str:
        return f"Delivery {self.pk}"


class KeptEmail(models.Model):
    """An email that was kept here instead of being sent, because no way of sending is set."""

    message_id = models.CharField("Message-ID", max_length=255)
    to = models.CharField(max_length=254)
    subject = models.CharField(max_length=998)
    text = models.TextField()
    html = models.TextField(blank=True)
    kept_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "kept email"

    def __str__(self) -> str:
        return f"Kept email {self.pk}"
