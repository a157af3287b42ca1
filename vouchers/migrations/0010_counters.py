"""What the summary says is counted where it changes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0009_redeem_at_once")]

    operations = []
