"""python manage.py reconcile [--days 3]"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from vouchers.management.base import DeskCommand
from vouchers.payments.providers import ready_providers
from vouchers.payments.reconciling import LOOK_BACK, reconcile


class Command(DeskCommand):
    help = "Asks the payment providers what happened lately, and fills in what a lost webhook never told."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=int, default=LOOK_BACK.days, help="how far to look back (default: %(default)s)"
        )

    def handle(self, *args: Any, days: int, **options: Any) -> None:
        if not 1 <= days <= 365:
            raise CommandError("--days: from 1 to 365.")
        if not ready_providers():
            self.stdout.write("No payment provider is set up, so there is nobody to ask.")
            return
        result = reconcile(timezone.now() - dt.timedelta(days=days))
        if result.problems:
            raise CommandError(" ".join(result.problems))
        self.stdout.write(f"Looked at {result.looked_at} payments; filled in {result.filled_in} missing facts.")
