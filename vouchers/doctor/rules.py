"""Whether the rules that the database holds are in force: what it does not refuse, no check finds for long."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import ProgrammingError, connection

from vouchers.doctor.check import Check, HealableCheck, Row
from vouchers.errors import NotHealable

OURS = ("courses", "vouchers")
TRIGGERS = [
    "voucher_rules",
    "voucher_begins",
    "voucher_is_accounted_for",
    "voucher_insert_tallied",
    "voucher_update_tallied",
    "voucher_delete_tallied",
    "voucher_truncate_tallied",
    "issuance_rules",
    "issuance_returned_with_voucher",
    "issuance_names_the_holder",
    "redemption_rules",
]
KEYS = ["voucher_of_batch"]  # that the migrations make by hand
TABLES = "SELECT oid, relname FROM pg_class WHERE pg_table_is_visible(oid) AND relname ~ '^(courses|vouchers)_'"


class RulesOn(HealableCheck):
    name = "rules_on"
    title = "No trigger of a table of the desk is switched off"
    breaks = f"""
        SELECT t.relname || '.' || g.tgname AS key, t.relname AS table, g.tgname AS trigger
        FROM pg_trigger g JOIN ({TABLES}) AS t ON t.oid = g.tgrelid WHERE g.tgenabled NOT IN ('O', 'A')
    """  # noqa: S608  # made of constants
    sentence = "Trigger {trigger} of table {table} is switched off."
    advice = "Somebody with the right to it has to switch it on: ALTER TABLE … ENABLE TRIGGER ALL."

    def mend(self, row: Row) -> None:
        table, trigger = (connection.ops.quote_name(row[name]) for name in ("table", "trigger"))
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")
        except ProgrammingError as error:  # the keys' own triggers are for superusers
            raise NotHealable(self.advice) from error


class RulesThere(Check):
    name = "rules_there"
    title = "Every trigger, constraint and index is there, and valid"
    breaks = f"""
        SELECT 'trigger ' || name AS key, 'is missing' AS why FROM unnest(%s::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM pg_trigger g JOIN ({TABLES}) AS t ON t.oid = g.tgrelid WHERE g.tgname = name)
        UNION ALL
        SELECT 'constraint or index ' || name, 'is missing' FROM unnest(%s::text[]) AS name
        WHERE NOT EXISTS (
            SELECT FROM pg_class i WHERE i.relname = name AND i.relkind = 'i' AND pg_table_is_visible(i.oid)
        ) AND NOT EXISTS (
            SELECT FROM pg_constraint c JOIN ({TABLES}) AS t ON t.oid = c.conrelid WHERE c.conname = name
        )
        UNION ALL
        SELECT 'constraint ' || c.conname, 'is not validated'
        FROM pg_constraint c JOIN ({TABLES}) AS t ON t.oid = c.conrelid WHERE NOT c.convalidated
        UNION ALL
        SELECT 'index ' || x.indexrelid::regclass, 'is not valid'
        FROM pg_index x JOIN ({TABLES}) AS t ON t.oid = x.indrelid WHERE NOT x.indisvalid
    """  # noqa: S608  # made of constants
    sentence = "The {key} {why}."
    advice = "Restore it as the migrations make it; what it was to keep out may be in the tables by now."

    def statement(self) -> tuple[str, list[Any]]:
        return self.breaks, [TRIGGERS, _promised()]


def _promised() -> list[str]:
    """The names of the constraints and indexes, of which the models declare nearly all."""
    models = [model for label in OURS for model in apps.get_app_config(label).get_models()]
    declared = [rule.name for model in models for rule in (*model._meta.constraints, *model._meta.indexes)]
    return KEYS + declared
