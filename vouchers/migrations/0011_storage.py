"""How the hot tables and their indexes are kept: docs/decisions/0021."""

import vouchers.models.outgoing
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0005_storage"),
        ("vouchers", "0010_counters"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="delivery",
            name="delivery_once_per_purchase",
        ),
        migrations.RemoveConstraint(
            model_name="delivery",
            name="delivery_once_per_alert",
        ),
        migrations.RemoveConstraint(
            model_name="issuance",
            name="issuance_once_per_unit",
        ),
        migrations.RemoveConstraint(
            model_name="voucher",
            name="voucher_code_form",
        ),
        migrations.AlterField(
            model_name="delivery",
            name="message_id",
            field=models.CharField(max_length=255, verbose_name="Message-ID"),
        ),
        migrations.AlterField(
            model_name="webhookmessage",
            name="message_id",
            field=models.CharField(
                default=vouchers.models.outgoing.new_message_id, max_length=40, verbose_name="webhook-id"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                condition=models.Q(("purchase__isnull", False)),
                fields=("purchase", "kind", "series"),
                name="delivery_once_per_purchase",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                condition=models.Q(("course__isnull", False)),
                fields=("course", "kind", "series", "email"),
                name="delivery_once_per_alert",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(fields=("message_id",), name="delivery_once_per_message_id"),
        ),
        migrations.AddConstraint(
            model_name="issuance",
            constraint=models.UniqueConstraint(
                condition=models.Q(("purchase__isnull", False)),
                fields=("purchase", "unit"),
                name="issuance_once_per_unit",
            ),
        ),
        migrations.AddConstraint(
            model_name="voucher",
            constraint=models.CheckConstraint(
                condition=models.Q(("code__regex", "^[A-Za-z0-9][!-~]{3,}$")), name="voucher_code_form"
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookmessage",
            constraint=models.UniqueConstraint(fields=("message_id",), name="webhook_message_once_per_id"),
        ),
    ]
