"""Import: codes read from anywhere become vouchers of one course, and every line is accounted for.

The lines are cleaned and copied into a temporary table; then one transaction stores what is new, writes down
what was rejected and why, and fills the queue of waiting buyers: all of it or nothing.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from django.db import connection, transaction
from django.utils import timezone

from courses.models import Course
from vouchers.errors import InvalidRequest
from vouchers.filling import fill_waiting
from vouchers.importing.lines import Line
from vouchers.importing.staging import stage
from vouchers.importing.statements import (
    CHECK_AT_ONCE,
    CHECK_LATER,
    COUNT_FRESH,
    COUNT_JUDGED,
    CREATE_FRESH,
    CREATE_STAGED,
    FORGET_JUDGED,
    INDEX_FRESH,
    INSERT_NEW,
    JUDGE_STAGED,
    JUDGE_STORED,
    KEEP_REJECTED,
    SELECT_FIRST,
    SELECT_REJECTED,
)
from vouchers.models import Batch
from vouchers.pool import note_upload

REPORTED = 1000
FIRST_LINES = 10
# So many codes at a time: often enough to say how far it is, and to be cancelled.
SLICE = 50_000
WATCHED_LINES = 1000
TRIES = 3
# How far an import of 1,000,000 codes is when all are read, and when all are inserted; measured.
READ, INSERTED = 0.1, 0.95

Watch = Callable[[float], None]
"""Told how far an import is, from 0 to 1; whatever it raises ends the import, and nothing is stored."""


def nobody(share: float) -> None:
    """For imports that nobody watches."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Where codes come from. `expires_on` is the last valid day of codes that bring none of their own."""

    course: Course
    actor: str
    source: str
    expires_on: dt.date | None = None
    file_name: str = ""
    sha256: str = ""
    pattern: str = ""

    @classmethod
    def of(cls, batch: Batch) -> Upload:
        return cls(
            course=batch.course,
            actor=batch.actor,
            source=batch.source,
            expires_on=batch.expires_on,
            file_name=batch.file_name,
            sha256=batch.sha256,
            pattern=batch.pattern,
        )

    def new_batch(self, **more: Any) -> Batch:
        return Batch.objects.create(
            course=self.course,
            actor=self.actor[:200],
            source=self.source,
            file_name=self.file_name[:255],
            sha256=self.sha256,
            expires_on=self.expires_on,
            pattern=self.pattern,
            **more,
        )


@dataclass(frozen=True)
class Rejected:
    """A line that does not become a voucher; `reason` says where it already is, or what is wrong with it."""

    line: int
    code: str
    course: str
    expires_on: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """How many lines did not become vouchers; `missing` are those that have to be tried again."""

    duplicates: int
    repeated: int
    invalid: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """`read = inserted + duplicates + invalid`; `repeated` of the duplicates are of an earlier line of the same
    upload. `batch` is None after a dry run; `rejected` are the first 1,000 of each kind, in the order of their
    lines."""

    batch: Batch | None
    read: int
    inserted: int
    duplicates: int
    repeated: int
    invalid: int
    filled: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        names = ("read", "inserted", "duplicates", "repeated", "invalid", "filled")
        return {name: getattr(self, name) for name in names}

    def of_kind(self, kind: str) -> list[Rejected]:
        return [rejected for rejected in self.rejected if rejected.kind == kind]


def import_codes(
    upload: Upload, lines: Iterable[Line], *, dry_run: bool = False, batch: Batch | None = None, watch: Watch = nobody
) -> Report:
    """Stores the codes of `lines`, in `batch` where one waits for them. Raises `InvalidRequest` for an expiry in
    the past, and whatever reading or `watch` raises (`UnreadableFile`); then nothing is stored."""
    with transaction.atomic():
        read = _stage(upload, lines)
        return _try(read) if dry_run else _store(upload, batch or upload.new_batch(), read, watch)


def check_codes(batch: Batch, lines: Iterable[Line]) -> Report:
    """Writes into the batch what storing it would do now: its counts, its first lines and its rejected lines.
    Raises the same."""
    with transaction.atomic():
        report = _try(_stage(Upload.of(batch), lines))
        _keep(report, batch)
        [(first,)] = _execute(SELECT_FIRST, {"limit": FIRST_LINES})
        Batch.objects.filter(pk=batch.pk).update(first_lines=json.loads(first))
        return report


def watched(lines: Iterable[Line], share: Callable[[], float], watch: Watch, up_to: float = READ) -> Iterator[Line]:
    """The same lines; `share` says from 0 to 1 how much of them has been read, and `up_to` how far that is."""
    for number, line in enumerate(lines):
        if number % WATCHED_LINES == 0:
            watch(up_to * share())
        yield line


def share_read(file: BinaryIO) -> Callable[[], float]:
    """How much of a file has been read; leaves it at its beginning."""
    size = file.seek(0, io.SEEK_END) or 1
    file.seek(0)
    return lambda: file.tell() / size


def rejected_lines(batch: Batch | None) -> Iterator[Rejected]:
    """Every rejected line, in order, without holding them in memory: of a batch, or of the dry run whose
    transaction is still open."""
    if batch is None:
        yield from _rejected(limit=None)
    else:
        for row in batch.rejected_lines.order_by("line").iterator():
            yield Rejected(row.line, row.code, row.course, row.expires_on, row.kind, row.reason)


def _stage(upload: Upload, lines: Iterable[Line]) -> int:
    if upload.expires_on and upload.expires_on < timezone.localdate():
        fault = f"The last valid day of these codes, {upload.expires_on}, is already past."
        raise InvalidRequest(fault, fields={"expiresOn": [fault]})
    _execute("SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)")
    _execute(CREATE_STAGED)
    read = stage(lines, upload.course.pk, upload.expires_on)
    _execute("ANALYZE staged")
    return read


def _try(read: int) -> Report:
    _execute(JUDGE_STAGED)
    counts = _judged()
    return _report(None, counts, read=read, inserted=read - counts.duplicates - counts.invalid)


def _store(upload: Upload, batch: Batch, read: int, watch: Watch) -> Report:
    inserted, judged = _store_new({"batch": batch.pk, "course": upload.course.pk}, read, watch)
    report = _report(batch, judged, read=read, inserted=inserted)
    report = replace(report, filled=fill_waiting(upload.course, wait=True))
    note_upload(upload.course)
    _keep(report, batch)
    return report


def _store_new(names: dict[str, Any], read: int, watch: Watch) -> tuple[int, Judged]:
    """Stores what is new and judges the rest; says how many were stored, which the database has counted, and what
    became of the others."""
    _execute(CREATE_FRESH)
    _execute(INDEX_FRESH)
    inserted = 0
    for _ in range(TRIES):
        inserted += _insert(names, watch)
        if inserted < read:
            _execute(JUDGE_STORED, names)
        judged = _judged()
        if not judged.missing:
            return inserted, judged
        _execute(FORGET_JUDGED)
    raise InvalidRequest("Other batches with the same codes were being undone. Nothing was stored. Try again.")


def _insert(names: dict[str, Any], watch: Watch) -> int:
    [(fresh,)] = _execute(COUNT_FRESH)
    inserted = 0
    _execute(CHECK_AT_ONCE)
    for after in range(0, fresh, SLICE):
        watch(READ + (INSERTED - READ) * after / fresh)
        with connection.cursor() as cursor:
            cursor.execute(INSERT_NEW, {**names, "after": after, "until": after + SLICE})
            inserted += cursor.rowcount
    _execute(CHECK_LATER)
    watch(INSERTED)
    return inserted


def _keep(report: Report, batch: Batch) -> None:
    """The verdict on each line, in place of an earlier one."""
    batch.rejected_lines.all().delete()
    _execute(KEEP_REJECTED, {"batch": batch.pk})
    Batch.objects.filter(pk=batch.pk).update(**report.counts)


def _judged() -> Judged:
    return Judged(*_execute(COUNT_JUDGED)[0])


def _report(batch: Batch | None, judged: Judged, *, read: int, inserted: int) -> Report:
    return Report(
        batch=batch,
        read=read,
        inserted=inserted,
        duplicates=judged.duplicates,
        repeated=judged.repeated,
        invalid=judged.invalid,
        rejected=list(_rejected(limit=REPORTED)),
    )


def _rejected(limit: int | None) -> Iterator[Rejected]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(SELECT_REJECTED, {"limit": limit})
        yield from (Rejected(*row) for row in cursor)


def _execute(statement: str, names: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, names)
        return cursor.fetchall() if cursor.description else []
