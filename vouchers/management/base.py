"""What the desk's commands share: an error of the desk ends a command as a sentence."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from vouchers.errors import DeskError


class DeskCommand(BaseCommand):
    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DeskError as error:
            raise CommandError(error.message) from error
