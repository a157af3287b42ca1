"""The tallies that the summary adds up: whatever path a change takes, their sums are what a recount finds."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import Sum
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import BatchFactory, CourseFactory, issue_to, make_pool
from tests.racing import failures, in_thread, somebody_waits_for_a_lock, together, wait_until
from vouchers import tallies
from vouchers.doctor.check import rows_of
from vouchers.doctor.rounds import heal
from vouchers.generating import generate_batch
from vouchers.guesses import Guesser
from vouchers.importing import steps
from vouchers.models import Tally, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher
from vouchers.summary import CourseCounts, summary
from vouchers.tallies import correct, fold

MORE = "INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number) VALUES (%s)"
ONE_TOO_MANY = MORE % "'JS101', 'available', false, '9999-12-31', 1"


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def wrong() -> list[object]:
    return [*rows_of(tallies.WRONG, [])]


def counts(course_id: str = "JS101") -> CourseCounts:
    return next(row for row in summary() if row["courseId"] == course_id)


def days(number: int) -> dt.date:
    return timezone.localdate() + dt.timedelta(days=number)


@pytest.mark.django_db
class TestEveryPath:
    def test_it_counts_what_copy_stores(self, course: Course) -> None:
        batch = BatchFactory.create(course=course)
        columns = "code, course_id, batch_id, position, status, issued_to, revoked_reason, note"
        with connection.cursor() as cursor, cursor.copy(f"COPY vouchers_voucher ({columns}) FROM STDIN") as copy:
            for number in range(3):
                copy.write_row((f"CODE-{number}", "JS101", batch.pk, number, "available", "", "", ""))
        assert (counts()["total"], Tally.objects.count(), wrong()) == (3, 1, [])

    def test_it_counts_what_sql_changes_and_deletes(self, course: Course) -> None:
        make_pool(course, 5)
        execute("UPDATE vouchers_voucher SET status = 'revoked', revoked_at = now() WHERE position % 2 = 0")
        execute(
            "DELETE FROM vouchers_voucher WHERE id = (SELECT min(id) FROM vouchers_voucher WHERE revoked_at IS NULL)"
        )
        left = Voucher.objects.filter(status="available").count()
        assert (counts()["remaining"], wrong()) == (left, [])

    def test_it_counts_a_last_day_that_changes(self, course: Course) -> None:
        make_pool(course, 2)
        Voucher.objects.filter(pk=Voucher.objects.earliest("id").pk).update(expires_on=days(-1))
        assert (counts()["remaining"], counts()["expired"], wrong()) == (1, 1, [])

    def test_it_adds_nothing_for_a_note(self, course: Course) -> None:
        make_pool(course, 2)
        before = Tally.objects.count()
        execute("UPDATE vouchers_voucher SET note = 'a note'")
        assert Tally.objects.count() == before

    def test_it_forgets_all_where_all_is_truncated(self, course: Course) -> None:
        make_pool(course, 2)
        connection.check_constraints()
        execute("TRUNCATE vouchers_voucher CASCADE")
        assert not Tally.objects.exists()

    def test_it_counts_on_from_what_there_was_before_it(self, course: Course) -> None:
        migration = import_module("vouchers.migrations.0010_counters")
        make_pool(course, 3)
        issue_to(course)
        before = counts()
        connection.check_constraints()
        execute(migration.UNDO)
        Tally.objects.all().delete()
        assert counts()["total"] == 0
        execute(migration.TALLIES)
        issue_to(course, "bob@example.com")
        assert (before["total"], counts()["issued"], wrong()) == (counts()["total"], 2, [])


@pytest.mark.django_db
class TestFold:
    def test_it_leaves_one_for_each_kind(self, course: Course) -> None:
        make_pool(course, 3)
        issue_to(course)
        before = counts()

        assert fold() == 1
        assert sorted(Tally.objects.values_list("status", "number")) == [("available", 2), ("issued", 1)]
        assert (counts(), fold()) == (before, 0)

    def test_it_leaves_none_for_what_is_no_more(self, course: Course) -> None:
        make_pool(course, 2)
        Voucher.objects.all().delete()
        fold()
        assert not Tally.objects.exists()

    def test_it_puts_days_together_that_are_past(self, course: Course) -> None:
        for number in (-3, -4, -30, -1, 30):
            make_pool(course, 1, expires_on=days(number))
        before = counts()
        fold()
        assert sorted(Tally.objects.values_list("number", flat=True)) == [1, 1, 3]
        assert (counts(), before["expired"], before["remaining"], wrong()) == (before, 4, 1, [])

    def test_it_still_counts_one_whose_day_was_put_with_others(self, course: Course) -> None:
        vouchers = make_pool(course, 2, expires_on=days(-30))
        fold()
        Voucher.objects.filter(pk=vouchers[0].pk).update(expires_on=days(30))
        fold()
        assert (counts()["remaining"], counts()["expired"], wrong()) == (1, 1, [])


@contextmanager
def one_row_a_course() -> Iterator[None]:
    """As if the counts of a course were kept in a row that every change of them updates."""
    execute("""
        CREATE FUNCTION counted_in_place() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE courses_course SET description = description WHERE id = NEW.course_id; RETURN NULL;
        END $$;
        CREATE TRIGGER counted_in_place AFTER UPDATE ON vouchers_voucher
            FOR EACH ROW EXECUTE FUNCTION counted_in_place();
    """)
    try:
        yield
    finally:
        execute("DROP TRIGGER counted_in_place ON vouchers_voucher; DROP FUNCTION counted_in_place()")


def revoke_crosswise() -> list[Exception]:
    """Two transactions that change vouchers of the same two courses, each of its own, in opposite orders."""
    pools = [make_pool(CourseFactory.create(), 2) for _ in range(2)]
    both = threading.Barrier(2, timeout=30)

    @transaction.atomic
    def deed(n: int) -> None:
        revoke_voucher(pools[n][n], reason="lost")
        both.wait()
        revoke_voucher(pools[1 - n][n], reason="lost")

    return failures(together(2, deed))


class Busy:
    """A course of 40 codes that everything happens to, until two are done with issuing."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.seen: list[CourseCounts] = []
        self._issuing = [True, True]
        generate_batch(course=course, actor="tests", number=40)

    def issue(self, n: int) -> None:
        try:
            for number in range(10):
                self._spend_or_revoke(issue_to(self.course, f"buyer{n}-{number}@example.com").voucher, number, n)
        finally:
            self._issuing[n] = False

    def _spend_or_revoke(self, voucher: Voucher | None, number: int, n: int) -> None:
        assert voucher is not None
        if number % 3 == 0:
            redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_key(f"key:{n}")))
        elif number % 3 == 1:
            revoke_voucher(voucher, reason="lost")

    def upload_and_undo(self, _: int) -> None:
        while any(self._issuing):
            batch = generate_batch(course=self.course, actor="tests", number=5).batch
            assert batch is not None
            steps.undo(batch)
            steps.carry_on(batch.pk)

    def fold(self, _: int) -> None:
        while any(self._issuing):
            fold()

    def read(self, _: int) -> None:
        while any(self._issuing):
            self.seen.append(counts())


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_it_makes_nobody_wait_for_another(self) -> None:
        assert revoke_crosswise() == []
        assert wrong() == []

    def test_control_rows_changed_in_place_deadlock(self) -> None:
        with one_row_a_course():
            [failure] = revoke_crosswise()
        assert isinstance(failure, OperationalError)
        assert "deadlock" in str(failure)

    def test_readers_see_every_voucher_once_while_all_is_busy(self) -> None:
        busy = Busy(CourseFactory.create(id="JS101"))
        deeds = [busy.issue, busy.issue, busy.upload_and_undo, busy.fold, busy.read]

        assert failures(together(len(deeds), lambda n: deeds[n](n))) == []

        assert {row["total"] for row in busy.seen} <= {40, 45}
        assert all(row["total"] == row["issued"] + row["remaining"] for row in busy.seen)
        assert len({row["issued"] for row in busy.seen}) > 1
        assert (counts()["issued"], wrong()) == (20, [])

    def test_control_a_fold_of_two_statements_is_seen_half_done(self) -> None:
        make_pool(CourseFactory.create(id="JS101"), 3)
        folded = Tally.objects.aggregate(number=Sum("number"))["number"]
        Tally.objects.all().delete()
        assert in_thread(counts)()["total"] == 0
        execute(MORE % f"'JS101', 'available', false, '9999-12-31', {folded}")
        assert counts()["total"] == 3


@pytest.mark.django_db(transaction=True)
class TestKept:
    """The last answer is given again as long as nothing was committed."""

    @pytest.fixture(autouse=True)
    def asked(self) -> Course:
        course = CourseFactory.create(id="JS101")
        make_pool(course, 2)
        assert counts()["remaining"] == 2
        return course

    def test_it_is_not_counted_again(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        with django_assert_num_queries(1) as queries:
            assert counts()["remaining"] == 2
        assert "vouchers_tally" not in queries.captured_queries[0]["sql"]

    def test_it_is_counted_again_after_any_commit(self, asked: Course) -> None:
        in_thread(lambda: issue_to(asked))()
        assert counts()["remaining"] == 1
        Course.objects.filter(pk="JS101").update(name="Another")
        assert counts()["name"] == "Another"

    def test_a_transaction_sees_what_it_changed_itself(self, asked: Course) -> None:
        with transaction.atomic():
            issue_to(asked)
            assert counts()["remaining"] == 1
            assert in_thread(counts)()["remaining"] == 2
        assert counts()["remaining"] == 1

    def test_it_does_not_outlive_the_day(self, asked: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        Voucher.objects.update(expires_on=days(0))
        assert (counts()["remaining"], counts()["expired"]) == (2, 0)
        tomorrow = days(1)
        monkeypatch.setattr(timezone, "localdate", lambda: tomorrow)
        assert (counts()["remaining"], counts()["expired"]) == (0, 2)


@pytest.mark.django_db(transaction=True)
class TestHeal:
    @pytest.fixture(autouse=True)
    def corrupted(self) -> Course:
        course = CourseFactory.create(id="JS101")
        generate_batch(course=course, actor="tests", number=40)
        make_pool(CourseFactory.create(id="PY201"), 1)
        execute(ONE_TOO_MANY)
        return course

    def test_it_heals_what_is_wrong_while_vouchers_are_issued(self, corrupted: Course) -> None:
        def deed(n: int) -> None:
            for number in range(8):
                if n:
                    issue_to(corrupted, f"buyer{n}-{number}@example.com")
                else:
                    heal("summary_adds_up", "tests")

        assert failures(together(4, deed)) == []
        assert (counts()["issued"], counts()["remaining"], wrong()) == (24, 16, [])

    def test_it_heals_no_other_course(self) -> None:
        execute(ONE_TOO_MANY.replace("JS101", "PY201"))
        assert correct("JS101") == 1
        assert (counts()["total"], counts("PY201")["total"]) == (40, 2)

    def test_it_heals_once_where_two_are_at_it(self) -> None:
        with transaction.atomic():
            assert correct("JS101") == 1
            second = in_thread(lambda: correct("JS101"))
            wait_until(somebody_waits_for_a_lock)
        assert (second(), wrong()) == (0, [])

    def test_control_without_the_lock_it_heals_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tallies, "lock_names", lambda *names: None)
        with transaction.atomic():
            assert correct("JS101") == 1
            assert in_thread(lambda: correct("JS101"))() == 1
        assert counts()["total"] == 39

    def test_it_does_not_fold_what_another_is_folding(self) -> None:
        with transaction.atomic():
            assert fold() > 0
            assert in_thread(fold)() == 0
        assert len(wrong()) == 1
