"""Reading codes out of files of all kinds: text and JSON (spreadsheets are in test_spreadsheets.py)."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from vouchers.codes import clean_code, mangled
from vouchers.errors import UnreadableFile
from vouchers.importing.reading import Line, read_file, read_list, read_text

LIST = [f"AAAA-{n}" for n in range(1, 4)]


def read(content: bytes, name: str = "") -> list[Line]:
    return list(read_file(io.BytesIO(content), name))


def codes(lines: list[Line]) -> list[str]:
    assert [line.fault for line in lines] == [""] * len(lines)
    return [line.code for line in lines]


def refusal(content: bytes, name: str = "") -> str:
    with pytest.raises(UnreadableFile) as refused:
        read(content, name)
    return refused.value.message


def is_read_or_refused(content: bytes, name: str = "") -> bool:
    """Anything else that is raised fails the test."""
    try:
        return all(isinstance(line, Line) for line in read(content, name))
    except UnreadableFile as refused:
        return refused.message.endswith((".", ")"))


# Text


@pytest.mark.parametrize("has_header", [True, False])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp1252"]
)
def test_it_reads_the_same_codes_however_a_file_is_written(
    encoding: str, ending: str, delimiter: str, has_header: bool
) -> None:
    """The en dash and the é are written differently in each of the encodings."""
    rows = ['AAAA-1|JS101|"a|b é"', "", '"AAAA\u20132"|JS101|', " AAAA-3 ||"] if has_header else ["AAAA-1|", "AAAA-3"]
    if has_header:
        rows.insert(0, 'Voucher Code|course_id|"Note"')
    else:
        rows[1:1] = ["", '"AAAA\u20132"|']
    text = ending.join(rows).replace("|", delimiter) + ending
    mark = b"\0\0\xfe\xff" if encoding == "utf-32-be" else b""
    lines = read(mark + text.encode(encoding), "codes.tsv" if delimiter == "\t" else "codes.csv")
    assert [clean_code(code) for code in codes(lines)] == LIST
    assert [line.number for line in lines] == ([2, 4, 5] if has_header else [1, 3, 4])
    assert [line.course for line in lines] == (["JS101", "JS101", ""] if has_header else [""] * 3)


@pytest.mark.parametrize("name", ["code", "VOUCHER", "voucherCode", "_id", "Voucher-Codes", "coupon code"])
def test_it_knows_the_column_of_codes_by_its_usual_names(name: str) -> None:
    assert codes(read(f"note;{name};expiresOn\nx;AAAA-1;2099-12-31\n".encode())) == ["AAAA-1"]


@pytest.mark.parametrize("header", ["_id,code", "code,_id"])
def test_it_takes_an_id_for_the_code_only_where_nothing_else_is_one(header: str) -> None:
    cells = {"_id": "65f1c0", "code": "AAAA-1"}
    row = ",".join(cells[name] for name in header.split(","))
    assert codes(read(f"{header}\n{row}\n".encode())) == ["AAAA-1"]


def test_it_passes_over_the_end_of_an_old_file() -> None:
    assert codes(read(b"AAAA-1\r\nCaf\xe9-2\r\n\x1a")) == ["AAAA-1", "Café-2"]
    assert codes(read(b"AAAA-1\r\n\x1a")) == ["AAAA-1"]


def test_it_reads_a_file_from_its_beginning() -> None:
    file = io.BytesIO(b"AAAA-1\n")
    file.read()
    assert codes(list(read_file(file))) == ["AAAA-1"]
    assert not file.closed


def test_it_reads_pasted_text_and_lists() -> None:
    assert codes(list(read_text("AAAA-1\nAAAA\u20132\n"))) == ["AAAA-1", "AAAA\u20132"]
    assert codes(list(read_text('["AAAA-1"]'))) == ["AAAA-1"]
    assert list(read_list(["AAAA-1", ""])) == [Line(1, "AAAA-1"), Line(2, "")]


@pytest.mark.parametrize(
    ("content", "faulty"),
    [
        (b'code,note\nAAAA-1,"a\nFRAGMENT-1\nb"\nAAAA-2,\n', [2, 3, 4]),
        (b'code,note\n"AAAA-1\nAAAA-3\n",x\nAAAA-2,\n', [2, 3, 4]),
        (b'code;note\nAAAA-1;"a\n\nFRAGMENT"\nAAAA-2;\n', [2, 4]),
        (b'AAAA-1,"a\nFRAGMENT"\nAAAA-2\n', [1, 2]),
        (b'"AAAA-1";"a\nFRAGMENT-1"\nAAAA-2\n', [1, 2]),
        (b'AAAA-1\t"a\nFRAGMENT-1"\nAAAA-2\n', [1, 2]),
    ],
)
@pytest.mark.parametrize("name", ["", "codes.csv"])
def test_it_takes_no_line_of_a_quoted_cell_for_a_code(content: bytes, faulty: list[int], name: str) -> None:
    lines = read(content, name)
    assert [line.number for line in lines if line.fault] == faulty
    assert {line.fault for line in lines if line.fault} == {
        f"This line is part of a quoted cell that spans lines {faulty[0]} to {faulty[-1]}. Put each code on one line."
    }
    assert [line.code for line in lines if not line.fault] == ["AAAA-2"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'code,note\n"AAAA-1,x\nAAAA-2,\nAAAA-3,\n', "A quote is opened in this line and not closed."),
        (
            b'code,note\n"AAAA-1,x\nAAAA-2,\n"AAAA-3",\n',
            "A quote is opened in this line and not closed.",  # closed by line 4, and then there is no delimiter
        ),
        (
            b'code,note\n"AAAA"-1,x\nAAAA-2,\nAAAA-3,\n',
            "Something stands after the closing quote of a cell in this line.",
        ),
    ],
)
def test_a_stray_quote_costs_one_line(content: bytes, fault: str) -> None:
    first, *rest = read(content)
    assert (first.number, first.fault) == (2, fault)
    assert [(line.number, line.code, line.fault) for line in rest] == [(3, "AAAA-2", ""), (4, "AAAA-3", "")]


@pytest.mark.parametrize("header", [["code"], []])
def test_a_quote_is_not_followed_for_ever(header: list[str]) -> None:
    far = [*header, '"AAAA-0', '"AAAA-1', *(f"AAAA-{n}" for n in range(2, 30)), '"']
    faulty = [line.number for line in read("\n".join(far).encode()) if line.fault]
    assert faulty == [len(header) + 1, len(header) + 2, len(far)]


def test_it_refuses_a_header_that_spans_lines() -> None:
    sentence = "The names of the columns span lines 1 to 2. Put them on one line."
    assert refusal(b'code,"a\nnote"\nAAAA-1,x\n') == sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "There are no codes in it"),
        (b"\n \r\n\xe2\x80\x8b\n", "There are no codes in it"),
        (b"code\n", "There are no codes in it"),
        (b"sep=;\n", "There are no codes in it"),
        ("code\n".encode("utf-16"), "There are no codes in it"),
        (b"AAAA-1\n" + b"A" * 70_000, "Line 2 is longer than 65536 characters. Put one code on each line."),
        (b"A" * 65_537 + b"\n", "Line 1 is longer than 65536 characters"),
        (b"AAAA-1\nPK\x03\x04\x00", "Line 2 holds binary data. Upload a text file"),
        (b"AAAA-1\rAAAA-2\r\n\x81\n", "Line 3 holds binary data"),  # no character of Windows-1252
        (b"AAAA-1\nCaf\xe9\x07", "Line 2 holds binary data"),
        (b"AAAA-1\nCaf\xe9\n\x1a\nAAAA-2", "Line 3 holds binary data"),
        (b"\xef\xbb\xbfAAAA-1\nCaf\xe9\n", "The file begins as UTF-8 text, and line 2 is not. Save it again"),
        ("AAAA-1\n".encode("utf-16") + b"\0", "The file begins as UTF-16 text, and line 2 is not."),
        ("A\0AA-1\n".encode("utf-16"), "Line 1 holds binary data"),
        (b"PK\x03\x04 and nothing", "The spreadsheet is damaged"),
        (b"\x1f\x8b\x08\x00", "The file is packed (gzip). Unpack it and upload the file inside."),
        (b"BZh91AY&SY\x00", "The file is packed (bzip2)"),
        (b"\xfd7zXZ\0\0", "The file is packed (xz)"),
        (b"7z\xbc\xaf\x27\x1c", "The file is packed (7-Zip)"),
        (b"Rar!\x1a\x07\x00", "The file is packed (RAR)"),
        (b"\x28\xb5\x2f\xfd", "The file is packed (Zstandard)"),
        (b"%PDF-1.7\n", "The file is a PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "The file is an old Excel workbook (.xls) or one with a password"),
        (b"\x89PNG\r\n", "The file is a picture (PNG)"),
        (b"\xff\xd8\xff\xe0", "The file is a picture (JPEG)"),
        (b"{\\rtf1 AAAA-1}", "The file is a formatted document (RTF)"),
        (b"\r\n <!DOCTYPE html><p>AAAA-1", "The file is a web page (HTML), whatever its name"),
        ("<table><tr><td>AAAA-1".encode("utf-16"), "The file is a web page (HTML)"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>', "The file is XML"),
    ],
)
@pytest.mark.parametrize("name", ["codes.csv", "codes.xlsx", "codes.json"])
def test_it_says_what_is_wrong_with_a_file(content: bytes, sentence: str, name: str) -> None:
    assert sentence in refusal(content, name)


def test_a_line_may_be_as_long_as_it_says() -> None:
    assert [len(line.code) for line in read(b"A" * 65_536 + b"\nAAAA-1\n")] == [65_536, 6]


def test_the_memory_for_text_does_not_grow_with_the_file() -> None:
    def peak(lines: int) -> int:
        file = io.BytesIO(b"code,expiresOn\n" + b"".join(b"AAAA-%07d,2099-12-31\n" % n for n in range(lines)))
        tracemalloc.start()
        try:
            deque(read_file(file), maxlen=0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(100_000) < peak(10_000) + 64 * 1024
    assert peak(10_000) < 2 * 1024 * 1024


# JSON


@pytest.mark.parametrize(
    "document",
    [
        ["AAAA-1", "AAAA-2"],
        [{"code": "AAAA-1"}, {"voucherCode": "AAAA-2", "note": {"code": [["x"]]}}],
        [{"_id": "AAAA-1", "courseId": None}, {"_id": {"$oid": "65f1"}, "code": "AAAA-2"}],
        {"vouchers": ["AAAA-1", "AAAA-2"], "id": "export-7", "more": [1, {"vouchers": ["x"]}]},
        {"codes": [{"voucher": "AAAA-1"}, "AAAA-2"]},
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_it_reads_json_lists(document: Any, encoding: str) -> None:
    lines = read(f" \n{json.dumps(document)}\n".encode(encoding), "codes.txt")
    assert codes(lines) == ["AAAA-1", "AAAA-2"]
    assert [line.number for line in lines] == [1, 2]


def test_it_reads_the_list_that_the_api_gives() -> None:
    given = {"_id": "AAAA-1", "courseId": "JS101", "used": False, "issuedTo": None, "usedOn": None}
    given |= {"status": "available", "issuedOn": None, "expiresOn": "2099-12-31"}
    assert read(json.dumps([given]).encode()) == [Line(1, "AAAA-1", "JS101", "2099-12-31")]


@pytest.mark.parametrize("is_last", [True, False])
def test_what_the_object_says_counts_for_every_code_without_its_own(is_last: bool) -> None:
    head: dict[str, Any] = {"courseId": "JS101", "expiresOn": "2099-12-31"}
    vouchers = {"vouchers": ["AAAA-1", {"code": "AAAA-2", "courseId": 7, "expiresOn": "2098-12-31"}, {"code": ""}]}
    document = head | vouchers if is_last else vouchers | head
    assert read(json.dumps(document).encode()) == [
        Line(1, "AAAA-1", "JS101", "2099-12-31"),
        Line(2, "AAAA-2", "7", "2098-12-31"),
        Line(3, "", "JS101", "2099-12-31"),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[]", "There are no codes in it"),
        (b'["a", 7]', "Element 2 is a number, not a string. Put each code in quotes."),
        (b'["a", null]', "Element 2 is null, not a string."),
        (b"[true]", "Element 1 is true or false, not a string."),
        (b'["a", ["b"]]', "Element 2 is a list, not a string."),
        (b'[{"code": "a"}, {"code": 1234}]', "`code` of element 2 is a number, not a string. Put each code in quotes."),
        (b'[{"_id": {"$oid": "a"}}]', "`_id` of element 1 is an object, not a string."),
        (b'["a", {"name": "b"}]', "Element 2 has no code: name it `code`, `voucher`, `voucherCode` or `_id`."),
        (b'[{"code": "a", "voucher": "b"}]', "Element 1 has more than one code, in `code` and `voucher`. Keep one."),
        (b'[{"_id": "a", "_id": "b"}]', "Element 1 has more than one code, in `_id` and `_id`."),
        (b'[{"code": "a", "expired": true}]', "`expired` of element 1 is true or false, not a string."),
        (b'{"vouchers": ["a"], "expiresOn": 5.5}', "`expiresOn` is a number, not a string."),
        (b'{"vouchers": ["a"], "codes": ["b"]}', "There are two lists of codes in the file."),
        (b'{"vouchers": {"a": 1}}', "The object in the file has no list under `vouchers`."),
        (
            b'{"code": "a"}\n{"code": "b"}\n',
            "The file holds objects one by one (JSON Lines). Put all codes in one list",
        ),
        (b'["a"]\n["b"]\n', "After element 1 the file is not valid JSON."),
        (b'["a", "b"', "After element 2 the file is not valid JSON."),
        (b'{"vouchers": ["a"', "After element 1 the file is not valid JSON."),
        (b"[AAAA-1]", "The file is not valid JSON. Check it, or put one code on each line."),
        (b"[" + b"9" * 5000 + b"]", "The file is not valid JSON."),
        (rb'["a\ud83d", "b"]', "The file has half of a character in it"),
        (rb'["a\ud83d\u0041", "b"]', "The file has half of a character in it"),
        (rb'["a\udc00b", "b"]', "The file has half of a character in it"),
        (rb'["a\udc00"]', "The file is not valid JSON"),
        (b"[" * 1_000_000, "Element 1 is a list, not a string."),
        (b'[{"a":' + b"[" * 1_000_000, "The file has lists or objects more than 64 deep in each other."),
        (b'[{"a":' * 1_000_000, "The file has lists or objects more than 64 deep in each other."),
        (b'{"a":' * 1_000_000, "The file has lists or objects more than 64 deep in each other."),
        (b'["a", "' + b"b" * 1_000_000 + b'"]', "Element 2 is longer than 65536 characters."),
    ],
)
def test_it_names_what_is_wrong_in_json(content: bytes, sentence: str) -> None:
    assert sentence in refusal(content, "codes.csv")


def test_it_bounds_the_size_of_json(settings: Any) -> None:
    settings.JSON_UPLOAD_MAX_BYTES = 10
    assert codes(read(b'["AAAA-1"]')) == ["AAAA-1"]
    sentence = refusal(b'["AAAA-10"]')
    assert sentence.startswith("A JSON file may have 10 bytes, and this one has 11. Upload a CSV")


def test_it_tells_whole_characters_from_halves_wherever_the_parser_stops_reading() -> None:
    pairs = json.dumps([f"{'A' * (n % 7)}\N{GRINNING FACE}\\ud83d" for n in range(20_000)]).encode()
    assert len(read(pairs)) == 20_000
    assert "half of a character" in refusal(pairs[:-1] + rb', "\ud83d"]')


# Anything at all


@pytest.mark.parametrize("code", ["1.23E+15", "1,23e+15", "9E-7"])
def test_it_knows_a_number_that_a_spreadsheet_shortened(code: str) -> None:
    assert mangled(code).startswith("A spreadsheet has turned this code into a number.")


@pytest.mark.parametrize("code", ["12.3E+15", "A1.23E+15", "1.23E+15A", "1E15", "123456", "AAAA-1"])
def test_it_takes_no_other_code_for_one(code: str) -> None:
    assert mangled(code) == ""


PIECES = [
    "AAAA-1",
    "B",
    "é",
    "\u200b",
    '"',
    '""',
    ",",
    ";",
    "\t",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\x0b",
    "\x1a",
    "2099-12-31",
]


@examples(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=60), st.sampled_from(["", "a.csv", "a.tsv"]), st.booleans()
)
def test_it_accounts_for_every_line(pieces: list[str], name: str, has_header: bool) -> None:
    text = "code,note\n" * has_header + "".join(pieces)
    physical = [(n, line) for n, line in enumerate(re.split("\r\n|\r|\n", text), 1) if clean_code(line)]
    if text.endswith("\x1a") and physical[-1][1].strip() == "\x1a":
        del physical[-1]
    expected = dict(physical[has_header:])
    if not expected:
        assert "There are no codes" in refusal(text.encode(), name)
        return
    lines = read(text.encode(), name)
    assert [line.number for line in lines] == [*expected]
    for line in lines:
        assert line.code.replace('"', "") in expected[line.number].replace('"', "")


BEGINNINGS = [
    b"",
    b"PK\x03\x04",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"[",
    b'["',
    b'{"vouchers":[',
    b"code,x\n",
    b"A\0",
]


@examples(max_examples=400, deadline=None)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300), st.sampled_from(["", "a.csv", "a.xlsx"]))
def test_it_reads_or_refuses_any_bytes(beginning: bytes, rest: bytes, name: str) -> None:
    assert is_read_or_refused(beginning + rest, name)


GOOD = [
    b'code;courseId;expiresOn\r\n"AAAA-1";JS101;2099-12-31\r\nAAAA-2;"a\nb";\r\n',
    "code\tnote\nAAAA-1\té\n".encode("utf-16"),
    rb'{"expiresOn": null, "vouchers": ["AAAA-1", {"code": "A\ud83d\ude00", "n": [1.5e3, {}]}], "courseId": 7}',
]


@examples(max_examples=400, deadline=None)
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=5))
def test_it_reads_or_refuses_damaged_files(good: bytes, damage: list[tuple[int, int]]) -> None:
    content = bytearray(good)
    for at, byte in damage:
        content[at % len(content)] = byte
    assert is_read_or_refused(bytes(content))
