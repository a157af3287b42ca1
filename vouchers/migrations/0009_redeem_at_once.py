"""A voucher is redeemed in one statement."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0008_issue_at_once")]

    operations = []
