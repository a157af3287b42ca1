"""Import: codes read from anywhere become vouchers of one course, and every line is accounted for.

The lines are cleaned and copied into a temporary table; then one transaction stores what is new, writes down
what was rejected and why, and fills the queue of waiting buyers: all of it or nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from courses.models import Course
from vouchers.codes import clean_code, fault_of
from vouchers.errors import InvalidRequest
from vouchers.importing.reading import Line
from vouchers.issuing import fill_waiting
from vouchers.models import Batch

REPORTED = 1000
GIVEN_MAX = 200


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Where codes come from. `expires_on` is the last valid day of codes that bring none of their own."""

    course: Course
    actor: str
    source: str
    expires_on: dt.date | None = None
    file_name: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Rejected:
    """A line that does not become a voucher; `reason` says where it already is, or what is wrong with it."""

    line: int
    code: str
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """`read = inserted + duplicates + invalid`. `batch` is None after a dry run; `rejected` are the first
    1,000 of each kind, in the order of their lines."""

    batch: Batch | None
    read: int
    inserted: int
    duplicates: int
    invalid: int
    filled: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("read", "inserted", "duplicates", "invalid")}

    def of_kind(self, kind: str) -> list[Rejected]:
        return [rejected for rejected in self.rejected if rejected.kind == kind]


def import_codes(upload: Upload, lines: Iterable[Line], *, dry_run: bool = False) -> Report:
    """Stores the codes of `lines`. Raises `InvalidRequest` for an expiry in the past, and whatever reading
    raises (`UnreadableFile`); then nothing is stored."""
    if upload.expires_on and upload.expires_on < timezone.localdate():
        raise InvalidRequest("expiresOn is already past.", fields={"expiresOn": ["This day is already past."]})
    with transaction.atomic():
        _execute("SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)")
        _stage(upload, lines)
        return _try(upload) if dry_run else _store(upload)


def rejected_lines(batch: Batch | None) -> Iterator[Rejected]:
    """Every rejected line, in order, without holding them in memory: of a batch, or of the dry run whose
    transaction is still open."""
    if batch is None:
        yield from _rejected(limit=None)
    else:
        for row in batch.rejected_lines.order_by("line").iterator():
            yield Rejected(row.line, row.code, row.kind, row.reason)


def _stage(upload: Upload, lines: Iterable[Line]) -> None:
    _execute(CREATE_STAGED)
    # Django translates the errors of a cursor's own methods, and COPY is none of them.
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(COPY_STAGED) as copy:
        for line in lines:
            copy.write_row(_cleaned(line, upload))
    _execute("ANALYZE staged")


def _try(upload: Upload) -> Report:
    _execute(JUDGE, {"batch": None, "course": upload.course.pk})
    return _report(None)


def _store(upload: Upload) -> Report:
    batch = Batch.objects.create(
        course=upload.course,
        actor=upload.actor[:200],
        source=upload.source,
        file_name=upload.file_name[:255],
        sha256=upload.sha256,
        expires_on=upload.expires_on,
    )
    names = {"batch": batch.pk, "course": upload.course.pk}
    for statement in (INSERT_NEW, JUDGE, KEEP_REJECTED):
        _execute(statement, names)
    report = _report(batch)
    Batch.objects.filter(pk=batch.pk).update(**report.counts)
    return replace(report, filled=fill_waiting(upload.course, wait=True))


def _cleaned(line: Line, upload: Upload) -> tuple[int, str, str, dt.date | None, str]:
    """The columns of `staged`: line, as given, cleaned, last valid day, what is wrong."""
    code = clean_code(line.code)
    expires_on, expiry_fault = _expiry(line.expires_on, upload.expires_on)
    fault = line.fault or fault_of(code) or expiry_fault
    if not fault and line.course and line.course != upload.course.pk:
        fault = f"The line names course {line.course[:64]}, and this upload is for {upload.course.pk}."
    return (
        line.number,
        _storable(line.code[:GIVEN_MAX]),
        code if not fault else "",
        expires_on,
        _storable(fault),
    )


def _storable(text: str) -> str:
    """PostgreSQL stores no NUL, and UTF-8 has no lone surrogates (JSON can carry both)."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _expiry(given: str, default: dt.date | None) -> tuple[dt.date | None, str]:
    if not given:
        return default, ""
    try:
        day = dt.date.fromisoformat(given)
    except ValueError:
        return None, f"The expiry {given[:40]!r} is no date. Write it as 2027-12-31."
    if day < timezone.localdate():
        return None, f"The expiry {day} is already past."
    return day, ""


def _report(batch: Batch | None) -> Report:
    read, inserted, duplicates, invalid = _execute(COUNT_JUDGED)[0]
    return Report(
        batch=batch,
        read=read,
        inserted=inserted,
        duplicates=duplicates,
        invalid=invalid,
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


CREATE_STAGED = """
DROP TABLE IF EXISTS pg_temp.staged, pg_temp.judged;
CREATE TEMPORARY TABLE staged (
    line integer NOT NULL, given text NOT NULL, code text NOT NULL, expires_on date, fault text NOT NULL
) ON COMMIT DROP
"""

COPY_STAGED = "COPY staged (line, given, code, expires_on, fault) FROM STDIN"

# In the order of the unique index, in every import: two that share codes wait for each other in turn and
# never in a circle. The position keeps the order of the lines.
INSERT_NEW = """
INSERT INTO vouchers_voucher
    (code, course_id, batch_id, position, status, expires_on, issued_to, revoked_reason, note)
SELECT code, %(course)s, %(batch)s, (%(batch)s::bigint << 32) + line, 'available', expires_on, '', '', ''
FROM (
    SELECT DISTINCT ON (upper(code)) code, line, expires_on FROM staged WHERE fault = '' ORDER BY upper(code), line
) AS first_of_each
ORDER BY upper(code)
ON CONFLICT DO NOTHING
"""

# What became of each line. Runs after the insert, so it sees what other uploads committed meanwhile; in a dry
# run there is no batch and every voucher is another's.
JUDGE = """
CREATE TEMPORARY TABLE judged ON COMMIT DROP AS
SELECT s.line, s.given, s.fault, s.first_line, v.course_id, v.status
FROM (
    SELECT *, min(line) OVER (PARTITION BY upper(code)) AS first_line FROM staged  -- a faulty line has no code
) AS s
LEFT JOIN vouchers_voucher v
    ON s.fault = '' AND upper(v.code) = upper(s.code) AND v.batch_id IS DISTINCT FROM %(batch)s
"""

# The kind and the reason of a judged line; a line without a kind became a voucher.
VERDICT = """
SELECT line, left(given, 200) AS code,
    CASE WHEN fault <> '' THEN 'invalid'
         WHEN course_id IS NOT NULL OR line <> first_line THEN 'duplicate' END AS kind,
    CASE WHEN fault <> '' THEN left(fault, 300)
         WHEN status = 'available' THEN 'Already in course ' || course_id || ', not issued'
         WHEN course_id IS NOT NULL THEN 'Already in course ' || course_id || ', ' || status
         ELSE 'Already in line ' || first_line || ' of this upload' END AS reason
FROM judged
"""

COUNT_JUDGED = f"""
SELECT count(*), count(*) FILTER (WHERE kind IS NULL), count(*) FILTER (WHERE kind = 'duplicate'),
    count(*) FILTER (WHERE kind = 'invalid')
FROM ({VERDICT}) AS verdicts
"""  # noqa: S608  # made of constants

SELECT_REJECTED = f"""
SELECT line, code, kind, reason FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY line) AS nth FROM ({VERDICT}) AS verdicts
    WHERE kind IS NOT NULL
) AS rejected
WHERE %(limit)s::int IS NULL OR nth <= %(limit)s::int
ORDER BY line
"""  # noqa: S608  # made of constants

KEEP_REJECTED = f"""
INSERT INTO vouchers_rejectedline (batch_id, line, code, kind, reason)
SELECT %(batch)s, line, code, kind, reason FROM ({VERDICT}) AS verdicts WHERE kind IS NOT NULL
"""  # noqa: S608  # made of constants
