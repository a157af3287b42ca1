"""The steps of a batch: what may follow what, and what is left when something goes wrong in between."""

from __future__ import annotations

import datetime as dt
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.utils import timezone
from procrastinate import JobContext

from courses.models import Course
from tests.factories import issue_to
from tests.racing import in_thread, somebody_waits_for_a_lock, wait_until
from vouchers import locks, tasks
from vouchers.errors import BatchMovedOn, NotUndoable, TooLateToCancel, VoucherNotFound
from vouchers.filling import fill_waiting
from vouchers.guesses import Guesser
from vouchers.importing import steps, storing
from vouchers.importing.reading import Line, read_file, read_list
from vouchers.importing.statements import COUNT_JUDGED
from vouchers.importing.storing import Upload, import_codes
from vouchers.models import Batch, FilePart, Issuance, RedeemAttempt, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

Status = Batch.Status


def begin(course: Course, text: str = "NEW-0001\nNEW-0002\n") -> Batch:
    upload = Upload(course=course, actor="tests", source=Batch.Source.ADMIN, file_name="codes.txt")
    return steps.begin_upload(upload, io.BytesIO(text.encode()))


def confirmed(course: Course, text: str = "NEW-0001\nNEW-0002\n") -> Batch:
    batch = begin(course, text)
    steps.carry_on(batch.pk)
    steps.confirm(batch)
    return batch


def stored(course: Course, text: str = "NEW-0001\nNEW-0002\n") -> Batch:
    batch = confirmed(course, text)
    steps.carry_on(batch.pk)
    batch.refresh_from_db()
    return batch


def status(batch: Batch) -> str:
    batch.refresh_from_db()
    return batch.status


@pytest.mark.django_db
class TestSteps:
    def test_it_keeps_the_file_in_the_database_between_the_steps(self, course: Course) -> None:
        text = "".join(f"CODE-{n:06}\n" for n in range(50_000))

        batch = begin(course, text)

        parts = list(FilePart.objects.order_by("number").values_list("number", "content"))
        assert [number for number, _ in parts] == [0, 1, 2]
        assert b"".join(bytes(content) for _, content in parts) == text.encode()
        steps.carry_on(batch.pk)
        assert (status(batch), batch.inserted) == ("checked", 50_000)

    def test_it_does_nothing_twice(self, course: Course) -> None:
        batch = stored(course)
        steps.carry_on(batch.pk)
        assert status(batch) == "stored"
        assert Voucher.objects.count() == 2

    def test_it_refuses_moves_that_do_not_follow(self, course: Course) -> None:
        batch = begin(course)
        for move in (steps.confirm, steps.undo):
            with pytest.raises(BatchMovedOn):
                move(batch)
        assert status(batch) == "checking"

    def test_it_does_not_undo_codes_that_were_redeemed_from_the_pool(self, course: Course) -> None:
        batch = stored(course)
        redeem_voucher(RedeemRequest(code="NEW-0002", guesser=Guesser.of_address("127.0.0.1")))
        with pytest.raises(NotUndoable, match="1 of its codes"):
            steps.undo(batch)
        assert status(batch) == "stored"

    def test_it_undoes_codes_that_somebody_tried_in_vain(self, course: Course) -> None:
        Course.objects.update(redemption="issued")
        batch = stored(course)
        with pytest.raises(VoucherNotFound):
            redeem_voucher(RedeemRequest(code="NEW-0002", guesser=Guesser.of_address("127.0.0.1")))
        assert RedeemAttempt.objects.exists()
        steps.undo(batch)
        steps.carry_on(batch.pk)
        assert status(batch) == "undone"
        assert not RedeemAttempt.objects.exists()

    def test_it_does_not_undo_a_code_that_was_issued_and_returned(self, course: Course) -> None:
        batch = stored(course)
        issuance = issue_to(course)
        with transaction.atomic():
            Issuance.objects.filter(pk=issuance.pk).update(status="returned")
            Voucher.objects.filter(issuances=issuance).update(status="available", issued_to="", issued_at=None)
        with pytest.raises(NotUndoable):
            steps.undo(batch)

    def test_it_keeps_all_of_a_batch_one_of_which_came_and_went_before_the_worker(self, course: Course) -> None:
        batch = stored(course)
        steps.undo(batch)
        issuance = issue_to(course)
        with transaction.atomic():
            Issuance.objects.filter(pk=issuance.pk).update(status="returned")
            Voucher.objects.filter(issuances=issuance).update(status="available", issued_to="", issued_at=None)
        steps.carry_on(batch.pk)
        assert status(batch) == "stored"
        assert Voucher.objects.count() == 2

    def test_it_says_of_an_expiry_that_passed_meanwhile(self, course: Course) -> None:
        batch = confirmed(course)
        Batch.objects.update(expires_on=timezone.localdate() - dt.timedelta(days=1))
        steps.carry_on(batch.pk)
        assert status(batch) == "failed"
        assert batch.problem.endswith("is already past.")
        assert not Voucher.objects.exists()

    def test_it_cancels_what_nobody_confirms_for_a_week(self, course: Course) -> None:
        old, new = begin(course), begin(course)
        for batch in (old, new):
            steps.carry_on(batch.pk)
        Batch.objects.filter(pk=old.pk).update(created_at=timezone.now() - dt.timedelta(days=8))
        steps.forget_unconfirmed()
        assert (status(old), status(new)) == ("cancelled", "checked")
        assert set(FilePart.objects.values_list("batch", flat=True)) == {new.pk}

    def test_it_leaves_large_batches_to_the_worker(self, course: Course) -> None:
        packed = begin(course, "PK\x03\x04")  # a spreadsheet, which may be large all the same
        small, large = begin(course), begin(course, " " * steps.PART_BYTES + "\nNEW-0001\n")
        for batch in (small, large, packed):
            steps.carry_on_if_small(batch)
        assert (status(small), status(large), status(packed)) == ("checked", "checking", "checking")

    def test_it_hands_every_batch_to_the_worker(self, course: Course) -> None:
        small, large = begin(course), begin(course, " " * steps.PART_BYTES + "\nNEW-0001\n")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT args ->> 'batch_id', scheduled_at IS NOT NULL, lock FROM procrastinate_jobs"
                " WHERE task_name = %s",
                [steps.TASK],
            )
            assert set(cursor.fetchall()) == {(str(small.pk), True, None), (str(large.pk), False, "large batch")}


class Context:
    """As much of procrastinate's context as the task looks at."""

    def __init__(self, attempts: int) -> None:
        self.job = self
        self.attempts = attempts


@pytest.mark.django_db
class TestTask:
    def carry_on(self, batch: Batch, attempts: int = 0) -> None:
        tasks.carry_on_batch.func(cast(JobContext, Context(attempts)), batch.pk)

    def test_it_carries_on(self, course: Course) -> None:
        batch = begin(course)
        self.carry_on(batch)
        assert status(batch) == "checked"

    def break_with(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr(steps, "read_file", broken)

    def test_it_says_so_when_a_fault_of_ours_stops_it(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = confirmed(course)
        self.break_with(monkeypatch, ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            self.carry_on(batch)
        assert status(batch) == "failed"
        assert "A fault of the desk" in batch.problem

    def test_it_does_not_give_up_what_another_process_is_at(self, course: Course) -> None:
        batch = begin(course)
        other = connections.create_connection("default")
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [locks._number(f"batch {batch.pk}")])
            with pytest.raises(steps.BatchBusy):
                self.carry_on(batch, tasks.BATCH_ATTEMPTS)
        finally:
            other.close()
        assert status(batch) == "checking"

    @pytest.mark.parametrize(("attempts", "then"), [(0, "storing"), (tasks.BATCH_ATTEMPTS, "failed")])
    def test_it_tries_again_after_troubles_of_the_database(
        self, course: Course, monkeypatch: pytest.MonkeyPatch, attempts: int, then: str
    ) -> None:
        batch = confirmed(course)
        self.break_with(monkeypatch, OperationalError("gone"))
        with pytest.raises(OperationalError):
            self.carry_on(batch, attempts)
        assert status(batch) == then


@pytest.mark.django_db(transaction=True)
class TestMeanwhile:
    """What happens while a batch is being carried on, on real connections."""

    @pytest.fixture(autouse=True)
    def _said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps, "SAID_EVERY", 0)
        monkeypatch.setattr(storing, "WATCHED_LINES", 1)

    def while_reading(self, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], None]) -> None:
        """Has a deed done after the first line of a file was read."""

        def read(*args: Any) -> Iterator[Line]:
            for number, line in enumerate(read_file(*args)):
                if number == 1:
                    in_thread(deed)()
                yield line

        monkeypatch.setattr(steps, "read_file", read)

    def test_others_see_how_far_it_is(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = confirmed(course, "".join(f"CODE-{n:06}\n" for n in range(500)))
        monkeypatch.setattr(storing, "SLICE", 50)
        seen = []

        def watch_too(course: Course, *, wait: bool) -> int:
            seen.append(in_thread(lambda: Batch.objects.get().percent)())
            return 0

        monkeypatch.setattr(storing, "fill_waiting", watch_too)
        steps.carry_on(batch.pk)
        assert seen == [95]
        assert status(batch) == "stored"

    def test_it_stops_when_cancelled_and_stores_nothing(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = confirmed(course)
        self.while_reading(monkeypatch, lambda: steps.cancel(batch))
        steps.carry_on(batch.pk)
        assert status(batch) == "cancelled"
        assert not Voucher.objects.exists()
        assert not FilePart.objects.exists()

    def test_nobody_else_carries_it_on_at_the_same_time(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = confirmed(course)
        busy = []

        def another_worker() -> None:
            with pytest.raises(steps.BatchBusy):
                steps.carry_on(batch.pk)
            busy.append(True)

        self.while_reading(monkeypatch, another_worker)
        steps.carry_on(batch.pk)
        assert busy == [True]
        assert status(batch) == "stored"

    def test_all_or_nothing_is_left_when_its_connection_is_cut(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = confirmed(course)

        def cut() -> None:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'COPY staged%'"
                )
                assert cursor.fetchone() == (1,)

        with monkeypatch.context() as patch:
            self.while_reading(patch, cut)
            with pytest.raises(OperationalError):
                steps.carry_on(batch.pk)
        connections.close_all()
        assert status(batch) == "storing"
        assert not Voucher.objects.exists()
        steps.carry_on(batch.pk)
        assert (status(batch), batch.inserted) == ("stored", 2)
        assert Voucher.objects.count() == 2

    def cancel_too_late(self, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> str:
        """The status that a person saw who cancelled when storing was as good as done."""
        late, cancelled = threading.Event(), threading.Event()

        def fill_when_cancelled(course: Course, *, wait: bool) -> int:
            late.set()
            assert cancelled.wait(30)
            return fill_waiting(course, wait=wait)

        monkeypatch.setattr(storing, "fill_waiting", fill_when_cancelled)
        storing_it = in_thread(lambda: steps.carry_on(batch.pk))
        assert late.wait(30)
        steps.cancel(batch)
        seen = status(batch)
        cancelled.set()
        storing_it()
        return seen

    def test_cancelling_too_late_does_not_say_that_it_was_cancelled(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = confirmed(course)
        assert self.cancel_too_late(batch, monkeypatch) == "storing"
        assert status(batch) == "stored"

    def test_control_without_the_lock_it_says_so_and_stores_them_all_the_same(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = confirmed(course)
        monkeypatch.setattr(steps, "try_lock_name", lambda name: True)
        assert self.cancel_too_late(batch, monkeypatch) == "cancelled"
        assert status(batch) == "stored"
        assert Voucher.objects.count() == 2

    def test_a_cancel_that_came_too_late_does_not_stop_the_undo_later(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = confirmed(course)
        with monkeypatch.context() as patch:
            self.cancel_too_late(batch, patch)
        batch.refresh_from_db()
        monkeypatch.setattr(steps, "DELETED_AT_ONCE", 1)
        steps.undo(batch)
        steps.carry_on(batch.pk)
        assert status(batch) == "undone"
        assert not Voucher.objects.exists()

    def test_a_wish_to_cancel_does_not_outlive_the_next_deed(self, course: Course) -> None:
        batch = begin(course)
        steps.carry_on(batch.pk)
        Batch.objects.update(cancel_asked=True)  # as one that came between the check and its end
        steps.confirm(batch)
        steps.carry_on(batch.pk)
        assert status(batch) == "stored"

    def test_a_check_that_is_cancelled_in_its_last_moment_is_cancelled(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = begin(course)

        def check_and_be_cancelled(*args: Any) -> None:
            in_thread(lambda: steps.cancel(batch))()

        monkeypatch.setattr(steps, "check_codes", check_and_be_cancelled)
        steps.carry_on(batch.pk)
        assert status(batch) == "cancelled"

    def test_cancelling_while_it_is_being_committed_is_refused_in_words(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = confirmed(course)
        monkeypatch.setattr(steps, "CANCEL_SECONDS", 1)
        with transaction.atomic():
            steps.carry_on(batch.pk)
            with pytest.raises(TooLateToCancel):
                in_thread(lambda: steps.cancel(batch))()
        assert status(batch) == "stored"

    def import_while_undone(self, course: Course) -> storing.Report:
        """An import of a code that another batch holds when it inserts, and does not hold when it judges."""
        batch = stored(course, "SAME-0001\n")
        steps.undo(batch)

        def undo_it(share: float) -> None:
            if share == storing.INSERTED:
                in_thread(lambda: steps.carry_on(batch.pk))()

        upload = Upload(course=course, actor="tests", source=Batch.Source.API)
        return import_codes(upload, read_list(["SAME-0001", "NEW-0001"]), watch=undo_it)

    def test_an_import_reports_no_code_as_stored_that_left_its_pool_meanwhile(self, course: Course) -> None:
        report = self.import_while_undone(course)
        assert (report.inserted, report.duplicates) == (2, 0)
        assert set(Voucher.objects.values_list("code", flat=True)) == {"SAME-0001", "NEW-0001"}

    def test_control_without_a_second_look_it_is_a_duplicate_of_nothing(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        careless = COUNT_JUDGED.replace("count(*) FILTER (WHERE missing)", "0")
        assert careless != COUNT_JUDGED
        monkeypatch.setattr(storing, "COUNT_JUDGED", careless)
        with pytest.raises(IntegrityError, match='null value in column "reason"'):
            self.import_while_undone(course)
        assert not Voucher.objects.exists()

    def test_a_code_that_is_issued_while_its_batch_is_undone_keeps_all_of_it(self, course: Course) -> None:
        batch = stored(course)
        steps.undo(batch)
        with transaction.atomic():
            issue_to(course)
            undoing = in_thread(lambda: steps.carry_on(batch.pk))
            wait_until(somebody_waits_for_a_lock)
        undoing()
        assert status(batch) == "stored"
        assert batch.problem.startswith("1 of its codes has been issued")
        assert Voucher.objects.count() == 2

    def test_a_buyer_who_comes_while_a_batch_is_undone_waits_for_the_end_of_it(self, course: Course) -> None:
        batch = stored(course)
        steps.undo(batch)
        with transaction.atomic():
            steps.carry_on(batch.pk)
            issuing = in_thread(lambda: issue_to(course))
            wait_until(somebody_waits_for_a_lock)
        assert issuing().status == "waiting"
        assert not Voucher.objects.exists()
