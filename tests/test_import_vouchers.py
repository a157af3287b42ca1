"""manage.py import_vouchers"""

from __future__ import annotations

import csv
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from tests.test_spreadsheets import workbook
from vouchers.models import Batch, Delivery, Issuance, RejectedLine, Voucher

pytestmark = pytest.mark.django_db

MESSY = (
    "\ufeffcode,courseId,note\r\n"
    "JS101-XZ4B7Q-001,JS101,first\r\n"
    "\r\n"
    "  js101\u2011xz4b7q\u2011002 ,,\r\n"
    '"JS101-XZ4B7Q-003",JS101,"a, b"\n'
    "JS101-xz4b7q-001,JS101,again\r"
    "ab,JS101,short\n"
    "JS101-XZ4B7Q-004,PY201,another course\n"
    '"JS101-XZ4B7Q-005,JS101,open quote\n'
    "TAKEN-1,JS101,\n"
)


def run(path: Path | str, *options: str) -> str:
    out = io.StringIO()
    call_command("import_vouchers", str(path), "--course", "JS101", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue().splitlines()[-1]


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    path = tmp_path / "messy.csv"
    path.write_bytes(MESSY.encode())
    return path


def test_it_accounts_for_every_line_of_a_messy_file(course: Course, messy: Path) -> None:
    taken = make_pool(CourseFactory.create(id="PY201"), 1, code="taken-1")[0]
    issue_to(taken.course)

    closing = run(messy)

    batch = Batch.objects.latest("id")
    assert (batch.read, batch.inserted, batch.duplicates, batch.invalid) == (8, 3, 2, 3)
    assert closing == "Stored 3 codes for JS101: 8 read, 3 new, 2 duplicates, 3 malformed."
    stored = Voucher.objects.filter(batch=batch).order_by("position").values_list("code", flat=True)
    assert list(stored) == ["JS101-XZ4B7Q-001", "js101-xz4b7q-002", "JS101-XZ4B7Q-003"]
    assert list(RejectedLine.objects.filter(batch=batch).order_by("line").values_list("line", "kind", "reason")) == [
        (6, "duplicate", "Already in line 2 of this upload"),
        (7, "invalid", "The code is shorter than 4 characters."),
        (8, "invalid", "The line names course PY201, and this upload is for JS101."),
        (9, "invalid", "A quote is opened in this line and not closed."),
        (10, "duplicate", "Already in course PY201, issued"),
    ]


def test_it_changes_nothing_in_a_dry_run(course: Course, messy: Path) -> None:
    assert run(messy, "--dry-run") == "Would store 4 codes for JS101: 8 read, 4 new, 1 duplicates, 3 malformed."
    assert not Voucher.objects.exists()
    assert not Batch.objects.exists()


@pytest.mark.parametrize("option", ["--dry-run", "--expires-on=2099-01-01"])
def test_it_writes_the_rejected_lines_to_a_file(course: Course, messy: Path, tmp_path: Path, option: str) -> None:
    rejects = tmp_path / "rejects.csv"
    run(messy, "--rejects", str(rejects), option)
    rows = list(csv.DictReader(rejects.open()))
    assert [row["line"] for row in rows] == ["6", "7", "8", "9"]
    assert rows[0]["code"] == "JS101-xz4b7q-001"


def test_it_stores_nothing_of_a_file_with_faults_when_strict(course: Course, messy: Path) -> None:
    with pytest.raises(CommandError, match=r"Nothing was stored: 4 of 8 lines"):
        run(messy, "--strict")
    assert not Voucher.objects.exists()
    assert not Batch.objects.exists()


def test_it_reads_standard_input(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"AAAA-1\nAAAA-2\n")))
    assert run("-").startswith("Stored 2 codes for JS101")


def test_it_makes_the_course_when_asked(tmp_path: Path, db: None) -> None:
    path = tmp_path / "codes.txt"
    path.write_text("AAAA-1\n")
    with pytest.raises(CommandError, match="no course 'JS101'"):
        run(path)
    assert run(path, "--create-course", "JavaScript Basics").startswith("Stored 1 codes")
    assert Course.objects.get().name == "JavaScript Basics"


def test_it_makes_no_course_when_the_file_is_refused(tmp_path: Path, db: None) -> None:
    path = tmp_path / "codes.txt"
    path.write_bytes(b"AAAA-1\nPK\x03\x04\x00\x00")
    with pytest.raises(CommandError, match="Line 2 holds binary data"):
        run(path, "--create-course", "JavaScript Basics")
    assert not Course.objects.exists()
    assert not Voucher.objects.exists()


def test_it_fills_the_waiting_buyers_oldest_first(course: Course, tmp_path: Path) -> None:
    waiting = [issue_to(course, f"buyer{n}@example.com") for n in range(3)]
    path = tmp_path / "codes.txt"
    path.write_text("AAAA-1\nAAAA-2\n")

    assert run(path).endswith("2 waiting buyers got theirs.")

    statuses = Issuance.objects.order_by("id").values_list("status", "voucher__code")
    assert list(statuses) == [("issued", "AAAA-1"), ("issued", "AAAA-2"), ("waiting", None)]
    assert set(Delivery.objects.values_list("email", flat=True)) == {waiting[0].email, waiting[1].email}


@pytest.mark.parametrize(
    "content",
    ["code\tnote\r\nAAAA-1\t\u00e9\r\n".encode("utf-16"), b'{"codes": ["AAAA-1"]}', workbook(["AAAA-1"])],
    ids=["UTF-16", "JSON", "XLSX"],
)
def test_it_reads_files_of_all_kinds(course: Course, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "codes"
    path.write_bytes(content)
    assert run(path).startswith("Stored 1 codes")
    assert Voucher.objects.get().code == "AAAA-1"


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--expires-on=tomorrow", "is no date"),
        ("--expires-on=2020-01-01", "already past"),
        ("--rejects=/nowhere/at/all.csv", "cannot be written"),
    ],
)
def test_it_says_what_is_wrong_and_stores_nothing(course: Course, messy: Path, option: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(messy, option)
    assert not Voucher.objects.exists()


def test_it_reads_a_pipe(course: Course, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as writer:
        writer.submit(pipe.write_text, "AAAA-1\nAAAA-2\n")
        assert run(pipe).startswith("Stored 2 codes")


def test_it_does_not_write_over_the_file_it_reads(course: Course, messy: Path) -> None:
    before = messy.read_bytes()
    with pytest.raises(CommandError, match="the very file that is read"):
        run(messy, "--rejects", str(messy))
    assert messy.read_bytes() == before


def test_it_says_that_a_file_is_missing(course: Course, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        run(tmp_path / "none.csv")


def test_it_honours_the_expiry_of_the_file_and_of_its_lines(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    path.write_text("code;expiresOn\nAAAA-1;2098-12-31\nAAAA-2;\nAAAA-3;31.12.2098\nAAAA-4;2020-01-01\n")
    run(path, "--expires-on", "2099-06-30")
    stored = {v.code: str(v.expires_on) for v in Voucher.objects.all()}
    assert stored == {"AAAA-1": "2098-12-31", "AAAA-2": "2099-06-30"}
    assert RejectedLine.objects.filter(kind="invalid").count() == 2


def test_it_refuses_columns_it_cannot_name_rather_than_losing_codes(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    path.write_text("AAAA-1,AAAA-2\nAAAA-3\n")
    run(path)
    assert list(Voucher.objects.values_list("code", flat=True)) == ["AAAA-3"]
    assert "has no header" in RejectedLine.objects.get().reason


def test_it_does_not_take_the_header_of_a_second_file_for_a_code(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "joined.csv"
    path.write_text("code\nAAAA-1\nVoucherCode\nAAAA-2\n")
    run(path)
    assert set(Voucher.objects.values_list("code", flat=True)) == {"AAAA-1", "AAAA-2"}
    assert RejectedLine.objects.get().reason == "This is the name of a column, not a code."


def test_it_keeps_delimiters_inside_codes_of_a_plain_list(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "codes.txt"
    path.write_text("AA,BB\nAA;BB\n")
    run(path)
    assert set(Voucher.objects.values_list("code", flat=True)) == {"AA,BB", "AA;BB"}
