"""Reads codes out of what people hand in, a line at a time and with line numbers, in memory that does not
grow with the file."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from django.core.files.uploadedfile import UploadedFile

from vouchers.codes import clean_code
from vouchers.errors import UnreadableFile

# Names of columns, compared without regard to case, spaces, `_` and `-`.
CODE_COLUMN = re.compile(r"(voucher|coupon)?codes?|vouchers?|coupons?|id")
COURSE_COLUMN = re.compile(r"course(id)?")
EXPIRY_COLUMN = re.compile(r".*expir.*|valid(until|to|through|thru)")
# Excel's own first line, which names the delimiter.
SEPARATOR_LINE = re.compile(r"sep=.")
# A line of a table, in a file that does not say it is one.
CODE_AND_DAY = re.compile(r".+[,;]\s*\d{4}-\d{2}-\d{2}\s*")
ADD_HEADER = "Put a first line such as code,expiresOn."
LINE_MAX = 64 * 1024  # characters
NO_DELIMITER = "\x1f"


@dataclass(frozen=True, slots=True)
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


def read_list(codes: Iterable[str]) -> Iterator[Line]:
    for number, code in enumerate(codes, 1):
        yield Line(number, code)


def read_text(text: str) -> Iterator[Line]:
    return read_file(io.BytesIO(text.encode()))


def opened(upload: UploadedFile[bytes]) -> BinaryIO:
    """The file that Django keeps an upload in: in memory, or on disk where it is large."""
    return cast(BinaryIO, upload.open().file)


def sha256_of(file: BinaryIO) -> str:
    """The digest by which the same file is recognised, in hexadecimal; leaves the file at its beginning."""
    file.seek(0)
    digest = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
    file.seek(0)
    return digest


def read_file(file: BinaryIO, name: str = "") -> Iterator[Line]:
    """The codes of a text file in UTF-8: one a line, or a table with a header that names its columns.

    Raises `UnreadableFile`, naming the line, for anything that is not such a text, and for one without codes.
    """
    layout: Layout | None = None
    empty = True
    for number, raw in _lines(file):
        if not clean_code(raw) or (layout is None and SEPARATOR_LINE.fullmatch(clean_code(raw))):
            continue
        if layout is None:
            layout = _layout_of(raw, name)
            if layout.has_header:
                continue
        empty = False
        yield _parse(number, raw, layout)
    if empty:
        raise UnreadableFile("There are no codes in it. Put one code on each line.")


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    number = 0
    try:
        while raw := text.readline(LINE_MAX):
            number += 1
            if "\0" in raw:
                raise UnreadableFile(
                    f"Line {number} holds binary data. Upload a text file: CSV, TSV or one code a line."
                )
            if len(raw) == LINE_MAX and not raw.endswith(("\n", "\r")):
                raise UnreadableFile(f"Line {number} is longer than {LINE_MAX} characters. Put one code on each line.")
            yield number, raw.rstrip("\r\n")
    except UnicodeDecodeError:
        where = f"After line {number} the" if number else "The"
        raise UnreadableFile(f"{where} file is not UTF-8 text. Save it as a CSV or text file in UTF-8.") from None
    finally:
        text.detach()


def _layout_of(first: str, name: str) -> Layout:
    for delimiter in (",", ";", "\t", NO_DELIMITER):
        try:
            columns = [_column_name(cell) for cell in _split(first, delimiter)]
        except csv.Error:
            continue  # no header; the line itself is reported like any other
        code = _column(columns, CODE_COLUMN)
        if code is not None:
            course, expires_on = _column(columns, COURSE_COLUMN), _column(columns, EXPIRY_COLUMN)
            return Layout(delimiter, code, course, expires_on, columns=len(columns), has_header=True)
    suffix = name.lower().rpartition(".")[2]
    if suffix == "tsv":
        return Layout("\t")
    if suffix == "csv":
        return Layout(";" if ";" in first and "," not in first else ",")
    return Layout()


def _column_name(cell: str) -> str:
    return re.sub(r"[\s_-]", "", clean_code(cell)).lower()


def _column(columns: list[str], name: re.Pattern[str]) -> int | None:
    return next((at for at, column in enumerate(columns) if name.fullmatch(column)), None)


def _split(raw: str, delimiter: str) -> list[str]:
    """The cells of one line. Raises `csv.Error` for a quote that is not closed: a cell never spans lines, or
    one stray quote would swallow the codes below it."""
    if '"' not in raw:
        return raw.split(delimiter)
    return next(csv.reader([raw], delimiter=delimiter, strict=True))


def _parse(number: int, raw: str, layout: Layout) -> Line:
    try:
        cells = _split(raw, layout.delimiter)
    except csv.Error:
        return Line(number, raw, fault="A quote is opened in this line and not closed.")
    if fault := _fault_of(raw, cells, layout):
        return Line(number, raw, fault=fault)

    def cell(at: int | None) -> str:
        return cells[at].strip() if at is not None and at < len(cells) else ""

    return Line(number, cell(layout.code), cell(layout.course), cell(layout.expires_on))


def _fault_of(raw: str, cells: list[str], layout: Layout) -> str:
    """Why the cells of a line cannot be told apart for sure; what is cut off could be half of a code."""
    if any(cell.strip() for cell in cells[layout.columns :]):
        if layout.has_header:
            return "The line has more columns than the header. Quote a code that has the delimiter in it."
        return f"The line has more than one column and the file has no header. {ADD_HEADER}"
    if layout.delimiter == NO_DELIMITER and CODE_AND_DAY.fullmatch(raw):
        return f"The line looks like a code and a day, and the file has no header. {ADD_HEADER}"
    return ""
