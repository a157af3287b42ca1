"""A line of what was handed in, and where in it the code is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vouchers.codes import clean_code

# Names of columns, compared without regard to case, spaces, `_` and `-`.
CODE_COLUMN = re.compile(r"(voucher|coupon)?codes?|vouchers?|coupons?|id")
COURSE_COLUMN = re.compile(r"course(id)?")
EXPIRY_COLUMN = re.compile(r".*expir.*|valid(until|to|through|thru)")
# Counts only where nothing else is a code: an export may have its own keys under it.
ID_COLUMN = "id"
ADD_HEADER = "Put a first line such as code,expiresOn."
NO_DELIMITER = "\x1f"


@dataclass(slots=True)  # a frozen one takes more than twice the time to make, and there may be a million
class Line:
    """One code as handed in; `number` counts from 1. `fault` says why the line could not be read as one."""

    number: int
    code: str
    course: str = ""
    expires_on: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a line the code is. Without a header every line is one code and nothing else."""

    delimiter: str = NO_DELIMITER
    code: int = 0
    course: int | None = None
    expires_on: int | None = None
    columns: int = 1
    has_header: bool = False

    @property
    def is_plain(self) -> bool:
        return self.delimiter == NO_DELIMITER

    @classmethod
    def of_header(cls, cells: Sequence[str], delimiter: str) -> Layout | None:
        """The layout that a first line names; None where it names no column of codes."""
        columns = [column_name(cell) for cell in cells]
        code = _first(CODE_COLUMN, ["" if name == ID_COLUMN else name for name in columns])
        if code is None:
            code = _first(CODE_COLUMN, columns)
        if code is None:
            return None
        course, expires_on = _first(COURSE_COLUMN, columns), _first(EXPIRY_COLUMN, columns)
        return cls(delimiter, code, course, expires_on, columns=len(columns), has_header=True)

    def fault_of(self, cells: Sequence[str]) -> str:
        """Why the cells of a line cannot be told apart for sure; what is cut off could be half of a code."""
        if len(cells) <= self.columns or not any(cell.strip() for cell in cells[self.columns :]):
            return ""
        if self.has_header:
            return "The line has more columns than the header. Quote a code that has the delimiter in it."
        return f"The line has more than one column and the file has no header. {ADD_HEADER}"


def repeated_header(code: str) -> str:
    """Why a cleaned code is none, as a sentence: files that were joined have their first lines in the middle, too."""
    if code.isalpha() and CODE_COLUMN.fullmatch(code.lower()):
        return "This is the name of a column, not a code."
    return ""


def column_name(cell: str) -> str:
    return re.sub(r"[\s_-]", "", clean_code(cell)).lower()


def _first(name: re.Pattern[str], columns: list[str]) -> int | None:
    return next((at for at, column in enumerate(columns) if name.fullmatch(column)), None)
