"""Webhooks to others, such as a learning platform: who is told of what, and what is to be told."""

from __future__ import annotations

import base64
import secrets
import uuid
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


def new_secret() -> str:
    """As Standard Webhooks writes secrets: 32 random bytes in base64 behind `whsec_`."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def new_message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


class WebhookReceiver(models.Model):
    """Somebody who is told; each with a secret of its own, by which it knows that it is us."""

    class Event(models.TextChoices):
        PURCHASE_COMPLETED = "purchase.completed", "purchase.completed: somebody bought a course"
        VOUCHER_ISSUED = "voucher.issued", "voucher.issued: a voucher went to its buyer"
        VOUCHER_REDEEMED = "voucher.redeemed", "voucher.redeemed: a voucher was spent"

    name = models.CharField(max_length=100)
    url = models.URLField("address", max_length=500, validators=[URLValidator(schemes=["https"])])
    secret = models.CharField(max_length=100, default=new_secret, editable=False)
    events = ArrayField(models.CharField(max_length=30, choices=Event.choices), size=3)
    active = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    events__contained_by=["purchase.completed", "voucher.issued", "voucher.redeemed"],
                    events__len__gte=1,
                ),
                name="webhook_receiver_events_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class WebhookMessageQuerySet(models.QuerySet["WebhookMessage"]):
    def due(self) -> Self:
        """What is to be sent now, and what a sender took and never answered for, oldest first."""
        open_statuses = (WebhookMessage.Status.QUEUED, WebhookMessage.Status.SENDING)
        return self.filter(status__in=open_statuses, due_at__lte=Now()).order_by("due_at", "id")


class WebhookMessage(models.Model):
    """One event for one receiver. `due_at` is when to act next, or, while `sending`, when the sender's lease ends."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        SENDING = "sending", "Sending"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"

    receiver = models.ForeignKey(WebhookReceiver, on_delete=models.CASCADE, related_name="messages")
    message_id = models.CharField("webhook-id", max_length=40, default=new_message_id)
    type = models.CharField(max_length=30, choices=[(event.value, event.value) for event in WebhookReceiver.Event])
    payload = models.JSONField()
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.QUEUED)
    due_at = models.DateTimeField(db_default=Now())
    attempts = models.PositiveIntegerField(default=0)
    last_status = models.PositiveSmallIntegerField("last answer", null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)

    objects = WebhookMessageQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["due_at", "id"], condition=Q(status__in=["queued", "sending"]), name="webhook_message_due"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["message_id"], name="webhook_message_once_per_id"),
            models.CheckConstraint(
                condition=Q(status="sent", sent_at__isnull=False)
                | Q(status__in=["queued", "sending", "failed"], sent_at=None),
                name="webhook_message_status_matches_its_facts",
            ),
        ]

    def __str__(self) -> str:
        return self.message_id
