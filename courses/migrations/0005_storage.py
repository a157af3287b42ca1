"""How the indexes of purchases are kept: docs/decisions/0021."""

import courses.models.purchase
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0004_uploads"),
    ]

    operations = [
        migrations.AlterField(
            model_name="purchase",
            name="token",
            field=models.CharField(default=courses.models.purchase.new_token, editable=False, max_length=43),
        ),
        migrations.AddConstraint(
            model_name="purchase",
            constraint=models.UniqueConstraint(fields=("token",), name="purchase_once_per_token"),
        ),
    ]
