"""What a zip file may hold to be read as a spreadsheet: looked at before a parser builds anything from it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from vouchers.errors import UnreadableFile

MB = 1024 * 1024
SIZE_MAX = 64 * MB
ENTRIES_MAX = 1000
UNPACKED_MAX = 256 * MB
# A million equal rows pack 15 to 1. Small entries may well be all blanks.
RATIO_MAX = 100
RATIO_FROM = MB
ROWS_MAX = 1_048_576  # Excel's own
COLUMNS_MAX = 100
CELLS_MAX = 10_000_000
# What the parser keeps in memory: an element for each row and each text, and all there is inside one of them, or
# beside them.
TEXTS_MAX = 3_000_000
INSIDE_MAX = 200_000
TEXT_MAX = MB

CHUNK = 64 * 1024
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main "
CELL, ROW, TEXT = SHEET + "c", SHEET + "row", SHEET + "si"
CONTENT = {SHEET + "v", SHEET + "is", SHEET + "f"}
STRICT_ROW = "http://purl.oclc.org/ooxml/spreadsheetml/main row"
AS_CSV = "Save the sheet with the codes as CSV and upload that."
DAMAGED = "The spreadsheet is damaged. Open it in the program that made it, save it again, and upload that."
# All that the standard library raises for rotten zip files: seen in 450,000 damaged ones.
ROTTEN = (BadZipFile, EOFError, NotImplementedError, OSError, ValueError, zlib.error)

OTHER_ZIPS = {
    "xl/workbook.bin": "The file is a binary Excel workbook (.xlsb). Save it as an Excel workbook (.xlsx) or as CSV.",
    "word/": "The file is a Word document. Upload a text file with one code a line, or a spreadsheet.",
    "ppt/": "The file is a presentation. Upload a text file with one code a line, or a spreadsheet.",
    "mimetype": "The file is an OpenDocument file or an e-book. Save it as an Excel workbook (.xlsx) or as CSV.",
    "Index/": "The file is a Numbers or Pages document. Export it as an Excel workbook (.xlsx) or as CSV.",
}
A_ZIP = "The file is a zip archive, not a spreadsheet. Unpack it and upload the file inside."


@dataclass
class Extent:
    """How many columns have something in them, up to `COLUMNS_MAX`; and the rows with something right of that."""

    columns: int = 1
    wide_rows: set[int] = field(default_factory=set)


def checked_package(file: BinaryIO) -> Extent:
    """Refuses, with a sentence, what is no spreadsheet or would not be safe to read as one."""
    with _opened(file) as package:
        entries = package.infolist()
        _check_kind([entry.filename for entry in entries])
        _check_entries(entries)
        scan = _Scan()
        for entry in entries:
            _scan_entry(package, entry, scan)
    scan.check_area()
    return scan.extent


@contextmanager
def _opened(file: BinaryIO) -> Iterator[ZipFile]:
    if file.seek(0, 2) > SIZE_MAX:
        raise UnreadableFile(f"A spreadsheet may have {SIZE_MAX // MB} MB, and this one has more. {AS_CSV}")
    if _marks(file) > ENTRIES_MAX:
        raise UnreadableFile(f"A spreadsheet may have {ENTRIES_MAX:,} parts, and this zip file has more. {AS_CSV}")
    file.seek(0)
    try:
        package = ZipFile(file)
    except ROTTEN:
        raise UnreadableFile(f"{DAMAGED} If it is a zip archive, upload the file inside.") from None
    with package:
        yield package


def _marks(file: BinaryIO) -> int:
    """How many entries the file can have at most. The number that it gives itself may be a lie, and the standard
    library makes an object for each entry before one can ask."""
    mark, found, held = b"PK\x01\x02", 0, b""
    file.seek(0)
    while chunk := file.read(CHUNK):
        window = held + chunk
        found += window.count(mark)
        held = window[-3:]
    return found


def _check_kind(names: list[str]) -> None:
    for beginning, sentence in OTHER_ZIPS.items():
        if any(name.startswith(beginning) for name in names):
            raise UnreadableFile(sentence)
    if "[Content_Types].xml" not in names or not any(name.startswith("xl/") for name in names):
        raise UnreadableFile(A_ZIP)


def _check_entries(entries: list[ZipInfo]) -> None:
    """By what the file says of itself: no more than that is ever unpacked."""
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnreadableFile("The spreadsheet has a password. Save it without one.")
    if len({entry.filename for entry in entries}) < len(entries):
        raise UnreadableFile(f"{DAMAGED} (Two of its parts have one name.)")
    if any(entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED} for entry in entries):
        raise UnreadableFile(f"The spreadsheet is packed in a way that spreadsheets are not. {AS_CSV}")
    if sum(entry.file_size for entry in entries) > UNPACKED_MAX:
        raise UnreadableFile(f"A spreadsheet may unpack to {UNPACKED_MAX // MB} MB, and this one to more. {AS_CSV}")
    for entry in entries:
        if entry.file_size > RATIO_FROM and entry.file_size > entry.compress_size * RATIO_MAX:
            raise UnreadableFile(
                f"A part of the spreadsheet unpacks to more than {RATIO_MAX} times its size, as no list of codes does. "
                f"{AS_CSV}"
            )


def _scan_entry(package: ZipFile, entry: ZipInfo, scan: _Scan) -> None:
    """Reads all of an entry, which checks its sum too."""
    parser: expat.XMLParserType | None = scan.parser()
    first, idle, seen = True, 0, 0
    try:
        with package.open(entry) as content:
            while chunk := content.read(CHUNK):
                if first and chunk.startswith(b"PK\x03\x04"):
                    raise UnreadableFile(f"The spreadsheet has another file packed inside it. {AS_CSV}")
                first = False
                if parser is None:
                    continue
                try:
                    parser.Parse(chunk)
                except (expat.ExpatError, LookupError, ValueError):
                    parser = None  # a picture, or broken: the reader says so if it needs this part
                idle = idle + len(chunk) if scan.elements == seen else 0
                seen = scan.elements
                if parser and idle > TEXT_MAX:
                    raise UnreadableFile(f"A cell of the spreadsheet is longer than {TEXT_MAX // MB} MB. {AS_CSV}")
    except ROTTEN:
        raise UnreadableFile(DAMAGED) from None
    scan.end_of_entry()


class _Scan:
    """Counts what a parser would have to hold, holding nothing itself."""

    def __init__(self) -> None:
        self.elements = self.cells = self.texts = self.inside = self.rows = 0
        self.row = self.column = self.highest = 0
        self.extent = Extent()
        self._columns: dict[str, int] = {}

    def parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.StartDoctypeDeclHandler = self._doctype
        return parser

    def end_of_entry(self) -> None:
        self.rows += self.row
        self.highest = max(self.highest, self.row)
        self.row = self.column = self.inside = 0
        self._check_rows()

    def check_area(self) -> None:
        """The reader makes up every cell that is missing, to the last column in the last row."""
        if self.highest * self.extent.columns > CELLS_MAX:
            self._refuse_cells()

    def _refuse_cells(self) -> None:
        raise UnreadableFile(f"A spreadsheet may have {CELLS_MAX:,} cells, and this one has more. {AS_CSV}")

    def _check_rows(self) -> None:
        if self.rows + self.row > ROWS_MAX:
            raise UnreadableFile(f"A spreadsheet may have {ROWS_MAX:,} rows, and this one has more. {AS_CSV}")

    def _doctype(self, *declaration: object) -> None:
        raise UnreadableFile(f"The spreadsheet has a document type declaration, as none does. {AS_CSV}")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self.inside += 1
        if name == CELL:
            self._cell(attributes.get("r", ""))
        elif name in CONTENT:
            if self.column > COLUMNS_MAX:
                self.extent.wide_rows.add(self.row)
            elif self.column > self.extent.columns:
                self.extent.columns = self.column
        elif name == ROW:
            self._row(attributes.get("r", ""))
        elif name == TEXT:
            self.inside = 0
            self.texts += 1
            if self.texts > TEXTS_MAX:
                raise UnreadableFile(f"A spreadsheet may have {TEXTS_MAX:,} texts, and this one has more. {AS_CSV}")
        elif name == STRICT_ROW:
            raise UnreadableFile(
                "The spreadsheet is in the Strict form. Save it as an ordinary Excel workbook (.xlsx)."
            )
        elif self.inside > INSIDE_MAX:
            raise UnreadableFile(
                f"The spreadsheet has more than {INSIDE_MAX:,} parts in a cell, or beside the cells. {AS_CSV}"
            )

    def _row(self, given: str) -> None:
        """The reader leaves out rows that come after a higher one, and makes up all that are missing between."""
        row = int(given) if given.isdecimal() and len(given) < 10 else self.row + 1 if not given else ROWS_MAX + 1
        if row <= self.row:
            raise UnreadableFile(f"{DAMAGED} (Row {row} comes after row {self.row}.)")
        self.row, self.column, self.inside = row, 0, 0
        self._check_rows()

    def _cell(self, given: str) -> None:
        """The reader leaves out cells that come after one to the right of them."""
        column = self._column_of(given) if given else self.column + 1
        if column <= self.column:
            raise UnreadableFile(f"{DAMAGED} (The cells of row {self.row} are in disorder.)")
        self.column = column
        self.cells += 1
        if self.cells > CELLS_MAX:
            self._refuse_cells()

    def _column_of(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        if letters not in self._columns:
            if not (letters.isascii() and letters.isalpha() and len(letters) <= 3):
                raise UnreadableFile(f"{DAMAGED} (A cell in row {self.row} has no place.)")
            column = 0
            for letter in letters.upper():
                column = column * 26 + ord(letter) - ord("A") + 1
            self._columns[letters] = column
        return self._columns[letters]
