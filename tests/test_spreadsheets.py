"""Reading codes out of XLSX spreadsheets."""

from __future__ import annotations

import datetime as dt
import io
import re
import struct
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.worksheet.formula import ArrayFormula

from tests.test_reading import codes, is_read_or_refused, read, refusal
from vouchers.errors import UnreadableFile
from vouchers.importing import packages
from vouchers.importing.reading import Line, read_file

SHEET_NAMES = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KINDS = "[Content_Types].xml"
STYLES = "xl/styles.xml"
SHEET = "xl/worksheets/sheet1.xml"
DAMAGED = "The spreadsheet is damaged. Open it in the program that made it, save it again, and upload that."


def saved(book: Workbook) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def workbook(*rows: list[Any]) -> bytes:
    book = Workbook()
    for row in rows:
        book.active.append(row)  # type: ignore[union-attr]
    return saved(book)


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        return {name: package.read(name) for name in package.namelist()}


def packed(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return file.getvalue()


def with_shared_texts(*texts: str) -> bytes:
    """As spreadsheet programs write them, and openpyxl does not: the cells hold numbers of texts."""
    table = f'<sst xmlns="{SHEET_NAMES}">{"".join(f"<si>{text}</si>" for text in texts)}</sst>'
    cells = "".join(f'<row r="{n + 1}"><c r="A{n + 1}" t="s"><v>{n}</v></c></row>' for n in range(len(texts)))
    parts = unpacked(with_rows(cells.encode()))
    kind = b'"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml" /></Types>'
    known = b'<Override PartName="/xl/sharedStrings.xml" ContentType='
    parts[KINDS] = parts[KINDS].replace(b"</Types>", known + kind)
    return packed({**parts, "xl/sharedStrings.xml": table.encode()})


PARTS = unpacked(workbook(["AAAA-1"]))


def with_rows(rows: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    sheet = re.sub(rb"<sheetData>.*</sheetData>", b"<sheetData>%b</sheetData>" % rows, PARTS[SHEET])
    return packed({**PARTS, SHEET: sheet}, compression)


def cell(place: str, text: str) -> bytes:
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'.encode()


@pytest.mark.parametrize("name", ["codes.xlsx", "codes.csv", ""])
def test_it_reads_a_table(name: str) -> None:
    day = dt.date(2099, 12, 31)
    content = workbook(
        [],
        ["Note", "Voucher Code", "courseId", "Expires On"],
        ["first", " AAAA-1 ", "JS101", day],
        [],
        [1.5, "AAAA-2", 7, "2098-12-31"],
        [None, None, None, dt.datetime(2099, 12, 31, 23, 59)],  # noqa: DTZ001  # as spreadsheets have them
        ["last", "AAAA-3"],
    )
    assert read(content, name) == [
        Line(3, "AAAA-1", "JS101", "2099-12-31"),
        Line(5, "AAAA-2", "7", "2098-12-31"),
        Line(6, "", "", "2099-12-31"),
        Line(7, "AAAA-3"),
    ]


def test_it_reads_a_list_without_a_header() -> None:
    lines = read(workbook(["AAAA-1"], ["AAAA-2", "AAAA-3"], [None, "AAAA-4"], ["AAAA-5", " "]))
    assert [(line.number, line.code) for line in lines if not line.fault] == [(1, "AAAA-1"), (4, "AAAA-5")]
    assert {line.fault for line in lines if line.fault} == {
        "The line has more than one column and the file has no header. Put a first line such as code,expiresOn."
    }


def test_it_reads_shared_texts() -> None:
    rich = "<r><rPr><b/></rPr><t>AAAA</t></r><r><t>-2</t></r><rPh sb='0' eb='1'><t>furigana</t></rPh>"
    texts = ["<t>code</t>", "<t xml:space='preserve'> AAAA-1 </t>", rich, "<t/>", "<t>AAAA-3</t>"]
    lines = read(with_shared_texts(*texts))
    assert [(line.number, line.code, line.fault) for line in lines] == [
        (2, "AAAA-1", ""),
        (3, "AAAA-2", ""),
        (5, "AAAA-3", ""),
    ]


def test_it_refuses_more_columns_than_the_header() -> None:
    [line] = read(workbook(["code", "note"], ["AAAA-1", "x", "AAAA-2"]))
    assert line.fault.startswith("The line has more columns than the header.")


@pytest.mark.parametrize(
    ("value", "code", "fault"),
    [
        (
            12345678901234,
            "12345678901234",
            "The cell holds the number 12345678901234; a spreadsheet may have changed it (leading zeros, long digits). "
            "Format the column as text and put the codes in again.",
        ),
        (1.23e30, "1.23e+30", "The cell holds the number 1.23e+30; a spreadsheet may have changed it"),
        (True, "True", "The cell holds TRUE or FALSE, not text."),
        (
            dt.date(2099, 12, 31),
            "2099-12-31 00:00:00",
            "The cell holds the date or time 2099-12-31 00:00:00, not text.",
        ),
        (dt.time(12), "12:00:00", "The cell holds the date or time 12:00:00, not text."),
        ("=A1", "=A1", "The cell holds a formula. Copy the codes and paste their values only."),
        (ArrayFormula("A2:A2", "=A1"), None, "The cell holds a formula."),
        ("#N/A", "#N/A", "The cell holds the error #N/A, not text."),
        ("AAAA_x000D_", "AAAA_x000D_", "The cell holds a character that spreadsheets write as _x"),
    ],
)
def test_only_a_text_is_a_code(value: Any, code: str | None, fault: str) -> None:
    first, second = read(workbook(["code"], [value], ["AAAA-2"]))
    assert first.number == 2
    assert first.fault.startswith(fault)
    assert code is None or first.code == code
    assert second == Line(3, "AAAA-2")


@pytest.mark.parametrize(
    ("course", "expires_on", "fault"),
    [
        ("JS101", 46000, "The expiry is the number 46000. Write the day as a text or a date: 2027-12-31."),
        ("JS101", "=TODAY()", "The expiry is a formula."),
        ("JS101", dt.time(12), "The expiry is the date or time 12:00:00."),
        (1.5, None, "The course is the number 1.5. Write its id as a text."),
        ("=A1", None, "The course is a formula."),
        (True, None, "The course is TRUE or FALSE."),
    ],
)
def test_it_refuses_a_line_with_an_odd_course_or_day(course: Any, expires_on: Any, fault: str) -> None:
    [line] = read(workbook(["code", "courseId", "expiresOn"], ["AAAA-1", course, expires_on]))
    assert line.fault.startswith(fault)


def test_it_counts_rows_that_are_not_there_and_ignores_a_wrong_size() -> None:
    rows = b'<row r="3">' + cell("B3", "AAAA-1") + b'</row><row><c s="0"/>' + cell("B4", "AAAA-2") + b"</row>"
    header = b'<row r="2">' + cell("B2", "code") + b"</row>"
    sheet = unpacked(with_rows(header + rows + b'<row r="1048576">' + cell("B9", "AAAA-3") + b"</row>"))[SHEET]
    content = packed({**PARTS, SHEET: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:A2"', sheet)})
    assert [(line.number, line.code) for line in read(content)] == [(3, "AAAA-1"), (4, "AAAA-2"), (1_048_576, "AAAA-3")]


def test_it_names_the_rows_with_something_far_to_the_right() -> None:
    rows = b'<row r="1">' + cell("A1", "AAAA-1") + b'<c r="XFD1"/></row><row r="2">' + cell("A2", "AAAA-2")
    rows += cell("CW2", "AAAA-3") + b'</row><row r="3">' + cell("XFD3", "AAAA-4") + b"</row>"
    lines = read(with_rows(rows))
    assert [(line.number, line.code, line.fault[:39]) for line in lines] == [
        (1, "AAAA-1", ""),
        (2, "AAAA-2", "The row has something right of column 1"),
        (3, "", "The row has something right of column 1"),
    ]


@pytest.mark.parametrize("state", ["visible", "hidden", "veryHidden"])
def test_it_reads_no_part_of_several_sheets(state: str) -> None:
    book = Workbook()
    book.create_sheet("Empty").append(["", " "])
    for title in ("More", "Most"):
        sheet = book.create_sheet(title)
        sheet.append([])
        sheet.append(["AAAA-1"])
        sheet.sheet_state = state
    assert refusal(saved(book)) == (
        "There is content in 2 sheets: “More”, “Most” (hidden ones count too). Keep one of them in the file."
    )
    del book["Most"]
    assert codes(read(saved(book))) == ["AAAA-1"]


def of_two_sheets(first: bytes, second: bytes) -> bytes:
    book = Workbook()
    book.create_sheet("More")
    sheets = {f"xl/worksheets/sheet{n}.xml": unpacked(with_rows(rows))[SHEET] for n, rows in [(1, first), (2, second)]}
    return packed({**unpacked(saved(book)), **sheets})


def test_it_names_such_rows_of_any_sheet() -> None:
    lines = read(
        of_two_sheets(b"<row>" + cell("A1", "AAAA-1") + b"</row>", b'<row r="5"><c r="XFD5"><v>1</v></c></row>')
    )
    assert [(line.number, line.fault[:25]) for line in lines] == [(1, ""), (5, "The row has something rig")]


def test_it_bounds_the_rows_of_all_sheets_together() -> None:
    rows = b"<row>" + cell("A1", "AAAA-1") + b"</row>"
    assert codes(read(of_two_sheets(rows, b'<row r="1048575"/>'))) == ["AAAA-1"]
    assert refusal(of_two_sheets(rows, b'<row r="1048576"/>')).startswith("A spreadsheet may have 1,048,576 rows")


def test_it_reads_a_spreadsheet_from_its_beginning() -> None:
    file = io.BytesIO(workbook(["AAAA-1"]))
    file.read()
    assert codes(list(read_file(file))) == ["AAAA-1"]
    assert not file.closed


def test_it_says_that_a_sheet_is_empty() -> None:
    assert "There are no codes in it" in refusal(workbook())
    assert "There are no codes in it" in refusal(workbook(["code"]))


# Bombs


def test_what_one_row_holds_does_not_count_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "INSIDE_MAX", 300)
    content = with_rows(b"".join(b"<row>" + cell(f"A{n}", f"AAAA-{n}") + b"</row>" for n in range(1, 200)))
    assert len(codes(read(content))) == 199


@pytest.mark.parametrize(
    ("bound", "value", "sentence"),
    [
        ("SIZE_MAX", 1024, "A spreadsheet may have 0 MB, and this one has more. Save the sheet with the codes as CSV"),
        ("ENTRIES_MAX", 5, "A spreadsheet may have 5 parts, and this zip file has more."),
        ("UNPACKED_MAX", 1024, "A spreadsheet may unpack to 0 MB, and this one to more."),
        ("ROWS_MAX", 2, "A spreadsheet may have 2 rows, and this one has more."),
        ("CELLS_MAX", 2, "A spreadsheet may have 2 cells, and this one has more."),
        ("TEXTS_MAX", 2, "A spreadsheet may have 2 texts, and this one has more."),
        ("INSIDE_MAX", 10, "The spreadsheet has more than 10 parts in a cell, or beside the cells."),
    ],
)
def test_it_bounds_what_a_spreadsheet_may_hold(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int, sentence: str
) -> None:
    content = with_shared_texts(*(f"<t>AAAA-{n}</t>" for n in range(3)))
    assert len(read(content)) == 3
    monkeypatch.setattr(packages, bound, value)
    assert refusal(content).startswith(sentence)


DTD = b'<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;&b;&b;">]><worksheet'
STRICT = b"http://purl.oclc.org/ooxml/spreadsheetml/main"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            with_rows(b"<row/>" + b" " * 2_000_000, zipfile.ZIP_DEFLATED),
            "A part of the spreadsheet unpacks to more than 100 times its size, as no list of codes does.",
        ),
        (
            packed({**PARTS, **{f"xl/media/{n}": b"" for n in range(1000)}}),
            "A spreadsheet may have 1,000 parts, and this zip file has more.",
        ),
        (
            packed({**PARTS, **{f"xl/media/{n}": b"\0" * 1024**2 for n in range(256)}}, zipfile.ZIP_DEFLATED),
            "A spreadsheet may unpack to 256 MB, and this one to more.",
        ),
        (with_rows(b'<row r="1048577"/>'), "A spreadsheet may have 1,048,576 rows, and this one has more."),
        (with_rows(b'<row r="%d"/>' % 10**30), "A spreadsheet may have 1,048,576 rows, and this one has more."),
        (with_rows(b'<row r="1e9"/>'), "A spreadsheet may have 1,048,576 rows, and this one has more."),
        (with_rows(b"<row>" + b"<x>" * 250_000), "The spreadsheet has more than 200,000 parts in a cell"),
        (with_rows(b"<row><c><is><t>" + b"a" * 3_000_000), "A cell of the spreadsheet is longer than 1 MB."),
        (with_rows(b'<row><c t="' + b"a" * 3_000_000), "A cell of the spreadsheet is longer than 1 MB."),
        (with_rows(b'<row r="2"/><row r="1"/>'), f"{DAMAGED} (Row 1 comes after row 2.)"),
        (with_rows(b'<row r="2"/><row r="2"/>'), f"{DAMAGED} (Row 2 comes after row 2.)"),
        (with_rows(b'<row><c r="B1"/><c r="A1"/></row>'), f"{DAMAGED} (The cells of row 1 are in disorder.)"),
        (with_rows(b'<row><c r="AAAA1"/></row>'), f"{DAMAGED} (A cell in row 1 has no place.)"),
        (packed({**PARTS, STYLES: PARTS[STYLES].replace(b'xfId="0"', b'xfId="%d"' % 10**30)}), DAMAGED),
        (with_rows(b"<row><c></row>"), DAMAGED),
        (with_rows(b'<row><c t="s"><v>99</v></c></row>'), DAMAGED),
        (with_rows(b"<row><c><v>%b</v></c></row>" % (b"9" * 5000)), DAMAGED),
        (
            packed({**PARTS, SHEET: PARTS[SHEET].replace(b"<worksheet", DTD)}),
            "The spreadsheet has a document type declaration, as none does.",
        ),
        (
            packed({**PARTS, SHEET: PARTS[SHEET].replace(SHEET_NAMES.encode(), STRICT)}),
            "The spreadsheet is in the Strict form.",
        ),
        (
            packed({**PARTS, "xl/embeddings/a.xlsx": packed(PARTS)}),
            "The spreadsheet has another file packed inside it.",
        ),
        (packed({name: PARTS[name] for name in PARTS if name != SHEET}), "There are no codes in it"),
        (packed({name: PARTS[name] for name in PARTS if name != "xl/styles.xml"}), ""),
        (packed(PARTS, zipfile.ZIP_LZMA), "The spreadsheet is packed in a way that spreadsheets are not."),
        (packed({"codes.csv": b"AAAA-1"}), "The file is a zip archive, not a spreadsheet. Unpack it and upload"),
        (packed({"codes.xlsx": packed(PARTS)}), "The file is a zip archive, not a spreadsheet."),
        (packed({}), "The file is a zip archive, not a spreadsheet."),
        (packed({"mimetype": b"", "content.xml": b""}), "The file is an OpenDocument file"),
        (packed({**PARTS, "xl/workbook.bin": b""}), "The file is a binary Excel workbook (.xlsb)."),
        (packed({"[Content_Types].xml": b"", "word/document.xml": b""}), "The file is a Word document."),
        (packed({"[Content_Types].xml": b"", "ppt/presentation.xml": b""}), "The file is a presentation."),
        (packed({"Index/Document.iwa": b""}), "The file is a Numbers or Pages document."),
        (packed(PARTS)[:-50], f"{DAMAGED} If it is a zip archive, upload the file inside."),
    ],
    ids=range(32),
)
def test_it_says_what_is_wrong_with_a_spreadsheet(content: bytes, sentence: str) -> None:
    assert sentence in refusal(content, "codes.xlsx") if sentence else is_read_or_refused(content)


def entry_of(content: bytes, name: str, offset: int, form: str, value: int) -> bytes:
    """With a number changed in what the end of the zip file says of one of its entries."""
    damaged = bytearray(content)
    at = content.rindex(name.encode()) - 46 + offset
    assert damaged[at - offset : at - offset + 4] == b"PK\x01\x02"
    struct.pack_into(form, damaged, at, value)
    return bytes(damaged)


@pytest.mark.parametrize(
    ("offset", "form", "value", "sentence"),
    [
        (8, "<H", 1, "The spreadsheet has a password. Save it without one."),
        (16, "<I", 0, DAMAGED),  # its sum
        (24, "<I", 10, DAMAGED),  # unpacks to more than it says
        (24, "<I", 1_000_000_000, "A spreadsheet may unpack to 256 MB, and this one to more."),
        (42, "<I", 1_000_000, DAMAGED),  # where it is
    ],
)
def test_it_does_not_trust_what_a_zip_file_says_of_itself(offset: int, form: str, value: int, sentence: str) -> None:
    content = packed(PARTS, zipfile.ZIP_DEFLATED)
    assert codes(read(content)) == ["AAAA-1"]
    assert refusal(entry_of(content, SHEET, offset, form, value)).startswith(sentence)


def test_it_reads_no_part_that_is_there_twice() -> None:
    content = packed({**PARTS, "xl/worksheets/sheet2.xml": PARTS[SHEET]})
    sentence = f"{DAMAGED} (Two of its parts have one name.)"
    assert refusal(content.replace(b"sheet2.xml", b"sheet1.xml")) == sentence


# Damage

RICH = unpacked(
    workbook(
        ["code", "courseId", "expiresOn"],
        ["AAAA-1", "JS101", dt.date(2099, 12, 31)],
        ["=A1", 7, True],
        [12, 1.5, "#N/A"],
    )
)
ODD = [b"", b"-1", b"9" * 30, b"x", b"1e5", b"nan", b"A0", b"s", b"inlineStr", b"d", b"rId99", "\u0663".encode()]


@examples(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(RICH)), st.integers(0, 10_000), st.sampled_from(ODD), st.booleans())
def test_it_reads_or_refuses_a_spreadsheet_with_damaged_parts(part: str, at: int, odd: bytes, is_value: bool) -> None:
    """An attribute, a text or just some bytes are replaced, and all is packed again as if it were sound."""
    content = RICH[part]
    places = [found.span(1) for found in re.finditer(rb'="([^"]*)"|>[^<]+<', content) if found.group(1) is not None]
    texts = [(found.start() + 1, found.end() - 1) for found in re.finditer(rb">[^<]+<", content)]
    choices = (texts or places) if is_value else places
    start, end = choices[at % len(choices)] if at % 3 else (at % len(content), at % len(content) + 1)
    assert is_read_or_refused(packed({**RICH, part: content[:start] + odd + content[end:]}))


@examples(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), max_size=5), st.integers(0, 100_000))
def test_it_reads_or_refuses_a_damaged_zip_file(damage: list[tuple[int, int]], end: int) -> None:
    content = bytearray(packed(RICH, zipfile.ZIP_DEFLATED))
    for at, byte in damage:
        content[-1 - at % len(content)] = byte
    assert is_read_or_refused(bytes(content if end % 2 else content[: end % len(content)]))


def test_it_refuses_a_cell_so_far_out_that_millions_would_be_made_up() -> None:
    book = Workbook()
    sheet: Any = book.active
    sheet["A1"], sheet["CV200000"] = "AAAA-1", "far"
    file = io.BytesIO()
    book.save(file)

    with pytest.raises(UnreadableFile, match="may have 10,000,000 cells"):
        list(read_file(file))
