"""python manage.py vouchers_summary [--json | --csv]"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from vouchers.api.documents import harmless_cell
from vouchers.summary import summary

NUMBERS = ("total", "issued", "remaining", "redeemed", "waiting", "expired", "revoked")
COLUMNS = ("courseId", *NUMBERS, "name")
BAR = 20


class Command(BaseCommand):
    help = "Shows how many vouchers of each course there are, are issued and remain."

    def add_arguments(self, parser: CommandParser) -> None:
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_const", const="json", dest="form", help="as the API gives it")
        form.add_argument("--csv", action="store_const", const="csv", dest="form", help="for a spreadsheet")

    def handle(self, *args: Any, form: str | None, **options: Any) -> None:
        rows: Sequence[Mapping[str, Any]] = summary()
        if form == "json":
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False))
        elif form == "csv":
            writer = csv.writer(self.stdout)
            writer.writerow(COLUMNS)
            writer.writerows([harmless_cell(row[column]) for column in COLUMNS] for row in rows)
        else:
            self._table(rows)

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            self.stdout.write(
                "There are no courses yet. Add one in the admin, or with import_vouchers --create-course."
            )
            return
        width = max(len("course"), *(len(row["courseId"]) for row in rows))
        self.stdout.write(f"{'course':<{width}} " + " ".join(f"{name:>9}" for name in NUMBERS) + "  remaining")
        for row in rows:
            counts = " ".join(f"{row[name]:>9}" for name in NUMBERS)
            share = row["remaining"] / row["total"] if row["total"] else 0
            bar = "█" * round(BAR * share)
            self.stdout.write(f"{row['courseId']:<{width}} {counts}  {bar:░<{BAR}} {share:>4.0%}")
