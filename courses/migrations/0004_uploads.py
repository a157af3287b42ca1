"""How often something was added to a pool."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("courses", "0003_support")]

    operations = [
        migrations.AddField(
            model_name="course",
            name="uploads",
            field=models.BigIntegerField(
                db_default=0,
                editable=False,
                help_text="Goes up with whatever is added to the pool (docs/decisions/0018).",
            ),
        ),
    ]
