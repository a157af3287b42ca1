"""The rules for codes that buyers see by a link only, for corrected addresses, and for vouchers that are replaced."""

from importlib import import_module

from django.db import migrations

RULES_BEFORE = import_module("vouchers.migrations.0002_rules").RULES


def function(rules: str, name: str) -> str:
    """The statement that makes one function of the rules, so that it also takes the place of what it is now."""
    begin = rules.index(f"CREATE FUNCTION {name}()")
    return rules[begin : rules.index("END $$;", begin)].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION") + (
        "END $$;\n"
    )


def changed(statement: str, before: str, after: str) -> str:
    if statement.count(before) != 1:
        raise ValueError(before)
    return statement.replace(before, after)


VOUCHER_BEFORE = function(RULES_BEFORE, "vouchers_voucher_rules")
ACCOUNTED_BEFORE = function(RULES_BEFORE, "vouchers_voucher_is_accounted_for")
ISSUANCE_BEFORE = function(RULES_BEFORE, "vouchers_issuance_rules")

# Back to the pool only what nobody saw: not on the page of its link, not in an answer to a program, in no email, and what
# nobody has typed at a checkout since it was issued.
VOUCHER = changed(
    changed(
        VOUCHER_BEFORE,
        "i.seen_at IS NULL",
        "i.seen_at IS NULL AND i.told_at IS NULL AND NOT EXISTS (SELECT FROM vouchers_redeemattempt a"
        " WHERE a.voucher_id = OLD.id AND a.last_at >= OLD.issued_at)",
    ),
    "d.issuance_id = i.id AND d.attempts > 0",
    "d.issuance_id = i.id AND d.attempts > 0 AND d.carries_code",
)
# Voucher and issuance name the same holder.
ACCOUNTED = changed(
    ACCOUNTED_BEFORE,
    "WHERE i.voucher_id = this AND i.status = 'issued'\n",
    "JOIN vouchers_voucher v ON v.id = i.voucher_id\n"
    "        WHERE i.voucher_id = this AND i.status = 'issued' AND i.email = v.issued_to\n",
)
# Another voucher only in the place of a revoked one, and written down.
ISSUANCE = changed(
    changed(
        ISSUANCE_BEFORE,
        "OR (OLD.voucher_id IS NOT NULL AND NEW.voucher_id IS DISTINCT FROM OLD.voucher_id)",
        """OR (OLD.voucher_id IS NOT NULL AND NEW.voucher_id IS DISTINCT FROM OLD.voucher_id AND (
                NEW.voucher_id IS NULL OR NEW.status <> 'issued' OR NOT EXISTS (
                    SELECT FROM vouchers_replacement r JOIN vouchers_voucher v ON v.id = r.voucher_id
                    WHERE r.issuance_id = OLD.id AND r.voucher_id = OLD.voucher_id AND v.status = 'revoked'
                )
            ))""",
    ),
    "(TG_OP = 'INSERT' OR OLD.voucher_id IS NULL)",
    "(TG_OP = 'INSERT' OR NEW.voucher_id IS DISTINCT FROM OLD.voucher_id)",
)

VOUCHER_TRIGGER = """
DROP TRIGGER voucher_is_accounted_for ON vouchers_voucher;
CREATE CONSTRAINT TRIGGER voucher_is_accounted_for AFTER UPDATE ON vouchers_voucher
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status IN ('issued', 'redeemed')
        AND (NEW.status <> OLD.status OR NEW.status = 'issued' AND NEW.issued_to <> OLD.issued_to))
    EXECUTE FUNCTION vouchers_voucher_is_accounted_for();
"""
VOUCHER_TRIGGER_BEFORE = """
DROP TRIGGER voucher_is_accounted_for ON vouchers_voucher;
CREATE CONSTRAINT TRIGGER voucher_is_accounted_for AFTER UPDATE ON vouchers_voucher
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status IN ('issued', 'redeemed') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION vouchers_voucher_is_accounted_for();
"""
ISSUANCE_TRIGGER = """
CREATE CONSTRAINT TRIGGER issuance_names_the_holder AFTER UPDATE ON vouchers_issuance
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status = 'issued' AND NEW.email <> OLD.email)
    EXECUTE FUNCTION vouchers_voucher_is_accounted_for();
"""
# What staff did to a row, for its timeline; Django itself never looks it up.
DEEDS = "CREATE INDEX desk_deeds_of_row ON django_admin_log (object_id, content_type_id);"
# Until now every email of a voucher carried its code, and every program that asked was answered with it.
FACTS = """
UPDATE vouchers_delivery SET carries_code = true WHERE kind = 'voucher';
UPDATE vouchers_issuance SET told_at = issued_at WHERE issued_at IS NOT NULL AND caller LIKE 'key:%';
"""


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0006_support"), ("admin", "0003_logentry_add_action_flag_choices")]

    operations = [
        migrations.RunSQL(VOUCHER, VOUCHER_BEFORE),
        migrations.RunSQL(ACCOUNTED, ACCOUNTED_BEFORE),
        migrations.RunSQL(ISSUANCE, ISSUANCE_BEFORE),
        migrations.RunSQL(VOUCHER_TRIGGER, VOUCHER_TRIGGER_BEFORE),
        migrations.RunSQL(ISSUANCE_TRIGGER, "DROP TRIGGER issuance_names_the_holder ON vouchers_issuance;"),
        migrations.RunSQL(DEEDS, "DROP INDEX desk_deeds_of_row;"),
        migrations.RunSQL(FACTS, migrations.RunSQL.noop),
    ]
