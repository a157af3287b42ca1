"""The migrations say what the models say, and dj-stripe's tables are what its own migrations would have made."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from config.management.commands.migrate import Command
from tests.running import ROOT, database

SHAPE = """
SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        pg_get_expr(d.adbin, d.adrelid), a.attidentity::text)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind = 'r' AND c.relname LIKE 'djstripe%' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'djstripe%'
UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid::regclass::text LIKE 'djstripe%'
UNION ALL SELECT concat_ws(' ', app, name) FROM django_migrations
ORDER BY 1
"""


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "--check", "--dry-run")


def run(url: str, command: str) -> None:
    subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, check=True, timeout=600
    )


def migrated(url: str, *commands: str) -> list[str]:
    """What the tables of dj-stripe are like after these commands of Django's on an empty database."""
    for command in commands:
        run(url, command)
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(SHAPE)]


SET_UP = "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'\ndjango.setup()\n"
MIGRATE = "from django.core.management import call_command\ncall_command({}, verbosity=0)"
DJANGOS = "from django.core.management.commands.migrate import Command\n"
OURS = SET_UP + MIGRATE.format("'migrate'")
THEIRS = SET_UP + DJANGOS + MIGRATE.format("Command()")
SOLD = "call_command('load_demo')\ncall_command('issue_voucher', 'JS101', 'ann@example.com')\n"

INDEXES_AND_SETTINGS = """
SELECT indexdef FROM pg_indexes WHERE tablename ~ '^(courses|vouchers)_'
UNION ALL SELECT relname || ' ' || reloptions::text FROM pg_class
    WHERE relname ~ '^(courses|vouchers)_' AND reloptions IS NOT NULL
"""


def indexes_and_settings(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute(INDEXES_AND_SETTINGS)}


@pytest.mark.long
def test_the_tables_made_at_once_are_those_of_the_migrations() -> None:
    with database() as at_once, database() as step_by_step:
        shape = migrated(at_once, OURS)
        assert len(shape) > 1500
        assert shape == migrated(step_by_step, THEIRS)


def test_a_second_migrate_finds_nothing_to_do() -> None:
    with database() as url:
        assert migrated(url, OURS) == migrated(url, OURS)


@pytest.mark.long
def test_the_indexes_of_a_desk_that_sold_something_can_be_changed_and_changed_back() -> None:
    with database() as url:
        run(url, OURS)
        run(url, SET_UP + "from django.core.management import call_command\n" + SOLD)
        after = indexes_and_settings(url)
        assert "vouchers_delivery {autovacuum_vacuum_scale_factor=0.02}" in after

        run(url, SET_UP + MIGRATE.format("'migrate', 'vouchers', '0011'"))
        run(url, SET_UP + MIGRATE.format("'migrate', 'courses', '0005'"))
        before = indexes_and_settings(url)
        assert not any(line.startswith("vouchers_delivery {") for line in before)
        assert any("courses_purchase USING btree (course_id varchar_pattern_ops)" in line for line in before)

        run(url, OURS)
        assert indexes_and_settings(url) == after


@pytest.mark.django_db
def test_it_leaves_a_database_with_tables_of_dj_stripe_to_their_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.db.backends.base.schema.BaseDatabaseSchemaEditor.create_model", None)
    Command().create_at_once(connection, {"database": "default", "verbosity": 0})
