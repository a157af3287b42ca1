"""A voucher is issued in one statement."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0007_rules_of_support")]

    operations = []
