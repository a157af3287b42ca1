"""To whom it was sold: a payment, or a free purchase made with a voucher."""

from __future__ import annotations

import secrets
import uuid
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now, Upper

from courses.models.course import Course


def new_token() -> str:
    """What the link to a purchase cannot be guessed by: 256 random bits."""
    return secrets.token_urlsafe(32)


class PurchaseQuerySet(models.QuerySet["Purchase"]):
    def payments(self) -> Self:
        """What was or is to be paid; a free purchase has no provider but the desk itself."""
        return self.filter(provider__in=[Purchase.Provider.STRIPE, Purchase.Provider.PAYPAL])

    def named(self, reference: str) -> Self:
        """Purchases that a provider knows by this reference: its payment's, or its checkout's."""
        return self.filter(Q(reference=reference) | Q(checkout=reference))

    def for_review(self) -> Self:
        return self.exclude(review="").filter(reviewed_at=None)


class Purchase(models.Model):
    """One row by provider and the provider's reference.

    What became of a payment are its facts (`PaymentFact`); the times and amounts here are what they come to,
    written by `vouchers/payments/settling.py` alone.
    """

    class Provider(models.TextChoices):
        STRIPE = "stripe", "Stripe"
        PAYPAL = "paypal", "PayPal"
        VOUCHER = "voucher", "Voucher"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    token = models.CharField(max_length=43, default=new_token, editable=False)
    provider = models.CharField(max_length=10, choices=Provider.choices)
    reference = models.CharField(
        max_length=255, help_text="The provider's id of the payment; of the checkout until there is a payment."
    )
    checkout = models.CharField(max_length=255, blank=True, help_text="The provider's id of the checkout.")
    live = models.BooleanField(
        null=True, help_text="Whether real money moved; unknown where the provider does not say."
    )
    course = models.ForeignKey(
        Course, on_delete=models.PROTECT, null=True, blank=True, related_name="purchases", db_index=False
    )
    email = models.CharField(max_length=254, blank=True)
    language = models.CharField(max_length=10, blank=True, help_text="Of its buyer; empty: the shop's own.")
    quantity = models.PositiveIntegerField(default=1)
    began_here = models.BooleanField(
        default=False, help_text="Whether its checkout began here, and so its course, buyer and seats are known."
    )
    unit_price = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, help_text="What a seat was to cost, as agreed."
    )
    agreed_currency = models.CharField(
        max_length=3, blank=True, help_text="Of the price of a seat; empty until there is an agreement."
    )
    amount = models.DecimalField(max_digits=12, decimal_places=2, help_text="In major units, for all seats.")
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    refunded_at = models.DateTimeField(null=True, blank=True)
    refunded_amount = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    disputed_at = models.DateTimeField(null=True, blank=True, help_text="Since when a dispute is open.")
    completed_at = models.DateTimeField(null=True, blank=True, help_text="When it was found good.")
    review = models.TextField(blank=True, help_text="Why staff must look at it.")
    reviewed_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True, help_text="When staff found it good all the same.")

    objects = PurchaseQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        permissions = [
            ("review_purchase", "Can review a payment"),
            ("refund_purchase", "Can refund a payment"),
            ("erase_buyer", "Can erase the address of a buyer"),
        ]
        indexes = [
            models.Index(fields=["-created_at"], name="purchase_newest"),
            models.Index(fields=["course", "-created_at"], name="purchase_of_course"),
            # For the lists of what is rare.
            models.Index(fields=["-created_at"], condition=Q(paid_at=None), name="purchase_not_paid"),
            models.Index(fields=["-created_at"], condition=Q(refunded_at__isnull=False), name="purchase_refunded"),
            models.Index(fields=["-created_at"], condition=Q(disputed_at__isnull=False), name="purchase_disputed"),
            models.Index(Upper("email"), name="purchase_email"),
            models.Index(
                fields=["-created_at"], condition=~Q(review="") & Q(reviewed_at=None), name="purchase_for_review"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["token"], name="purchase_once_per_token"),
            models.UniqueConstraint(fields=["provider", "reference"], name="purchase_once_per_reference"),
            models.UniqueConstraint(
                fields=["provider", "checkout"], condition=~Q(checkout=""), name="purchase_once_per_checkout"
            ),
            models.CheckConstraint(
                condition=Q(provider__in=["stripe", "paypal", "voucher"]), name="purchase_provider_known"
            ),
            models.CheckConstraint(condition=~Q(reference=""), name="purchase_has_reference"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="purchase_has_a_seat"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="purchase_amount_not_negative"),
            models.CheckConstraint(condition=Q(refunded_amount__gte=0), name="purchase_refund_not_negative"),
            models.CheckConstraint(condition=Q(currency__regex=r"^[a-z]{3}$"), name="purchase_currency_form"),
            models.CheckConstraint(
                condition=Q(completed_at=None) | Q(paid_at__isnull=False, course__isnull=False) & ~Q(email=""),
                name="purchase_completed_is_paid",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.reference}"
