"""One email, and what became of it. The row is the outbox."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery
from django.db.models.functions import Now, Upper
from django.db.models.lookups import IsNull

from courses.models import Course, Purchase
from vouchers.models.history import AddressChange
from vouchers.models.issuance import Issuance
from vouchers.models.voucher import Voucher
from vouchers.tombstones import TOMBSTONES


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def in_trouble(self) -> Self:
        """Failed or bounced, whatever came after; what the index `delivery_in_trouble` holds."""
        return self.filter(Q(status=Delivery.Status.FAILED) | Q(fate__in=Delivery.LOST))

    def undelivered(self) -> Self:
        """Emails that a buyer did not get and still needs: the last one that brings a voucher, neither seen, redeemed
        nor withdrawn, unless a reminder of it arrived since; and the news of a waiting seat."""
        newer = Delivery.objects.filter(
            Q(kind=Delivery.Kind.VOUCHER) | Q(fate__in=Delivery.ARRIVED),
            issuance=OuterRef("issuance"),
            pk__gt=OuterRef("pk"),
        )
        valid = Voucher.objects.shown_as(Voucher.Status.ISSUED).filter(pk=OuterRef("voucher"))
        # What somebody saw at another address is none of this holder's.
        moved = AddressChange.objects.filter(issuance=OuterRef("pk"), changed_at__gt=OuterRef("seen_at"))
        seats = Issuance.objects.filter(Exists(valid), pk=OuterRef("issuance"), status=Issuance.Status.ISSUED)
        unseen = seats.filter(Q(seen_at=None) | Exists(moved))
        held = Q(_is_there(unseen), kind=Delivery.Kind.VOUCHER)
        waiting = Issuance.objects.filter(
            purchase=OuterRef("purchase"), status=Issuance.Status.WAITING, email__iexact=OuterRef("email")
        )
        news = Q(_is_there(waiting), kind=Delivery.Kind.WAITING)
        return self.in_trouble().exclude(email__endswith=TOMBSTONES).filter(held & ~Exists(newer) | news)

    def of_course(self, course: Course | str | OuterRef) -> Self:
        """What buyers of a course are or were sent."""
        return self.filter(Q(issuance__course=course) | Q(purchase__course=course))


def _is_there(issuances: models.QuerySet[Issuance]) -> IsNull:
    """Looked up for each of the few emails in trouble: joined, or as an `Exists`, the planner reads all issuances."""
    return IsNull(Subquery(issuances.order_by().values("pk")[:1]), False)


class Delivery(models.Model):
    """`due_at` is when to act next: send, send again, or, while `sending`, when the lease of the sender ends.

    A voucher's email belongs to its issuance; what is said about a purchase as a whole belongs to the purchase; what
    staff are told belongs to a course. `status` is what we did with it, `fate` what the provider told of it since.
    """

    class Kind(models.TextChoices):
        VOUCHER = "voucher", "Voucher"
        REMINDER = "reminder", "Reminder"
        EXPIRY = "expiry", "Warning before expiry"
        WAITING = "waiting", "Place in the queue"
        CONFIRMATION = "confirmation", "Confirmation of a free purchase"
        ALERT = "alert", "Alert for staff"

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        SENDING = "sending", "Sending"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"

    class Fate(models.TextChoices):
        DEFERRED = "deferred", "Deferred"
        DELIVERED = "delivered", "Delivered"
        OPENED = "opened", "Opened"
        BOUNCED = "bounced", "Bounced"
        FAILED = "failed", "Failed"
        COMPLAINED = "complained", "Complained"

    # Fates with which the buyer has not got it.
    LOST = (Fate.BOUNCED, Fate.FAILED)
    ARRIVED = (Fate.DELIVERED, Fate.OPENED, Fate.COMPLAINED)
    ACCEPTED = "accepted"  # sent, and nothing heard of it since
    STATES = [
        (Status.QUEUED, "Queued"),
        (Status.SENDING, "Sending"),
        (ACCEPTED, "Accepted by the mail server"),
        *Fate.choices,
    ]
    # Of an issuance, and so about a voucher.
    OF_VOUCHERS = (Kind.VOUCHER, Kind.REMINDER, Kind.EXPIRY)

    issuance = models.ForeignKey(
        Issuance, on_delete=models.PROTECT, null=True, blank=True, related_name="deliveries", db_index=False
    )
    purchase = models.ForeignKey(
        Purchase, on_delete=models.PROTECT, null=True, blank=True, related_name="deliveries", db_index=False
    )
    course = models.ForeignKey(
        Course, on_delete=models.PROTECT, null=True, blank=True, related_name="alerts", db_index=False
    )
    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.VOUCHER)
    series = models.PositiveIntegerField(default=1, help_text="1 is the first email, 2 the first resend.")
    email = models.CharField(max_length=254)
    language = models.CharField(max_length=10, blank=True, help_text="Empty: the purchase's, or the shop's own.")
    carries_code = models.BooleanField(default=False, help_text="Whether the code stands in it, rather than a link.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    due_at = models.DateTimeField(db_default=Now())
    attempts = models.PositiveIntegerField(default=0)
    message_id = models.CharField("Message-ID", max_length=255)
    provider_id = models.CharField("provider's id", max_length=255, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    fate = models.CharField(max_length=10, choices=Fate.choices, blank=True, help_text="What the provider told.")
    fate_at = models.DateTimeField(null=True, blank=True)
    fate_reason = models.CharField(max_length=500, blank=True)
    alerted_at = models.DateTimeField(null=True, blank=True, help_text="When staff were told that it did not arrive.")

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["due_at", "id"], condition=Q(status__in=["queued", "sending"]), name="delivery_due"),
            models.Index(fields=["provider_id"], condition=~Q(provider_id=""), name="delivery_provider_id"),
            models.Index(
                fields=["id"],
                condition=Q(status="failed") | Q(fate__in=["bounced", "failed"]),
                name="delivery_in_trouble",
            ),
            # For the lists of what is rare: costs nothing where providers tell nothing, and no voucher's email.
            models.Index(fields=["fate", "id"], condition=~Q(fate=""), name="delivery_fate"),
            models.Index(fields=["kind", "id"], condition=~Q(kind="voucher"), name="delivery_kind"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["issuance", "kind", "series"], name="delivery_once_per_series"),
            # Most emails are of a voucher, and then these two hold nothing of them.
            models.UniqueConstraint(
                fields=["purchase", "kind", "series"],
                condition=Q(purchase__isnull=False),
                name="delivery_once_per_purchase",
            ),
            models.UniqueConstraint(
                fields=["course", "kind", "series", "email"],
                condition=Q(course__isnull=False),
                name="delivery_once_per_alert",
            ),
            models.UniqueConstraint(fields=["message_id"], name="delivery_once_per_message_id"),
            models.CheckConstraint(
                condition=Q(
                    kind__in=["voucher", "reminder", "expiry"], issuance__isnull=False, purchase=None, course=None
                )
                | Q(kind__in=["waiting", "confirmation"], issuance=None, purchase__isnull=False, course=None)
                | Q(kind="alert", issuance=None, purchase=None, course__isnull=False),
                name="delivery_kind_matches_its_subject",
            ),
            models.CheckConstraint(
                condition=Q(status="sent", sent_at__isnull=False)
                | Q(status__in=["queued", "sending", "failed"], sent_at=None),
                name="delivery_status_matches_its_facts",
            ),
            models.CheckConstraint(
                condition=Q(carries_code=False) | Q(issuance__isnull=False), name="delivery_with_code_is_of_a_voucher"
            ),
            models.CheckConstraint(
                condition=Q(fate="", fate_at=None) | ~Q(fate="") & Q(fate_at__isnull=False),
                name="delivery_fate_has_its_time",
            ),
        ]

    def __str__(self) -> str:
        return f"Delivery {self.pk}"

    @property
    def state(self) -> str:
        """Where it is, in one word of `STATES`: what the provider told last, or else what we did."""
        if self.fate:
            return self.fate
        return self.ACCEPTED if self.status == self.Status.SENT else self.status

    @property
    def state_in_words(self) -> str:
        return dict(self.STATES)[self.state]

    @property
    def reason(self) -> str:
        """Why it is where it is, where the mail server or the provider said so."""
        return self.fate_reason or self.last_error


class DeliveryEvent(models.Model):
    """One thing that a provider told of an email, however often it told it. Written once, never changed."""

    class Kind(models.TextChoices):
        ACCEPTED = "accepted", "Accepted"
        DEFERRED = "deferred", "Deferred"
        DELIVERED = "delivered", "Delivered"
        OPENED = "opened", "Opened"
        BOUNCED = "bounced", "Bounced"
        FAILED = "failed", "Failed"
        COMPLAINED = "complained", "Complained"

    delivery = models.ForeignKey(Delivery, on_delete=models.PROTECT, related_name="events")
    provider = models.CharField(max_length=40)
    key = models.CharField(max_length=255, help_text="The provider's id of what happened.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    at = models.DateTimeField(help_text="By the provider's clock.")
    reason = models.CharField(max_length=500, blank=True)
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "key"], name="delivery_event_once"),
            models.CheckConstraint(condition=~Q(key=""), name="delivery_event_has_key"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class ResendRequest(models.Model):
    """Somebody asked on the shop's page for the codes of an address to be sent there again.

    A row whoever asks, so that the answer and its time tell nothing about the address.
    """

    email = models.CharField(max_length=254)
    language = models.CharField(max_length=10, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"Request {self.pk}"


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
        indexes = [
            models.Index(fields=["message_id"], name="kept_email_message_id"),
            models.Index(Upper("to"), name="kept_email_to"),
        ]

    def __str__(self) -> str:
        return f"Kept email {self.pk}"
