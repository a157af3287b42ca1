"""python manage.py generate_vouchers COURSE NUMBER [--pattern PATTERN]"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import CommandParser

from vouchers.generating import DEFAULT_PATTERN, check_pattern, generate_batch, preview
from vouchers.importing.storing import Report
from vouchers.issuing import find_course
from vouchers.management.base import DeskCommand, bar, expiry, filled_sentence


class Command(DeskCommand):
    help = "Generates new voucher codes into the pool of a course, for shops that have no supplier."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("course", help="course id, such as JS101")
        parser.add_argument("number", type=int, help="how many codes, up to 1,000,000")
        parser.add_argument(
            "--pattern",
            default=DEFAULT_PATTERN,
            help="what a code looks like: {course}, {random:6} for six random characters, {serial:3} for a number of "
            "at least three digits, everything else as it is (%(default)s)",
        )
        parser.add_argument("--expires-on", type=expiry, metavar="DATE", help="last valid day, such as 2027-12-31")
        parser.add_argument("--insist", action="store_true", help="take a pattern whose codes are too easy to guess")
        parser.add_argument("--dry-run", action="store_true", help="show three such codes, store nothing")

    def handle(self, *args: Any, course: str, number: int, pattern: str, insist: bool, **options: Any) -> None:
        found = find_course(course)
        seen = preview(found, pattern, number)
        if options["dry_run"]:
            self.stdout.write("\n".join(seen.samples))
        check_pattern(found, pattern, number, insist=insist)
        self.stderr.write(seen.sentence)
        if options["dry_run"]:
            self.stdout.write(f"Would generate {number} codes like these for {course}.")
            return
        with bar("Generating") as watch:
            report = generate_batch(
                course=found,
                actor="command line",
                number=number,
                pattern=pattern,
                expires_on=options["expires_on"],
                insist=insist,
                watch=watch,
            )
        self.stdout.write(_closing_line(report, course, options["expires_on"]))


def _closing_line(report: Report, course_id: str, expires_on: dt.date | None) -> str:
    generated = f"Generated {report.inserted} codes for {course_id} (batch {report.batch and report.batch.pk})"
    validity = f"valid through {expires_on}" if expires_on else "without an expiry"
    return f"{generated}: {validity}.{filled_sentence(report.filled)}"
