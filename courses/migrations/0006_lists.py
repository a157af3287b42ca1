"""The list of purchases is read from indexes: docs/decisions/0021."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0005_storage"),
    ]

    operations = [
        migrations.AlterField(
            model_name="purchase",
            name="course",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="purchases",
                to="courses.course",
            ),
        ),
        migrations.AddIndex(
            model_name="purchase",
            index=models.Index(fields=["course", "-created_at"], name="purchase_of_course"),
        ),
        migrations.AddIndex(
            model_name="purchase",
            index=models.Index(condition=models.Q(("paid_at", None)), fields=["-created_at"], name="purchase_not_paid"),
        ),
        migrations.AddIndex(
            model_name="purchase",
            index=models.Index(
                condition=models.Q(("refunded_at__isnull", False)), fields=["-created_at"], name="purchase_refunded"
            ),
        ),
        migrations.AddIndex(
            model_name="purchase",
            index=models.Index(
                condition=models.Q(("disputed_at__isnull", False)), fields=["-created_at"], name="purchase_disputed"
            ),
        ),
    ]
