"""What the database does for an import: what is staged, stored in slices, and judged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from courses.models import Course
from tests.factories import CourseFactory, make_pool
from vouchers.importing import storing
from vouchers.importing.lines import Line
from vouchers.importing.reading import read_list
from vouchers.importing.staging import _cleaned, _is_ordinary
from vouchers.importing.statements import INSERT_NEW
from vouchers.importing.storing import Report, Upload, import_codes
from vouchers.models import Batch, Voucher

DAY = dt.date(2099, 1, 1)
NEW = [f"NEW-{n:02}" for n in range(7)]


def run(course: Course, codes: list[str], *, dry_run: bool = False) -> Report:
    upload = Upload(course=course, actor="tests", source=Batch.Source.API)
    return import_codes(upload, read_list(codes), dry_run=dry_run)


@given(
    st.builds(
        Line,
        number=st.just(7),
        code=st.from_regex(r"[A-Z0-9][!-~]{2,9}")
        | st.text(max_size=12)
        | st.sampled_from(["code", "1.23E+15", "ID-1"]),
        course=st.sampled_from(["", "", "JS101", "PY201"]),
        expires_on=st.sampled_from(["", "", "2099-12-31", "soon"]),
        fault=st.sampled_from(["", "", "Unreadable."]),
    )
)
def test_a_code_that_is_taken_as_ordinary_is_one_that_no_check_changes_or_refuses(line: Line) -> None:
    if _is_ordinary(line):
        assert _cleaned(line, "JS101", DAY) == (7, line.code, DAY, None, None, None, None)


@pytest.mark.parametrize(("code", "ordinary"), [("JS101-XZ4B7Q-001", True), ("a~!\\", True), ("codes", False)])
def test_a_usual_code_is_taken_as_ordinary(code: str, ordinary: bool) -> None:
    assert _is_ordinary(Line(1, code)) is ordinary


@pytest.mark.django_db
def test_a_code_of_backslashes_is_stored_as_given(course: Course) -> None:
    codes = ["a\\N\\t\\", "b\\.\\\\"]
    assert run(course, codes).inserted == 2
    assert list(Voucher.objects.order_by("position").values_list("code", flat=True)) == codes


@pytest.mark.django_db
class TestSlices:
    @pytest.fixture(autouse=True)
    def _of_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storing, "SLICE", 2)

    def test_it_accounts_for_each_line_over_several_slices(self, course: Course) -> None:
        make_pool(CourseFactory.create(id="PY201"), 2)
        taken = list(Voucher.objects.order_by("code").values_list("code", flat=True))
        codes = [taken[0].upper(), *NEW, NEW[0].lower(), "no", taken[1], taken[1]]

        tried = run(course, codes, dry_run=True)
        report = run(course, codes)

        assert (report.read, report.inserted, report.duplicates, report.repeated, report.invalid) == (12, 7, 4, 1, 1)
        assert [(rejected.line, rejected.reason) for rejected in report.rejected] == [
            (1, "Already in course PY201, not issued"),
            (9, "Already in line 2 of this upload"),
            (10, "The code is shorter than 4 characters."),
            (11, "Already in course PY201, not issued"),
            (12, "Already in course PY201, not issued"),
        ]
        assert (tried.counts, tried.rejected) == (report.counts, report.rejected)
        stored = Voucher.objects.filter(batch=report.batch).order_by("position")
        assert list(stored.values_list("code", flat=True)) == NEW

    def test_its_foreign_keys_are_checked_before_it_is_told_that_all_are_inserted(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stray = INSERT_NEW.replace("%(course)s, %(batch)s,", "%(course)s, %(batch)s + 1000,")
        assert stray != INSERT_NEW
        monkeypatch.setattr(storing, "INSERT_NEW", stray)
        upload = Upload(course=course, actor="tests", source=Batch.Source.API)
        told: list[float] = []
        with pytest.raises(IntegrityError, match="foreign key"):
            import_codes(upload, read_list(NEW), watch=told.append)
        assert told == [storing.READ]


def judging(deed: Callable[[], Report]) -> int:
    """How often lines are judged meanwhile."""
    with CaptureQueriesContext(connection) as queries:
        deed()
    return sum("INSERT INTO judged" in query["sql"] for query in queries)


@pytest.mark.django_db
def test_it_judges_lines_only_where_some_were_left_out(course: Course) -> None:
    assert judging(lambda: run(course, NEW)) == 0
    assert judging(lambda: run(course, [*NEW, "ANOTHER-1"])) == 1


@pytest.mark.django_db
def test_it_finds_a_slice_without_reading_the_others(course: Course) -> None:
    report = run(course, [f"CODE-{n:05}" for n in range(20_000)])
    assert report.batch
    names: dict[str, str | int] = {"course": course.pk, "batch": report.batch.pk, "after": 500, "until": 600}
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {INSERT_NEW}", names)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "fresh_nth_idx" in plan
    assert "Seq Scan" not in plan
