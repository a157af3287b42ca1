"""What is sold, and to whom it was sold."""

from __future__ import annotations

import uuid

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now, Upper

COURSE_ID = r"^[A-Za-z0-9._-]{1,64}$"


class Course(models.Model):
    """Something a shop sells; its key is the id the shop gave it, such as `JS101`."""

    class Redemption(models.TextChoices):
        BEARER = "bearer", "Bearer: whoever has the code"
        ISSUED = "issued", "Issued: only codes that were issued"
        HOLDER = "holder", "Holder: only with the email it was issued to"

    id = models.CharField(
        "course id",
        max_length=64,
        primary_key=True,
        validators=[RegexValidator(COURSE_ID, "Use 1 to 64 letters, digits, dots, underscores and hyphens.")],
    )
    name = models.CharField(max_length=200)
    price = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="In major units, such as 49.00; empty where any amount will do.",
    )
    currency = models.CharField(
        max_length=3,
        default="usd",
        validators=[RegexValidator(r"^[a-z]{3}$", "Use the ISO 4217 code in lower case, such as usd.")],
    )
    on_sale = models.BooleanField(default=True)
    redemption = models.CharField(
        "redemption rule",
        max_length=6,
        choices=Redemption.choices,
        default=Redemption.BEARER,
        help_text="Whose code is accepted at the checkout.",
    )
    minimum_validity_days = models.PositiveSmallIntegerField(
        "minimum validity (days)",
        default=0,
        help_text="A code with fewer days left, today not counted, is not issued any more.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                Upper("id"),
                name="course_id_unique_without_case",
                violation_error_message="There is a course with this id already, in other upper or lower case letters.",
            ),
            models.CheckConstraint(condition=Q(id__regex=COURSE_ID), name="course_id_form"),
            models.CheckConstraint(condition=Q(price__isnull=True) | Q(price__gte=0), name="course_price_not_negative"),
            models.CheckConstraint(condition=Q(currency__regex=r"^[a-z]{3}$"), name="course_currency_form"),
            models.CheckConstraint(
                condition=Q(redemption__in=["bearer", "issued", "holder"]), name="course_redemption_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.name}"


class Purchase(models.Model):
    """A payment, or a free purchase made with a voucher; one row by provider and the provider's reference."""

    class Provider(models.TextChoices):
        STRIPE = "stripe", "Stripe"
        PAYPAL = "paypal", "PayPal"
        VOUCHER = "voucher", "Voucher"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.CharField(max_length=10, choices=Provider.choices)
    reference = models.CharField(max_length=255)
    course = models.ForeignKey(Course, on_delete=models.PROTECT, related_name="purchases")
    email = models.CharField(max_length=254, blank=True)
    quantity = models.PositiveIntegerField(default=1)
    amount = models.DecimalField(max_digits=12, decimal_places=2, help_text="In major units, for all seats.")
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True, blank=True)
    refunded_at = models.DateTimeField(null=True, blank=True)
    disputed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "reference"], name="purchase_once_per_reference"),
            models.CheckConstraint(
                condition=Q(provider__in=["stripe", "paypal", "voucher"]), name="purchase_provider_known"
            ),
            models.CheckConstraint(condition=~Q(reference=""), name="purchase_has_reference"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="purchase_has_a_seat"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="purchase_amount_not_negative"),
            models.CheckConstraint(condition=Q(currency__regex=r"^[a-z]{3}$"), name="purchase_currency_form"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.reference}"
