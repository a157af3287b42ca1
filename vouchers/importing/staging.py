"""Lines are cleaned and copied into a temporary table, in memory that does not grow with their number."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from django.db import connection
from django.utils import timezone

from vouchers.codes import clean_code, fault_of, mangled
from vouchers.importing.lines import Line, repeated_header
from vouchers.importing.statements import COPY_STAGED

GIVEN_MAX = 200
# What nearly every code is. Unless it is letters only, and so may be the name of a column, no check finds fault with
# it: of ASCII it needs no cleaning, and beginning with a letter it is no shortened number.
ORDINARY = re.compile(r"[A-Za-z][!-~]{3,127}")

Row = tuple[int, str | None, dt.date | None, str | None, str | None, str | None, str | None]
"""The columns of `staged`; None for what is as usual."""


def stage(lines: Iterable[Line], course_id: str, expires_on: dt.date | None) -> int:
    """Copies the lines into `staged` and returns how many there are; raises whatever reading them raises."""
    # Django translates the errors of a cursor's own methods, and COPY is none of them.
    with connection.wrap_database_errors, connection.cursor() as cursor:
        with cursor.copy(COPY_STAGED) as copy:
            for line in lines:
                if _is_ordinary(line):
                    copy.write_row((line.number, line.code, expires_on, None, None, None, None))
                else:
                    copy.write_row(_cleaned(line, course_id, expires_on))
        return int(cursor.rowcount)


def _is_ordinary(line: Line) -> bool:
    code = line.code
    return bool(ORDINARY.fullmatch(code)) and not (code.isalpha() or line.course or line.expires_on or line.fault)


def _cleaned(line: Line, course_id: str, default: dt.date | None) -> Row:
    code = clean_code(line.code)
    expires_on, expiry_fault = _expiry(line.expires_on, default)
    fault = line.fault or fault_of(code) or mangled(code) or repeated_header(code) or expiry_fault
    if not fault and line.course and line.course != course_id:
        fault = f"The line names course {line.course[:64]}, and this upload is for {course_id}."
    return (
        line.number,
        None if fault else code,
        expires_on,
        None if line.code == code and not fault else _storable(line.code[:GIVEN_MAX]),
        _storable(line.course[:64]) or None,
        _storable(line.expires_on[:40]) or None,
        _storable(fault) or None,
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
