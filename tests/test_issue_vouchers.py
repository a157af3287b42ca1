"""manage.py issue_vouchers"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from courses.models import Course
from tests.factories import issue_to, make_pool
from vouchers import bulk_issuing
from vouchers.models import IdempotencyKey, Issuance, Voucher

pytestmark = pytest.mark.django_db
ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


class Files:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "emails.csv"

    def issue(self, content: str | bytes, *options: str, course: str = "JS101") -> list[list[str]]:
        """The cells of what it prints for a file."""
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return issue(str(self.path), *options, course=course)


def issue(path: str, *options: str, course: str = "JS101") -> list[list[str]]:
    out = io.StringIO()
    call_command("issue_vouchers", course, path, *options, stdout=out)
    return [line.split("\t") for line in out.getvalue().splitlines()]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_it_prints_a_line_for_each_email_and_what_happened(files: Files, course: Course) -> None:
    first, second = (voucher.code for voucher in make_pool(course, 2))
    issue_to(course, ANN)
    assert files.issue(f"{ANN}\n{BOB}\n{CAT}\nx\n") == [
        ["1", "found", ANN, first],
        ["2", "issued", BOB, second],
        ["3", "waiting", CAT, "number 1 in the queue"],
        ["4", "invalid", "x", "This is not one email address."],
        ["Issued 1 vouchers of JS101 to 4 lines: 1 found, 1 waiting, 0 closed, 1 invalid."],
    ]
    assert not Issuance.objects.filter(voucher__isnull=False, told_at=None).exists()


def test_it_is_safe_to_repeat(files: Files, course: Course) -> None:
    make_pool(course, 3)
    first = files.issue(f"{ANN}\n{BOB}\n")
    again = files.issue(f"{ANN}\n{BOB}\n")
    assert [line[3] for line in first[:2]] == [line[3] for line in again[:2]]
    assert again[-1] == ["Issued 0 vouchers of JS101 to 2 lines: 2 found, 0 waiting, 0 closed, 0 invalid."]


@pytest.mark.parametrize(
    "content",
    [
        f"Email\n\n{ANN}\n  \n{BOB}",
        f'"email";name\r\n\r\n"{ANN}";"Müller"\r\n\r\n{BOB};x\r\n'.encode("cp1252"),
        f"\n\n{ANN}\tAnn, of old\n\n{BOB}\n",
        f"\ufeffemail,name\n\n {ANN} ,Ann\n\n{BOB},Bob\n",
    ],
)
def test_it_reads_the_first_column(files: Files, course: Course, content: str | bytes) -> None:
    make_pool(course, 2)
    lines = files.issue(content)
    assert [(number, email) for number, _, email, _ in lines[:-1]] == [("3", ANN), ("5", BOB)]


def test_it_reads_standard_input(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pool(course, 1)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ANN.encode())))
    assert [line[1] for line in issue("-")[:-1]] == ["issued"]


class TestParts:
    """A file longer than one list."""

    @pytest.fixture(autouse=True)
    def _short_lists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_issuing, "LINES_AT_MOST", 2)

    CONTENT = f"{ANN}\n{BOB}\n{ANN.upper()}\nx\n{CAT}\n{BOB}\n{BOB}\n"

    @pytest.mark.parametrize("options", [[], ["--batch-key", "k"]])
    def test_an_email_is_one_request_in_all_parts(self, files: Files, course: Course, options: list[str]) -> None:
        make_pool(course, 9)
        lines = files.issue(self.CONTENT, *options)
        assert [line[0] for line in lines[:-1]] == list("1234567")
        assert [line[1] for line in lines[:-1]] == [
            *("issued", "issued", "found", "invalid", "issued", "found", "found")
        ]
        assert [line[2] for line in lines[2:4]] == [ANN.upper(), "x"]
        assert (lines[0][3], lines[1][3], lines[1][3]) == (lines[2][3], lines[5][3], lines[6][3])
        assert Issuance.objects.count() == 3

    def test_the_same_file_under_the_same_key_finds_the_same_vouchers(self, files: Files, course: Course) -> None:
        make_pool(course, 9)
        first = files.issue(self.CONTENT, "--batch-key", "k")
        again = files.issue(self.CONTENT, "--batch-key", "k")
        assert [line[3] for line in again[:-1]] == [line[3] for line in first[:-1]]
        assert "Issued 0 vouchers" in again[-1][0]
        assert IdempotencyKey.objects.count() == Issuance.objects.count() == 3
        files.issue(self.CONTENT, "--batch-key", "other")
        assert Issuance.objects.count() == 6

    def test_it_goes_on_where_it_was_broken_off(
        self, files: Files, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 9)
        with monkeypatch.context() as patch:
            parts = iter([bulk_issuing.issue_to_list])
            patch.setattr(bulk_issuing, "issue_to_list", lambda request: next(parts)(request))
            with pytest.raises(RuntimeError):
                files.issue(self.CONTENT, "--batch-key", "k")
        assert Issuance.objects.count() == 2
        lines = files.issue(self.CONTENT, "--batch-key", "k")
        assert lines[-1][0].startswith("Issued 1 vouchers of JS101 to 7 lines: 5 found")


def test_it_stores_nothing_in_a_dry_run(files: Files, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_issuing, "LINES_AT_MOST", 1)
    make_pool(course, 1)
    assert files.issue(f"{ANN}\n{BOB}\n", "--dry-run", "--batch-key", "k") == [
        ["1", "issued", ANN, ""],
        ["2", "waiting", BOB, "number 1 in the queue"],
        ["Would issue 1 vouchers of JS101 to 2 lines: 0 found, 1 waiting, 0 closed, 0 invalid."],
    ]
    assert not Issuance.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert Voucher.objects.get().status == "available"


def test_it_prints_no_cell_that_a_spreadsheet_runs(files: Files, course: Course) -> None:
    make_pool(course, 1)
    assert files.issue("=cmd@example.com\n")[0][2] == "'=cmd@example.com"


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "options", "course_id", "said"),
        [
            ("", [], "JS101", "There are no emails"),
            ("email\n\n", [], "JS101", "There are no emails"),
            (b"PK\3\4\0\0", [], "JS101", "is no text"),
            (ANN.encode("utf-16"), [], "JS101", "is no text"),
            (b"caf\x81", [], "JS101", "is no text"),
            (ANN, [], "js101", "There is no course 'js101'"),
            (ANN, ["--batch-key", "é"], "JS101", "printable ASCII"),
            (ANN, ["--batch-key", "a" * 200], "JS101", "up to 188"),
        ],
    )
    def test_it_says_what_to_do(
        self, files: Files, course: Course, content: Any, options: list[str], course_id: str, said: str
    ) -> None:
        make_pool(course, 1)
        with pytest.raises(CommandError, match=said):
            files.issue(content, *options, course=course_id)
        assert not Issuance.objects.exists()

    def test_it_names_a_file_that_is_not_there(self, course: Course) -> None:
        with pytest.raises(CommandError, match="cannot be read: No such file"):
            issue("/nowhere/emails.txt")

    def test_it_is_refused_for_another_list_under_the_same_key(self, files: Files, course: Course) -> None:
        make_pool(course, 2)
        files.issue(ANN, "--batch-key", "k")
        with pytest.raises(CommandError, match="used for another course or other emails"):
            files.issue(BOB, "--batch-key", "k")
        assert Issuance.objects.count() == 1
