"""One foreign key of a voucher instead of two: docs/decisions/0001.

Checking the two was two fifths of the insert of a code. The batch has a course that exists, so a voucher in a batch of a
course need not be looked up in the courses too; and now none can be in the batch of another course.
"""

import django.db.models.deletion
from django.db import migrations, models

KEY = """
ALTER TABLE vouchers_voucher ADD CONSTRAINT voucher_of_batch
    FOREIGN KEY (course_id, batch_id) REFERENCES vouchers_batch (course_id, id) DEFERRABLE INITIALLY DEFERRED;
"""
UNDO = "ALTER TABLE vouchers_voucher DROP CONSTRAINT voucher_of_batch"


class Migration(migrations.Migration):
    dependencies = [
        ("courses", "0006_lists"),
        ("vouchers", "0012_lists"),
    ]

    operations = [
        migrations.AlterField(
            model_name="voucher",
            name="course",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="vouchers",
                to="courses.course",
            ),
        ),
        migrations.AlterField(
            model_name="voucher",
            name="batch",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="vouchers",
                to="vouchers.batch",
            ),
        ),
        migrations.RemoveIndex(model_name="batch", name="batch_of_course"),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.UniqueConstraint(fields=("course", "id"), name="batch_of_course"),
        ),
        migrations.RunSQL(KEY, UNDO),
    ]
