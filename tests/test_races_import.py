"""The races of importing, and each once more with its guard taken away."""

from __future__ import annotations

import threading

import pytest
from django.db import OperationalError, transaction

from courses.models import Course
from tests.factories import BatchFactory, VoucherFactory, issue_to, make_pool
from tests.racing import (
    assert_books_are_right,
    failures,
    in_thread,
    somebody_waits_for_a_lock,
    together,
    wait_until,
)
from vouchers.filling import sweep_waiting
from vouchers.importing import storing
from vouchers.importing.reading import read_list
from vouchers.importing.statements import INSERT_NEW
from vouchers.importing.storing import Upload, import_codes
from vouchers.locks import try_lock_name
from vouchers.models import Batch, Issuance, Voucher
from vouchers.summary import summary

pytestmark = pytest.mark.django_db(transaction=True)


def import_into(course: Course, codes: list[str]) -> storing.Report:
    upload = Upload(course=Course.objects.get(pk=course.pk), actor="tests", source=Batch.Source.API)
    return import_codes(upload, read_list(codes))


class TestImport:
    def test_an_import_during_issuing_loses_nothing_and_the_counts_always_agree(self, course: Course) -> None:
        make_pool(course, 50)
        stop = threading.Event()

        def watch() -> int:
            polls = 0
            while not stop.is_set():
                (row,) = summary()
                assert row["total"] == row["issued"] + row["remaining"]
                polls += 1
            return polls

        def work(n: int) -> None:
            if n == 0:
                import_into(course, [f"NEW-{m}" for m in range(300)])
            else:
                for m in range(30):
                    issue_to(course, f"{n}-{m}@example.com")

        watcher = in_thread(watch)
        try:
            assert not failures(together(9, work))
        finally:
            stop.set()
        assert watcher() > 0
        sweep_waiting()
        assert Voucher.objects.filter(status="issued").count() == 240
        assert not Issuance.objects.filter(status="waiting").exists()
        assert_books_are_right(course)

    def test_the_same_codes_uploaded_twice_at_once_are_stored_once(self, course: Course) -> None:
        codes = [f"CODE-{n:05}" for n in range(3000)]
        reports = together(2, lambda n: import_into(course, codes if n else codes[::-1]))
        assert not failures(reports)
        done = [report for report in reports if isinstance(report, storing.Report)]
        assert sum(report.inserted for report in done) == 3000
        assert sum(report.duplicates for report in done) == 3000
        assert Voucher.objects.count() == 3000

    def upload_against_another(self, course: Course) -> storing.Report:
        """An import of B and A, in this order, while another upload has stored A and comes to B."""
        batch = BatchFactory.create(course=course)
        with transaction.atomic():
            VoucherFactory.create(course=course, batch=batch, code="CODE-A")
            imported = in_thread(lambda: import_into(course, ["CODE-B", "CODE-A"]))
            wait_until(somebody_waits_for_a_lock)
            VoucherFactory.create(course=course, batch=batch, code="CODE-B")
        return imported()

    def test_uploads_that_share_codes_never_wait_in_a_circle(self, course: Course) -> None:
        assert self.upload_against_another(course).duplicates == 2

    def test_control_in_the_order_of_the_files_they_lock_each_other_out(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        by_line = INSERT_NEW.replace("ORDER BY nth\nON CONFLICT", "ORDER BY line\nON CONFLICT")
        assert by_line != INSERT_NEW
        monkeypatch.setattr(storing, "INSERT_NEW", by_line)
        with pytest.raises(OperationalError, match="deadlock"):
            self.upload_against_another(course)

    def test_an_import_fills_the_queue_itself_though_a_newcomer_is_at_it(self, course: Course) -> None:
        issue_to(course, "old@example.com")
        with transaction.atomic():
            fill_lock = try_lock_name(f"queue {course.pk}")
            imported = in_thread(lambda: import_into(course, ["NEW-1"]))
            wait_until(somebody_waits_for_a_lock)
        assert fill_lock
        assert imported().filled == 1

    def test_newcomers_during_an_import_do_not_overtake_the_queue(self, course: Course) -> None:
        waiting = [issue_to(course, f"old-{n}@example.com").pk for n in range(5)]

        def work(n: int) -> None:
            if n == 0:
                import_into(course, [f"NEW-{m}" for m in range(7)])
            else:
                issue_to(course, f"new-{n}@example.com")

        assert not failures(together(9, work))
        sweep_waiting()
        filled = set(Issuance.objects.filter(status="issued").values_list("pk", flat=True))
        assert set(waiting) < filled
        assert len(filled) == 7
        assert_books_are_right(course)
