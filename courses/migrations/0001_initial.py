import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Course",
            fields=[
                (
                    "id",
                    models.CharField(
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z0-9._-]{1,64}$", "Use 1 to 64 letters, digits, dots, underscores and hyphens."
                            )
                        ],
                        verbose_name="course id",
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                (
                    "price",
                    models.DecimalField(
                        blank=True,
                        decimal_places=2,
                        help_text="In major units, such as 49.00; empty where any amount will do.",
                        max_digits=12,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                (
                    "currency",
                    models.CharField(
                        default="usd",
                        max_length=3,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z]{3}$", "Use the ISO 4217 code in lower case, such as usd."
                            )
                        ],
                    ),
                ),
                ("on_sale", models.BooleanField(default=True)),
                (
                    "redemption",
                    models.CharField(
                        choices=[
                            ("bearer", "Bearer: whoever has the code"),
                            ("issued", "Issued: only codes that were issued"),
                            ("holder", "Holder: only with the email it was issued to"),
                        ],
                        default="bearer",
                        help_text="Whose code is accepted at the checkout.",
                        max_length=6,
                        verbose_name="redemption rule",
                    ),
                ),
                (
                    "minimum_validity_days",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="A code with fewer days left, today not counted, is not issued any more.",
                        verbose_name="minimum validity (days)",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(
                        django.db.models.functions.text.Upper("id"),
                        name="course_id_unique_without_case",
                        violation_error_message="There is a course with this id already, in other upper or lower case letters.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("id__regex", "^[A-Za-z0-9._-]{1,64}$")), name="course_id_form"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("price__isnull", True), ("price__gte", 0), _connector="OR"),
                        name="course_price_not_negative",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("currency__regex", "^[a-z]{3}$")), name="course_currency_form"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("redemption__in", ["bearer", "issued", "holder"])),
                        name="course_redemption_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Purchase",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "provider",
                    models.CharField(
                        choices=[("stripe", "Stripe"), ("paypal", "PayPal"), ("voucher", "Voucher")], max_length=10
                    ),
                ),
                ("reference", models.CharField(max_length=255)),
                ("email", models.CharField(blank=True, max_length=254)),
                ("quantity", models.PositiveIntegerField(default=1)),
                (
                    "amount",
                    models.DecimalField(decimal_places=2, help_text="In major units, for all seats.", max_digits=12),
                ),
                ("currency", models.CharField(max_length=3)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("paid_at", models.DateTimeField(blank=True, null=True)),
                ("refunded_at", models.DateTimeField(blank=True, null=True)),
                ("disputed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "course",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="purchases", to="courses.course"
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at"],
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "reference"), name="purchase_once_per_reference"),
                    models.CheckConstraint(
                        condition=models.Q(("provider__in", ["stripe", "paypal", "voucher"])),
                        name="purchase_provider_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reference", ""), _negated=True), name="purchase_has_reference"
                    ),
                    models.CheckConstraint(condition=models.Q(("quantity__gte", 1)), name="purchase_has_a_seat"),
                    models.CheckConstraint(condition=models.Q(("amount__gte", 0)), name="purchase_amount_not_negative"),
                    models.CheckConstraint(
                        condition=models.Q(("currency__regex", "^[a-z]{3}$")), name="purchase_currency_form"
                    ),
                ],
            },
        ),
    ]
