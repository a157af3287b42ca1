"""python manage.py import_vouchers PATH|- --course JS101"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from courses.models import Course
from vouchers.api.documents import rejected_csv
from vouchers.importing.reading import read_file, sha256_of
from vouchers.importing.storing import Report, Upload, import_codes, rejected_lines, share_read, watched
from vouchers.issuing import find_course
from vouchers.management.base import DeskCommand, bar, expiry, filled_sentence
from vouchers.models import Batch

SHOWN = 10


class Command(DeskCommand):
    help = "Reads voucher codes from a file, one a line or a CSV with a header, into the pool of a course."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", help="the file, or - for standard input")
        parser.add_argument("--course", required=True, help="course id, such as JS101")
        parser.add_argument("--create-course", metavar="NAME", help="make the course under this name if there is none")
        parser.add_argument("--expires-on", type=expiry, metavar="DATE", help="last valid day, such as 2027-12-31")
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, store nothing")
        parser.add_argument("--rejects", metavar="FILE", help="write the lines that were not stored to this CSV")
        parser.add_argument("--strict", action="store_true", help="store nothing unless every line is a new code")

    def handle(self, *args: Any, path: str, rejects: str | None, **options: Any) -> None:
        if rejects and Path(path).exists() and Path(rejects).exists() and Path(path).samefile(rejects):
            raise CommandError("--rejects names the very file that is read. Give it another name.")
        with _opened(path) as file, _created(rejects) as rejects_file, transaction.atomic():
            report = self._import(file, path, **options)
            if rejects_file:
                rejects_file.writelines(rejected_csv(rejected_lines(report.batch)))
            skipped = report.duplicates + report.invalid
            if options["strict"] and skipped:
                self._show(report)
                raise CommandError(f"Nothing was stored: {skipped} of {report.read} lines are no new codes (--strict).")
            if options["dry_run"]:
                transaction.set_rollback(True)
        self._show(report)
        self.stdout.write(_closing_line(report, options["course"]))

    def _import(self, file: BinaryIO, path: str, *, course: str, create_course: str | None, **options: Any) -> Report:
        upload = Upload(
            course=_course(course, create_course),
            actor="command line",
            source=Batch.Source.COMMAND,
            expires_on=options["expires_on"],
            file_name="standard input" if path == "-" else Path(path).name,
            sha256=sha256_of(file),
        )
        with bar("Importing") as watch:
            lines = watched(read_file(file, path), share_read(file), watch)
            return import_codes(upload, lines, dry_run=options["dry_run"], watch=watch)

    def _show(self, report: Report) -> None:
        for rejected in report.rejected[:SHOWN]:
            self.stderr.write(f"line {rejected.line}: {rejected.reason}")
        more = report.duplicates + report.invalid - SHOWN
        if more > 0:
            self.stderr.write(f"… and {more} more; --rejects FILE writes all of them.")


def _course(course_id: str, name: str | None) -> Course:
    if name is None or Course.objects.filter(pk=course_id).exists():
        return find_course(course_id)
    course = Course(pk=course_id, name=name)
    try:
        course.full_clean()
    except ValidationError as error:
        raise CommandError(f"The course cannot be made: {' '.join(error.messages)}") from None
    course.save(force_insert=True)
    return course


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The file. A pipe is taken in whole first, so that a slow one does not hold a transaction open."""
    if path != "-":
        try:
            file = Path(path).open("rb")  # noqa: SIM115  # closed by the context manager below
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
        with file:
            if file.seekable():
                yield file
                return
            with _copied(file) as copy:
                yield copy
        return
    with _copied(sys.stdin.buffer) as copy:
        yield copy


@contextmanager
def _copied(pipe: BinaryIO) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(pipe, copy)
        copy.seek(0)
        yield cast(BinaryIO, copy)


@contextmanager
def _created(path: str | None) -> Iterator[IO[str] | None]:
    """The file for the rejected lines, opened before anything is stored: a wrong path costs nothing."""
    if path is None:
        yield None
        return
    try:
        file = Path(path).open("w", newline="", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
    with file:
        yield file


def _closing_line(report: Report, course_id: str) -> str:
    did = "Would store" if report.batch is None else "Stored"
    counts = f"{report.read} read, {report.inserted} new, {report.duplicates} duplicates, {report.invalid} malformed"
    return f"{did} {report.inserted} codes for {course_id}: {counts}.{filled_sentence(report.filled)}"
