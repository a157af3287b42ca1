"""What is sold."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now, Upper

from courses.money import is_whole_coins

COURSE_ID = r"^[A-Za-z0-9._-]{1,64}$"


class Course(models.Model):
    """Something a shop sells; its key is the id the shop gave it, such as `JS101`."""

    class Redemption(models.TextChoices):
        BEARER = "bearer", "Bearer: whoever has the code"
        ISSUED = "issued", "Issued: only codes that were issued"
        HOLDER = "holder", "Holder: only with the email it was issued to"

    class Reveal(models.TextChoices):
        EMAIL = "email", "In the email itself"
        LINK = "link", "On a page that the email links to"

    id = models.CharField(
        "course id",
        max_length=64,
        primary_key=True,
        validators=[RegexValidator(COURSE_ID, "Use 1 to 64 letters, digits, dots, underscores and hyphens.")],
    )
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, help_text="Shown on the course's page in the shop.")
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
    stop_when_empty = models.BooleanField(
        "stop selling when the pool is empty",
        default=False,
        help_text="Otherwise buyers pay, and wait for the next upload.",
    )
    offer_refund_days = models.PositiveSmallIntegerField(
        "offer a refund after (days)",
        default=7,
        null=True,
        blank=True,
        help_text="Staff are offered to refund who has waited this long for a code; empty: never.",
    )
    redemption = models.CharField(
        "redemption rule",
        max_length=6,
        choices=Redemption.choices,
        default=Redemption.BEARER,
        help_text="Whose code is accepted at the checkout.",
    )
    reveal = models.CharField(
        "where buyers see the code",
        max_length=5,
        choices=Reveal.choices,
        default=Reveal.EMAIL,
        help_text="By a link it is known whether the code was seen; one nobody saw can go back to the pool.",
    )
    remind_after_days = models.PositiveSmallIntegerField(
        "remind after (days)",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Who has not redeemed by then is reminded by email, once; empty: never.",
    )
    warn_before_days = models.PositiveSmallIntegerField(
        "warn before expiry (days)",
        default=7,
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Who holds a code that is about to expire is told by email, once; empty: never.",
    )
    minimum_validity_days = models.PositiveSmallIntegerField(
        "minimum validity (days)",
        default=0,
        help_text="A code with fewer days left, today not counted, is not issued any more.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    uploads = models.BigIntegerField(
        db_default=0, editable=False, help_text="Goes up with whatever is added to the pool (docs/decisions/0018)."
    )

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
            models.CheckConstraint(condition=Q(reveal__in=["email", "link"]), name="course_reveal_known"),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.name}"

    def clean(self) -> None:
        if self.price is not None and not is_whole_coins(self.price, self.currency):
            raise ValidationError({"price": f"{self.currency.upper()} has no coins that small."})
