"""python manage.py load_demo"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from courses.models import Course
from vouchers.generating import generate_batch

COURSES = [
    ("JS101", "JavaScript Basics", "49.00", 100, "From the first variable to a small page that answers its visitors."),
    (
        "PY201",
        "Python in Practice",
        "79.00",
        60,
        "Files, tables and the web: programs that take over the dull part of a day.",
    ),
    ("SQL110", "SQL for Everybody", "39.00", 25, "Ask a database what you want to know, and trust the answer."),
]


class Command(BaseCommand):
    help = "Loads three courses with pools into a desk that has none, and leaves any other desk alone."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        if Course.objects.exists():
            return
        for course_id, name, price, number, description in COURSES:
            course = Course.objects.create(pk=course_id, name=name, price=price, description=description)
            generate_batch(course=course, actor="demo", number=number)
        self.stdout.write(f"Loaded a demo of {len(COURSES)} courses with {sum(row[3] for row in COURSES)} codes.")
