"""The lists of the admin are read from indexes, and the hot tables are swept early: docs/decisions/0021."""

import datetime

import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models

# By default a fifth of a table is dead before it is swept: of ten million vouchers two million rows, and as many entries
# in each of nine indexes. A fiftieth is swept in seconds.
SWEEP = """
ALTER TABLE vouchers_voucher SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE vouchers_delivery SET (autovacuum_vacuum_scale_factor = 0.02);
"""
UNDO = """
ALTER TABLE vouchers_voucher RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE vouchers_delivery RESET (autovacuum_vacuum_scale_factor);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0006_lists"),
        ("vouchers", "0011_storage"),
    ]

    operations = [
        migrations.AlterField(
            model_name="batch",
            name="course",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="batches", to="courses.course"
            ),
        ),
        migrations.AlterField(
            model_name="idempotencykey",
            name="issuance",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="idempotency_keys",
                to="vouchers.issuance",
            ),
        ),
        migrations.AddIndex(
            model_name="batch",
            index=models.Index(fields=["course", "id"], name="batch_of_course"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("fate", ""), _negated=True), fields=["fate", "id"], name="delivery_fate"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("kind", "voucher"), _negated=True), fields=["kind", "id"], name="delivery_kind"
            ),
        ),
        migrations.AddIndex(
            model_name="issuance",
            index=models.Index(fields=["course", "id"], name="issuance_of_course"),
        ),
        migrations.AddIndex(
            model_name="issuance",
            index=models.Index(
                condition=models.Q(("status__in", ["returned", "cancelled"])),
                fields=["status", "id"],
                name="issuance_closed",
            ),
        ),
        migrations.AddIndex(
            model_name="issuance",
            index=models.Index(
                condition=models.Q(("held_since__isnull", False)), fields=["id"], name="issuance_on_hold"
            ),
        ),
        migrations.AddIndex(
            model_name="keptemail",
            index=models.Index(fields=["message_id"], name="kept_email_message_id"),
        ),
        migrations.AddIndex(
            model_name="keptemail",
            index=models.Index(django.db.models.functions.text.Upper("to"), name="kept_email_to"),
        ),
        migrations.AddIndex(
            model_name="voucher",
            index=models.Index(
                condition=models.Q(("status", "available"), _negated=True),
                fields=["status", "id"],
                name="voucher_status",
            ),
        ),
        migrations.AddIndex(
            model_name="voucher",
            index=models.Index(
                condition=models.Q(("valid_until__lt", datetime.date(9999, 12, 31))),
                fields=["valid_until", "course", "id"],
                name="voucher_expiry",
            ),
        ),
        migrations.RunSQL(SWEEP, UNDO),
    ]
