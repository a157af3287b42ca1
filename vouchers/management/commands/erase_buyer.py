"""python manage.py erase_buyer EMAIL [--dry-run]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from vouchers.management.base import DeskCommand
from vouchers.privacy.erasing import Erased, erase_buyer, find_buyer


class Command(DeskCommand):
    help = "Replaces a buyer's address everywhere in the database by a tombstone; counts stay as they are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the whole address, in upper or lower case letters")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be replaced")

    def handle(self, *args: Any, email: str, dry_run: bool, **options: Any) -> None:
        erased = find_buyer(email=email) if dry_run else erase_buyer(email=email, actor="command")
        for kind, number in erased.counts.items():
            self.stdout.write(f"{number:>8,}  {kind}")
        if erased.owed:
            self.stderr.write(self.style.WARNING(erased.owed.in_words))
        self.stdout.write(_last_line(erased, dry_run=dry_run))


def _last_line(erased: Erased, *, dry_run: bool) -> str:
    if not erased.total:
        return "Nothing here holds this address. Nothing to do."
    rows = "1 row" if erased.total == 1 else f"{erased.total:,} rows"
    if dry_run:
        return f"Would replace it in {rows} by {erased.tombstone}. Nothing was changed."
    return f"Replaced it in {rows} by {erased.tombstone}."
