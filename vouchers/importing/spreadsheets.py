"""XLSX spreadsheets, row by row. Only a text is a code: what a spreadsheet holds as a number, a date or a formula
may no longer be what was put in."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

from openpyxl import load_workbook
from openpyxl.cell.cell import TYPE_BOOL, TYPE_ERROR, TYPE_FORMULA, TYPE_NUMERIC, TYPE_STRING
from openpyxl.cell.read_only import EMPTY_CELL, EmptyCell, ReadOnlyCell
from openpyxl.workbook.workbook import Workbook

from vouchers.errors import UnreadableFile
from vouchers.importing.lines import Layout, Line
from vouchers.importing.packages import COLUMNS_MAX, DAMAGED, checked_package

TYPE_DATE = "d"
Cells = Sequence[ReadOnlyCell | EmptyCell]

# How a spreadsheet writes characters that XML cannot hold, and the underscore before what looks like one.
ESCAPED = re.compile(r"_x[0-9A-Fa-f]{4}_")
TOO_WIDE = f"The row has something right of column {COLUMNS_MAX}. Take it away."
AS_TEXT = "Format the column as text and put the codes in again."
# All that openpyxl raises for rotten parts of a file: seen in 15,000 damaged ones, but for the recursion, which
# its classes for charts allow.
ROTTEN = (AttributeError, LookupError, OSError, OverflowError, ParseError, RecursionError, TypeError, ValueError)


def read_spreadsheet(file: BinaryIO) -> Iterator[Line]:
    extent = checked_package(file)
    file.seek(0)
    try:
        book = load_workbook(file, read_only=True, data_only=False, keep_links=False)
    except ROTTEN:
        raise UnreadableFile(DAMAGED) from None
    try:
        yield from _lines(_sheet_rows(book, extent.columns), extent.wide_rows)
    finally:
        book.close()


def _sheet_rows(book: Workbook, columns: int) -> Iterator[tuple[int, Cells]]:
    """The rows of the only sheet with content, numbered."""
    sheets = [sheet for sheet in book.worksheets if any(_texts(cells) for _, cells in _rows(sheet, columns))]
    if len(sheets) > 1:
        names = ", ".join(f"“{sheet.title[:40]}”" for sheet in sheets[:10])
        raise UnreadableFile(
            f"There is content in {len(sheets)} sheets: {names} (hidden ones count too). Keep one of them in the file."
        )
    for sheet in sheets:
        yield from _rows(sheet, columns)


def _rows(sheet: Any, columns: int) -> Iterator[tuple[int, Cells]]:
    sheet.reset_dimensions()  # what the file says of its size may be wrong
    rows = enumerate(sheet.iter_rows(max_col=columns), 1)
    while True:
        try:
            number, cells = next(rows)
        except StopIteration:
            return
        except ROTTEN:
            raise UnreadableFile(DAMAGED) from None
        yield number, cells


def _lines(rows: Iterator[tuple[int, Cells]], wide_rows: set[int]) -> Iterator[Line]:
    layout: Layout | None = None
    for number, cells in rows:
        texts = _texts(cells)
        if number in wide_rows:
            wide_rows.remove(number)
            yield Line(number, texts[0] if texts else "", fault=TOO_WIDE)
            continue
        if not texts:
            continue
        if layout is None:
            layout = Layout.of_header(texts, "\t") or Layout()
            if layout.has_header:
                continue
        yield _line(number, cells, texts, layout)
    for number in sorted(wide_rows):
        yield Line(number, "", fault=TOO_WIDE)


def _texts(cells: Cells) -> list[str]:
    """As text and without the blanks at the end: nothing for a row without content."""
    texts = ["" if cell.value is None else str(cell.value).strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _line(number: int, cells: Cells, texts: list[str], layout: Layout) -> Line:
    def cell(at: int | None) -> tuple[Any, str]:
        return (cells[at], texts[at]) if at is not None and at < len(texts) else (EMPTY_CELL, "")

    code, course, expires_on = cell(layout.code), cell(layout.course), cell(layout.expires_on)
    fault = layout.fault_of(texts) or _fault_of_code(code[0]) or _fault_of_course(course[0])
    day = _day(expires_on[0])
    if day is None:
        fault = fault or f"The expiry is {_kind_of(expires_on[0])}. Write the day as a text or a date: 2027-12-31."
    return Line(number, code[1], course[1], day or "", fault)


def _fault_of_code(cell: Any) -> str:
    if isinstance(cell.value, str) and cell.data_type == TYPE_STRING:
        if ESCAPED.search(cell.value):
            return "The cell holds a character that spreadsheets write as _x….. Type the code in again."
        return ""
    if cell.value is None:
        return ""
    if cell.data_type == TYPE_FORMULA:
        return "The cell holds a formula. Copy the codes and paste their values only."
    if cell.data_type == TYPE_NUMERIC:
        return (
            f"The cell holds the number {str(cell.value)[:40]}; a spreadsheet may have changed it (leading zeros, long "
            f"digits). {AS_TEXT}"
        )
    return f"The cell holds {_kind_of(cell)}, not text. {AS_TEXT}"


def _fault_of_course(cell: Any) -> str:
    whole = isinstance(cell.value, int) and cell.data_type == TYPE_NUMERIC
    if cell.value is None or cell.data_type == TYPE_STRING or whole:
        return ""
    return f"The course is {_kind_of(cell)}. Write its id as a text."


def _day(cell: Any) -> str | None:
    """None where the cell holds neither a text nor a day."""
    if cell.value is None:
        return ""
    if cell.data_type == TYPE_STRING:
        return str(cell.value).strip()
    if isinstance(cell.value, dt.date) and cell.data_type == TYPE_DATE:
        return cell.value.isoformat()[:10]
    return None


def _kind_of(cell: Any) -> str:
    return {
        TYPE_NUMERIC: f"the number {str(cell.value)[:40]}",
        TYPE_DATE: f"the date or time {str(cell.value)[:40]}",
        TYPE_BOOL: "TRUE or FALSE",
        TYPE_ERROR: f"the error {str(cell.value)[:10]}",
        TYPE_FORMULA: "a formula",
    }.get(cell.data_type, "something unknown")
