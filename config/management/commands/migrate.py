"""Django's migrate without the time limits of requests: an index on a large table may take longer.

A database in which dj-stripe has no tables yet gets them at once, as its migrations leave them; docs/decisions/0012.
"""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import RunPython, RunSQL, SeparateDatabaseAndState

# A data migration that thinks in Python leaves its transaction idle meanwhile, so that limit goes too.
LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
AT_ONCE = "djstripe"
BESIDE_THE_MODELS = (RunPython, RunSQL, SeparateDatabaseAndState)
# Asked for one of these, migrate does something else than everything.
PARTIAL = ("app_label", "plan", "check_unapplied", "fake", "fake_initial", "prune")


class Command(Migrate):
    def handle(self, *args: Any, **options: Any) -> str | None:
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            for limit in LIMITS:
                cursor.execute(f"SET {limit} = 0")
            try:
                if not any(options.get(name) for name in PARTIAL):
                    self.create_at_once(connection, options)
                return super().handle(*args, **options)
            finally:
                for limit in LIMITS:
                    cursor.execute(f"RESET {limit}")

    def create_at_once(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        """Creates the tables of dj-stripe from the last state of its migrations, and records these as applied.

        Its second migration removes 514 fields one by one and takes half a minute; nothing of it needs to happen
        where no table exists. Where a migration does more than describe models, all of them run as they are.
        """
        executor = MigrationExecutor(connection)
        graph = executor.loader.graph
        ours = [node for node in graph.nodes if node[0] == AT_ONCE]
        operations = [operation for node in ours for operation in graph.nodes[node].operations]
        if any(node in executor.loader.applied_migrations for node in ours):
            return
        if any(isinstance(operation, BESIDE_THE_MODELS) for operation in operations):
            return
        leaves = graph.leaf_nodes(AT_ONCE)
        needed = {node[0] for leaf in leaves for node in graph.forwards_plan(leaf)} - {AT_ONCE}
        for app_label in sorted(needed):
            call_command(Migrate(), app_label, database=options["database"], verbosity=0, interactive=False)
        models = executor.loader.project_state(leaves).apps.get_app_config(AT_ONCE).get_models()
        with transaction.atomic(using=options["database"]):
            with connection.schema_editor() as editor:
                for model in models:
                    editor.create_model(model)
            for node in ours:
                executor.recorder.record_applied(*node)
        if options["verbosity"] >= 1:
            self.stdout.write(f"  Created the tables of {AT_ONCE} as its {len(ours)} migrations leave them.")
