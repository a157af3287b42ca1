"""python manage.py load_demo"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from courses.models import Course
from vouchers.importing.reading import read_list
from vouchers.importing.storing import Upload, import_codes
from vouchers.models import Batch

COURSES = [
    ("JS101", "JavaScript Basics", "49.00", 100),
    ("PY201", "Python in Practice", "79.00", 60),
    ("SQL110", "SQL for Everybody", "39.00", 25),
]
ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # without look-alikes


class Command(BaseCommand):
    help = "Loads three courses with pools into a desk that has none, and leaves any other desk alone."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        if Course.objects.exists():
            return
        for course_id, name, price, number in COURSES:
            course = Course.objects.create(pk=course_id, name=name, price=price)
            upload = Upload(
                course=course,
                actor="demo",
                source=Batch.Source.COMMAND,
                file_name=f"{course_id.lower()}-demo.txt",
            )
            import_codes(upload, read_list(_codes(course_id, number)))
        self.stdout.write(f"Loaded a demo of {len(COURSES)} courses with {sum(row[3] for row in COURSES)} codes.")


def _codes(course_id: str, number: int) -> Iterator[str]:
    for serial in range(1, number + 1):
        yield f"{course_id}-{''.join(secrets.choice(ALPHABET) for _ in range(6))}-{serial:03}"
