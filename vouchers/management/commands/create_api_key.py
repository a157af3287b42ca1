"""python manage.py create_api_key NAME --scope issue --scope manage"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from vouchers.models import ApiKey


class Command(BaseCommand):
    help = "Makes an API key and prints it, this once: the key alone is the last line of standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the key is for, to tell it from others (50 characters)")
        parser.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=ApiKey.Scope.values,
            dest="scopes",
            help="what the key may do; give it again for more",
        )

    def handle(self, *args: Any, name: str, scopes: list[str], **options: Any) -> None:
        name = name.strip()
        if not 1 <= len(name) <= 50:
            raise CommandError("The name of a key has 1 to 50 characters.")
        _, key = ApiKey.objects.create_key(name=name, scopes=sorted(set(scopes)))
        self.stderr.write(f"Key {name} made with {', '.join(sorted(set(scopes)))}. It is shown only now:")
        self.stdout.write(key)
