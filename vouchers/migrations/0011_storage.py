"""How the hot tables and their indexes are kept."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0010_counters")]

    operations = []
