"""python manage.py issue_vouchers COURSE FILE|- [--batch-key KEY]"""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from vouchers.api.documents import harmless_cell
from vouchers.bulk_issuing import BATCH_KEY_MAX, LineResult, ListRequest, issue_in_parts
from vouchers.management.base import DeskCommand

HEADER = "email"
SAVED_AS = ("utf-8-sig", "cp1252")  # by editors and spreadsheets
PART_SUFFIX = len(" part 100000")


class Command(DeskCommand):
    help = (
        "Issues a voucher of a course to each email of a file, or queues it where the pool is empty. Prints the line, "
        "its status, the email and the code (or the place in the queue, or what is wrong) with tabs between them. "
        "Safe to repeat: an email that waits or still holds a valid unredeemed voucher is found, not issued again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("course", help="course id, such as JS101")
        parser.add_argument("file", help="an email on each line, or in the first column of a CSV; - for standard input")
        parser.add_argument(
            "--batch-key",
            default="",
            metavar="KEY",
            help="a name of your choice for this file: each email gets a voucher more, and the same file under the "
            "same name finds those again, even redeemed ones",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="say what would happen, store nothing; until it is done, buyers do without the codes it would give",
        )

    def handle(self, *args: Any, course: str, file: str, batch_key: str, dry_run: bool, **options: Any) -> None:
        if not re.fullmatch(f"[ -~]{{0,{BATCH_KEY_MAX - PART_SUFFIX}}}", batch_key):
            raise CommandError(f"A batch key has up to {BATCH_KEY_MAX - PART_SUFFIX} printable ASCII characters.")
        numbered = _emails(_text(file))
        if not numbered:
            raise CommandError("There are no emails in it. Put one on each line.")
        request = ListRequest(
            course_id=course,
            emails=list(numbered.values()),
            caller="command",
            batch_key=batch_key,
            tells_code=True,  # who reads what is printed may hand it on
        )
        counts: Counter[str] = Counter()
        with transaction.atomic() if dry_run else nullcontext():
            for results in issue_in_parts(request):
                self._show(results, list(numbered), dry_run=dry_run)
                counts.update(result.counted_as for result in results)
            if dry_run:
                transaction.set_rollback(True)
        self.stdout.write(_closing_line(counts, course, dry_run=dry_run))

    def _show(self, results: list[LineResult], numbers: list[int], *, dry_run: bool) -> None:
        for result in results:
            said = "" if dry_run and result.status == "issued" else _said(result)
            cells = [numbers[result.line.number - 1], result.counted_as, result.line.email, said]
            self.stdout.write("\t".join(str(harmless_cell(cell)) for cell in cells))


def _said(result: LineResult) -> str:
    if result.voucher:
        return result.voucher.code
    return result.problem or f"number {result.position} in the queue"


def _text(path: str) -> str:
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    if b"\0" not in content:
        for encoding in SAVED_AS:
            with suppress(UnicodeDecodeError):
                return content.decode(encoding)
    raise CommandError(f"{path} is no text. Save it as a text or CSV file in UTF-8, an email on each line.")


def _emails(text: str) -> dict[int, str]:
    """The first cell of each line that is not blank, by the number of the line."""
    cells = {number: re.split("[,;\t]", line, maxsplit=1)[0] for number, line in enumerate(text.splitlines(), 1)}
    emails = {number: cell.strip().strip('"').strip() for number, cell in cells.items()}
    first = next(iter(number for number, email in emails.items() if email), 0)
    return {n: email for n, email in emails.items() if email and not (n == first and email.lower() == HEADER)}


def _closing_line(counts: Counter[str], course: str, *, dry_run: bool) -> str:
    did = "Would issue" if dry_run else "Issued"
    rest = ", ".join(f"{counts[kind]} {kind}" for kind in ("found", "waiting", "closed", "invalid"))
    return f"{did} {counts['issued']} vouchers of {course} to {counts.total()} lines: {rest}."
