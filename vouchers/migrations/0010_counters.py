"""What the summary says is counted where it changes: docs/decisions/0020.

Why triggers for statements, with tables of the rows before and after: every path counts (COPY, the admin, SQL), and 50,000
rows at once cost one row here.
"""

import django.db.models.deletion
from django.db import migrations, models

TALLIES = """
CREATE FUNCTION vouchers_voucher_tallied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
            SELECT course_id, status, issued_at IS NOT NULL, valid_until, count(*)
            FROM rows_after GROUP BY 1, 2, 3, 4;
    ELSIF TG_OP = 'UPDATE' THEN
        -- A note that changes adds nothing.
        INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
            SELECT course_id, status, issued_at IS NOT NULL, valid_until, sum(number)
            FROM (
                SELECT course_id, status, issued_at, valid_until, 1 AS number FROM rows_after
                UNION ALL SELECT course_id, status, issued_at, valid_until, -1 FROM rows_before
            ) AS changes
            GROUP BY 1, 2, 3, 4 HAVING sum(number) <> 0;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
            SELECT course_id, status, issued_at IS NOT NULL, valid_until, -count(*)
            FROM rows_before GROUP BY 1, 2, 3, 4;
    ELSE
        DELETE FROM vouchers_tally;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER voucher_insert_tallied AFTER INSERT ON vouchers_voucher
    REFERENCING NEW TABLE AS rows_after FOR EACH STATEMENT EXECUTE FUNCTION vouchers_voucher_tallied();
CREATE TRIGGER voucher_update_tallied AFTER UPDATE ON vouchers_voucher
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION vouchers_voucher_tallied();
CREATE TRIGGER voucher_delete_tallied AFTER DELETE ON vouchers_voucher
    REFERENCING OLD TABLE AS rows_before FOR EACH STATEMENT EXECUTE FUNCTION vouchers_voucher_tallied();
CREATE TRIGGER voucher_truncate_tallied AFTER TRUNCATE ON vouchers_voucher
    FOR EACH STATEMENT EXECUTE FUNCTION vouchers_voucher_tallied();

-- After the triggers: to make one waits for whoever writes, and keeps others from it until all this is committed.
INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
    SELECT course_id, status, issued_at IS NOT NULL, valid_until, count(*) FROM vouchers_voucher GROUP BY 1, 2, 3, 4;

-- Folding leaves as many dead rows as there were changes; every reader steps over them until they are swept.
ALTER TABLE vouchers_tally SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);
"""

UNDO = """
DROP TRIGGER voucher_truncate_tallied ON vouchers_voucher;
DROP TRIGGER voucher_delete_tallied ON vouchers_voucher;
DROP TRIGGER voucher_update_tallied ON vouchers_voucher;
DROP TRIGGER voucher_insert_tallied ON vouchers_voucher;
DROP FUNCTION vouchers_voucher_tallied();
"""


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0009_redeem_at_once")]

    operations = [
        migrations.CreateModel(
            name="Tally",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("available", "Available"),
                            ("issued", "Issued"),
                            ("redeemed", "Redeemed"),
                            ("revoked", "Revoked"),
                        ],
                        max_length=9,
                    ),
                ),
                ("was_issued", models.BooleanField(help_text="Whether it ever left the pool to a holder.")),
                ("valid_until", models.DateField()),
                ("number", models.IntegerField()),
                (
                    "course",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="tallies",
                        to="courses.course",
                    ),
                ),
            ],
            options={"verbose_name_plural": "tallies"},
        ),
        migrations.RunSQL(TALLIES, UNDO),
        migrations.RemoveIndex(model_name="issuance", name="issuance_queue"),
        migrations.AddIndex(
            model_name="issuance",
            index=models.Index(
                condition=models.Q(("status", "waiting")),
                fields=["course", "created_at", "id"],
                name="issuance_queue",
            ),
        ),
    ]
