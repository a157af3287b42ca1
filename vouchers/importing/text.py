"""Text files: which encoding they are in, and the codes of their lines. Memory does not grow with the file."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from vouchers.codes import clean_code
from vouchers.errors import UnreadableFile
from vouchers.importing.lines import ADD_HEADER, NO_DELIMITER, Layout, Line

LINE_MAX = 64 * 1024  # characters
BEGINNING = 16  # characters, enough to tell text from JSON, HTML and RTF
SPAN_MAX = 20  # lines that a quoted cell is followed over
DELIMITERS = (",", ";", "\t", NO_DELIMITER)

# UTF-32 first: its mark begins with that of UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NUL = re.compile("\0")
# Any bytes at all pass for Windows-1252, nearly: what no text has in it tells binary files from it. The last
# character of old files is a 0x1A.
BINARY = {"cp1252": re.compile(r"[\0-\x08\x0e-\x19\x1b-\x1f\x7f]|\x1a(?!\Z)")}
END_OF_FILE = "\x1a"

# Excel's own first line, which names the delimiter.
SEPARATOR_LINE = re.compile(r"sep=.")
# A line of a table, in a file that does not say it is one.
CODE_AND_DAY = re.compile(r".+[,;]\s*\d{4}-\d{2}-\d{2}\s*")
ONE_A_LINE = "Put each code on one line."
UNCLOSED = "A quote is opened in this line and not closed."
AFTER_QUOTE = "Something stands after the closing quote of a cell in this line."


@dataclass(frozen=True, slots=True)
class Text:
    """A file that has been seen to be text in `encoding` from end to end; `beginning` without blanks, lower case."""

    file: BinaryIO
    encoding: str
    beginning: str

    @contextmanager
    def opened(self) -> Iterator[io.TextIOWrapper]:
        """The characters, with every line ending a newline; the file stays open afterwards."""
        self.file.seek(0)
        text = io.TextIOWrapper(self.file, encoding=self.encoding)
        try:
            yield text
        finally:
            # Whoever breaks off may have closed it already, and this runs when the generator is forgotten.
            if not self.file.closed:
                text.detach()


def examined(file: BinaryIO) -> Text:
    """Reads all of the file once. Raises `UnreadableFile`, naming the line, for what is no text."""
    file.seek(0)
    head = file.read(LINE_MAX)
    marked = next((codec for mark, codec in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "")
    encoding = marked or _utf16_by_its_nuls(head) or "utf-8"
    try:
        return Text(file, encoding, _beginning(file, encoding))
    except UnicodeDecodeError:
        if encoding != "utf-8":
            line, name = _line_with(file, encoding, re.compile("\ufffd")), encoding.upper().removesuffix("-SIG")
            raise UnreadableFile(
                f"The file begins as {name} text, and line {line} is not. Save it again as a CSV or text file in UTF-8."
            ) from None
    try:
        return Text(file, "cp1252", _beginning(file, "cp1252"))
    except UnicodeDecodeError:
        raise _binary(_line_with(file, "cp1252", re.compile("\ufffd"))) from None


def _utf16_by_its_nuls(head: bytes) -> str:
    """Codes are ASCII, and every other byte of ASCII in UTF-16 is NUL."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > len(head) // 5 and even <= odd // 20:
        return "utf-16-le"
    if even > len(head) // 5 and odd <= even // 20:
        return "utf-16-be"
    return ""


def _beginning(file: BinaryIO, encoding: str) -> str:
    """Raises `UnicodeDecodeError` for another encoding, `UnreadableFile` for binary data and endless lines."""
    file.seek(0)
    binary = BINARY.get(encoding, NUL)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    beginning, line, length, more = "", 1, 0, True
    while more:
        chunk = file.read(LINE_MAX)
        more = bool(chunk)
        text = decoder.decode(chunk, final=not more)
        if binary.search(text):
            raise _binary(_line_with(file, encoding, binary))
        if len(beginning) < BEGINNING:
            beginning = (beginning + text).lstrip()[:BEGINNING]
        breaks = text.count("\n")
        length += text.index("\n") if breaks else len(text)
        if length > LINE_MAX and not beginning.startswith(("[", "{")):  # JSON is often one line
            raise UnreadableFile(f"Line {line} is longer than {LINE_MAX} characters. Put one code on each line.")
        if breaks:
            length = len(text) - 1 - text.rindex("\n")
        line += breaks
    return beginning.lower()


def _line_with(file: BinaryIO, encoding: str, fault: re.Pattern[str]) -> int:
    file.seek(0)
    text, line = io.TextIOWrapper(file, encoding=encoding, errors="replace"), 1
    try:
        while chunk := text.read(LINE_MAX):
            found = fault.search(chunk)
            line += chunk.count("\n", 0, found.start() if found else len(chunk))
            if found:
                break
    finally:
        text.detach()
    return line


def _binary(line: int) -> UnreadableFile:
    return UnreadableFile(
        f"Line {line} holds binary data. Upload a text file (CSV, TSV or one code a line), an XLSX spreadsheet or a "
        "JSON list."
    )


class _Ahead:
    """Lines that can be looked at before they are read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._seen: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        while True:
            while self._seen:
                yield self._seen.popleft()
            for raw in self._lines:
                yield raw
                if self._seen:
                    break
            else:
                return

    def following(self, count: int) -> Iterator[str]:
        yield from islice(self._seen, count)
        for raw in islice(self._lines, count - len(self._seen)):
            self._seen.append(raw)
            yield raw


def read_lines(given: Text, name: str = "") -> Iterator[Line]:
    """One code a line, or a table with a header that names its columns."""
    with given.opened() as text:
        ahead = _Ahead(text)
        numbered = enumerate(ahead, 1)
        layout, first = _begun(numbered, ahead, name)
        for number, raw in chain(first, numbered):
            if _is_blank(raw):
                continue
            if '"' in raw:
                yield from _quoted(number, raw, layout, numbered, ahead)
            elif layout.is_plain:
                yield _plain(number, raw)
            else:
                yield _line(number, raw, raw.split(layout.delimiter), layout)


Numbered = Iterator[tuple[int, str]]


def _begun(numbered: Numbered, ahead: _Ahead, name: str) -> tuple[Layout, list[tuple[int, str]]]:
    """The layout, and the first line where it is no header."""
    for number, raw in numbered:
        if _is_blank(raw) or SEPARATOR_LINE.fullmatch(clean_code(raw)):
            continue
        layout = _header(number, raw, ahead)
        return (layout, []) if layout else (_layout_by_name(name, raw), [(number, raw)])
    return Layout(), []


def _is_blank(raw: str) -> bool:
    if raw.endswith(END_OF_FILE):  # only the last line has no newline after it
        return raw.strip() == END_OF_FILE
    return raw.isspace() or (not raw.isascii() and not clean_code(raw))


def _header(number: int, first: str, ahead: _Ahead) -> Layout | None:
    for delimiter in DELIMITERS:
        reader = csv.reader(chain([first], ahead.following(SPAN_MAX)), delimiter=delimiter, strict=True)
        try:
            layout = Layout.of_header(next(reader), delimiter)
        except csv.Error:
            continue  # no header; the line itself is reported like any other
        if layout and reader.line_num > 1:
            raise UnreadableFile(
                f"The names of the columns span lines {number} to {number + reader.line_num - 1}. Put them on one line."
            )
        if layout:
            return layout
    return None


def _layout_by_name(name: str, first: str) -> Layout:
    suffix = name.lower().rpartition(".")[2]
    if suffix == "tsv":
        return Layout("\t")
    if suffix == "csv":
        return Layout(";" if ";" in first and "," not in first else ",")
    return Layout()


def _lines_of_cell(raw: str, ahead: _Ahead, layout: Layout) -> int:
    """How many lines after this one a quoted cell goes on over; 0 where it ends here, or nowhere near."""
    for delimiter in (layout.delimiter,) if layout.has_header else DELIMITERS:
        reader = csv.reader(chain([raw], ahead.following(SPAN_MAX)), delimiter=delimiter, strict=True)
        try:
            next(reader)
        except csv.Error:
            continue
        if reader.line_num > 1:
            return reader.line_num - 1
    return 0


def _plain(number: int, raw: str) -> Line:
    if ("," in raw or ";" in raw) and CODE_AND_DAY.fullmatch(raw):
        fault = f"The line looks like a code and a day, and the file has no header. {ADD_HEADER}"
        return Line(number, raw.strip(), fault=fault)
    return Line(number, raw.strip())


def _quoted(number: int, raw: str, layout: Layout, numbered: Numbered, ahead: _Ahead) -> Iterator[Line]:
    """A line with quotes in it, and those that its last cell goes on over: joined they could hide a code, and by
    themselves a piece of a note could pass for one."""
    if lines := _lines_of_cell(raw, ahead, layout):
        fault = f"This line is part of a quoted cell that spans lines {number} to {number + lines}. {ONE_A_LINE}"
        for at, part in chain([(number, raw)], islice(numbered, lines)):
            if not _is_blank(part):
                yield Line(at, part.strip(), fault=fault)
        return
    try:
        cells = next(csv.reader([raw], delimiter=layout.delimiter, strict=True))
    except csv.Error as error:
        yield Line(number, raw.strip(), fault=UNCLOSED if "end of data" in str(error) else AFTER_QUOTE)
    else:
        yield _plain(number, cells[0]) if layout.is_plain and len(cells) == 1 else _line(number, raw, cells, layout)


def _line(number: int, raw: str, cells: list[str], layout: Layout) -> Line:
    """Written out for its speed: this runs for each line of a table."""
    columns = len(cells)
    if columns > layout.columns and (fault := layout.fault_of(cells)):
        return Line(number, raw.strip(), fault=fault)
    code, course, expires_on = layout.code, layout.course, layout.expires_on
    return Line(
        number,
        cells[code].strip() if code < columns else "",
        cells[course].strip() if course is not None and course < columns else "",
        cells[expires_on].strip() if expires_on is not None and expires_on < columns else "",
    )
