"""Every race the desk claims to prevent, on real connections; and each once more with its guard taken away,
to show that the race is real and that the test would see it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import BatchFactory, CourseFactory, UserFactory, VoucherFactory, issue_to, make_key, make_pool
from tests.racing import DEADLINE, in_thread, somebody_waits_for_a_lock, together, wait_until
from vouchers import guesses, issuing, redeeming
from vouchers.admin.vouchers import VoucherAdmin
from vouchers.delivery.outbox import claim_due
from vouchers.errors import AlreadyRedeemed, VoucherNotFound
from vouchers.guesses import Guesser
from vouchers.importing import storing
from vouchers.importing.reading import read_list
from vouchers.importing.storing import Upload, import_codes
from vouchers.issuing import IssueRequest, IssueResult, issue_voucher, sweep_waiting
from vouchers.locks import try_lock_name
from vouchers.models import Batch, Delivery, Issuance, Redemption, Voucher
from vouchers.models.voucher import VoucherQuerySet
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.summary import summary

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def course(transactional_db: None) -> Course:
    return CourseFactory.create(id="JS101")


def failures(results: list[Any]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]


def assert_books_are_right(course: Course) -> None:
    """Every issued voucher is owed once, to its holder, and emailed once; the counts agree."""
    issued = list(Voucher.objects.filter(course=course, status="issued"))
    owed = {i.voucher_id: i.email for i in Issuance.objects.filter(course=course, status="issued")}
    assert {voucher.pk: voucher.issued_to for voucher in issued} == owed
    assert Delivery.objects.filter(issuance__course=course).count() == len(issued)
    row = next(row for row in summary() if row["courseId"] == course.pk)
    assert row["total"] == row["issued"] + row["remaining"] == Voucher.objects.filter(course=course).count()
    assert row["issued"] == len(issued)


def import_into(course: Course, codes: list[str]) -> storing.Report:
    upload = Upload(course=Course.objects.get(pk=course.pk), actor="tests", source=Batch.Source.API)
    return import_codes(upload, read_list(codes))


class TestManyClients:
    def test_no_code_is_issued_twice(self, course: Course) -> None:
        make_pool(course, 200)
        results = together(16, lambda n: [issue_to(course, f"{n}-{m}@example.com") for m in range(10)])
        assert not failures(results)
        assert Voucher.objects.filter(status="issued").count() == 160
        assert_books_are_right(course)

    def test_control_without_the_lock_two_take_the_same_code(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 2)
        both_looked = threading.Barrier(2, timeout=DEADLINE)

        def take_without_lock(self: VoucherQuerySet, course: Course) -> Voucher | None:
            voucher = self.pool(course).first()
            both_looked.wait()
            return voucher

        monkeypatch.setattr(VoucherQuerySet, "lock_next", take_without_lock)
        results = together(2, lambda n: issue_to(course, f"{n}@example.com"))
        # The race is real: both took the first code. The database, the last line of defence, refused one.
        (refused,) = failures(results)
        assert isinstance(refused, IntegrityError)
        assert Voucher.objects.filter(status="issued").count() == 1


class TestLastCodes:
    def test_a_buyer_gets_the_code_that_another_gave_back(self, course: Course) -> None:
        make_pool(course, 1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            issue_to(course, "gives-back@example.com")
            ann = in_thread(lambda: issue_to(course, "ann@example.com"))
            wait_until(somebody_waits_for_a_lock)
            raise ZeroDivisionError
        assert ann().status == Issuance.Status.ISSUED
        assert_books_are_right(course)

    def test_control_without_the_second_look_the_buyer_waits_beside_a_code(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(VoucherQuerySet, "lock_next_waiting", lambda self, course: None)
        make_pool(course, 1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            issue_to(course, "gives-back@example.com")
            ann = in_thread(lambda: issue_to(course, "ann@example.com"))
            assert ann().status == Issuance.Status.WAITING
            raise ZeroDivisionError
        assert Voucher.objects.get().status == "available"

    def test_a_buyer_waits_where_the_last_code_stays_locked_and_the_sweeper_makes_it_good(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(issuing, "LAST_CODE_SECONDS", 1)
        make_pool(course, 1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            issue_to(course, "gives-back@example.com")
            assert in_thread(lambda: issue_to(course, "ann@example.com"))().status == Issuance.Status.WAITING
            raise ZeroDivisionError
        assert sweep_waiting() == 1
        assert Issuance.objects.get().status == Issuance.Status.ISSUED
        assert_books_are_right(course)

    def test_the_last_codes_go_to_buyers_and_the_rest_wait(self, course: Course) -> None:
        make_pool(course, 10)

        def buy(n: int) -> IssueResult | None:
            request = IssueRequest(course=course, email=f"{n}@example.com", caller="tests")
            if n % 3:
                return issue_voucher(request)
            with transaction.atomic():
                issue_voucher(request)
                transaction.set_rollback(True)
            return None

        assert not failures(together(30, buy))
        sweep_waiting()
        assert Counter(Issuance.objects.values_list("status", flat=True)) == {"issued": 10, "waiting": 10}
        assert_books_are_right(course)


WAYS = {
    "order": {"order_id": "A-1"},
    "key": {"idempotency_key": "k-1"},
    "order and key": {"order_id": "A-1", "idempotency_key": "k-1"},
    "email": {},
}


class TestSameRequest:
    @pytest.mark.parametrize("way", WAYS)
    def test_it_issues_once(self, course: Course, way: str) -> None:
        make_pool(course, 20)
        results = together(
            16,
            lambda n: issue_voucher(IssueRequest(course=course, email="ann@example.com", caller="tests", **WAYS[way])),
        )
        assert not failures(results)
        assert sum(result.created for result in results if isinstance(result, IssueResult)) == 1
        assert len({result.issuance.pk for result in results if isinstance(result, IssueResult)}) == 1
        assert_books_are_right(course)

    @pytest.mark.parametrize("way", WAYS)
    def test_it_queues_once(self, course: Course, way: str) -> None:
        results = together(8, lambda n: issue_to(course, **WAYS[way]))
        assert not failures(results)
        assert Issuance.objects.get().status == "waiting"

    @pytest.mark.parametrize("way", WAYS)
    def test_control_without_the_lock_it_is_done_twice(
        self, course: Course, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 20)
        all_looked = threading.Barrier(4, timeout=DEADLINE)
        find = issuing._find_known

        def find_and_wait(request: IssueRequest) -> Issuance | None:
            known = find(request)
            all_looked.wait()
            return known

        monkeypatch.setattr(issuing, "lock_names", lambda *names, seconds: None)
        monkeypatch.setattr(issuing, "_find_known", find_and_wait)
        results = together(4, lambda n: issue_to(course, **WAYS[way]))
        if way == "email":
            assert Voucher.objects.filter(status="issued").count() == 4
        else:  # a unique constraint refuses the others, in words nobody can act on
            assert [type(error) for error in failures(results)] == [IntegrityError] * 3

    def test_it_says_so_when_the_same_request_takes_too_long(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(issuing, "SAME_REQUEST_SECONDS", 1)
        make_pool(course, 2)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Api-Key {make_key('issue')}")
        body = {"courseId": "JS101", "email": "ann@example.com", "orderId": "A-1"}
        with transaction.atomic():
            issue_to(course, order_id="A-1")
            response = in_thread(lambda: client.post("/issue-voucher", body, format="json"))()
        assert (response.status_code, response.json()["code"]) == (409, "request_in_progress")
        assert response["Retry-After"] == "1"
        assert client.post("/issue-voucher", body, format="json").status_code == 200


class TestStaffEdits:
    @pytest.fixture
    def staff(self, transactional_db: None) -> Client:
        client = Client()
        client.force_login(UserFactory.create())
        return client

    def test_a_note_saved_while_the_code_is_issued_changes_only_the_note(
        self, course: Course, staff: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        voucher = make_pool(course, 1)[0]
        save = VoucherAdmin.save_model

        def issue_before_saving(self: VoucherAdmin, *args: Any, **kwargs: Any) -> None:
            in_thread(lambda: issue_to(course))()
            save(self, *args, **kwargs)

        monkeypatch.setattr(VoucherAdmin, "save_model", issue_before_saving)
        response = staff.post(f"/admin/vouchers/voucher/{voucher.pk}/change/", {"note": "for the fair"})
        assert response.status_code == 302
        voucher.refresh_from_db()
        assert (voucher.note, voucher.status, voucher.issued_to) == (
            "for the fair",
            "issued",
            "ann@example.com",
        )
        assert_books_are_right(course)

    def test_control_a_save_of_every_column_would_put_the_code_back(self, course: Course) -> None:
        voucher = make_pool(course, 1)[0]
        issue_to(course)
        voucher.note = "for the fair"
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE vouchers_voucher DISABLE TRIGGER voucher_rules")
        try:
            voucher.save()
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE vouchers_voucher ENABLE TRIGGER voucher_rules")
        voucher.refresh_from_db()
        assert voucher.status == "available"  # and would be sold twice; the rule refuses it (test_rules.py)


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
        by_line = storing.INSERT_NEW.replace("ORDER BY upper(code)\nON CONFLICT", "ORDER BY line\nON CONFLICT")
        assert by_line != storing.INSERT_NEW
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


class TestRedeemStorm:
    def storm(self, course: Course) -> list[Any]:
        code = make_pool(course, 1)[0].code
        issue_to(course)
        return together(32, lambda n: redeem_voucher(RedeemRequest(code=code, guesser=Guesser.of_key(f"key:{n}"))))

    def test_one_call_spends_the_voucher(self, course: Course) -> None:
        results = self.storm(course)
        assert Counter(type(result) for result in results) == {Redemption: 1, AlreadyRedeemed: 31}
        assert Redemption.objects.count() == 1

    def test_control_without_the_condition_many_believe_they_spent_it(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        all_looked = threading.Barrier(32, timeout=DEADLINE)
        find = redeeming._find

        def find_and_wait(code: str, request: RedeemRequest) -> Voucher | None:
            voucher = find(code, request)
            all_looked.wait()
            return voucher

        monkeypatch.setattr(redeeming, "_find", find_and_wait)
        monkeypatch.setattr(VoucherQuerySet, "redeemable", lambda self: self)
        errors = failures(self.storm(course))
        # 32 passed the look and the update; the database refused 31.
        assert [type(error) for error in errors] == [IntegrityError] * 31

    def test_a_retry_with_the_same_key_gets_the_one_answer(self, course: Course) -> None:
        code = make_pool(course, 1)[0].code
        request = RedeemRequest(code=code, guesser=Guesser.of_key("key:a"), idempotency_key="k-1")
        results = together(16, lambda n: redeem_voucher(request))
        assert not failures(results)
        assert len({result.purchase_id for result in results if isinstance(result, Redemption)}) == 1


class TestReturn:
    """A code goes back to the pool while something else happens to it."""

    def take_back(self, issuance: Issuance) -> None:
        with transaction.atomic():
            Issuance.objects.filter(pk=issuance.pk).update(status="returned")
            Voucher.objects.filter(issuances=issuance).update(status="available", issued_at=None, issued_to="")

    def test_it_waits_for_a_sender_that_has_just_taken_its_email(self, course: Course) -> None:
        make_pool(course, 1)
        issuance = issue_to(course)
        with transaction.atomic():
            claim_due(1)
            taken_back = in_thread(lambda: self.take_back(issuance))
            wait_until(somebody_waits_for_a_lock)
        with pytest.raises(IntegrityError, match="may not go back"):
            taken_back()
        assert Voucher.objects.get().status == "issued"

    def test_a_checkout_never_spends_the_voucher_of_the_next_holder(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Course.objects.update(redemption="holder")
        code = make_pool(course, 1)[0].code
        issuance = issue_to(course, "ann@example.com")
        spend = redeeming._spend

        def meanwhile(voucher: Voucher, request: RedeemRequest) -> Redemption | None:
            if voucher.issued_to == "ann@example.com":
                self.take_back(issuance)
                issue_to(course, "bob@example.com")
            return spend(voucher, request)

        monkeypatch.setattr(redeeming, "_spend", meanwhile)
        guesser = Guesser.of_address("127.0.0.1")
        with pytest.raises(VoucherNotFound):
            redeem_voucher(RedeemRequest(code=code, email="ann@example.com", guesser=guesser))
        assert redeem_voucher(RedeemRequest(code=code, email="bob@example.com", guesser=guesser))


class TestLimiter:
    def guess(self, n: int) -> int:
        return APIClient().post("/redeem-voucher", {"code": f"GUESS-{n}"}, format="json").status_code

    def test_it_is_exact_at_sixty_four_parallel_calls(self, course: Course) -> None:
        assert Counter(together(64, self.guess)) == {404: 10, 429: 54}

    def test_it_lets_no_right_code_through_a_burst_of_guesses(self, course: Course) -> None:
        """The eleventh call is refused even if its code is right: a burst buys no extra guesses."""
        codes = [voucher.code for voucher in make_pool(course, 32)]
        wrong_first = together(10, self.guess)
        assert wrong_first == [404] * 10
        calls = together(32, lambda n: APIClient().post("/redeem-voucher", {"code": codes[n]}, format="json"))
        assert {call.status_code for call in calls if not isinstance(call, Exception)} == {429}

    def test_control_without_the_lock_more_get_through(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        all_counted = threading.Barrier(16, timeout=DEADLINE)
        count = Guesser._count

        def count_and_wait(self: Guesser) -> int:
            counted = count(self)
            all_counted.wait()
            return counted

        monkeypatch.setattr(guesses, "lock_names", lambda *names, seconds: None)
        monkeypatch.setattr(Guesser, "_count", count_and_wait)
        assert Counter(together(16, self.guess)) == {404: 16}

    def test_it_never_stops_buyers_who_know_their_codes(self, course: Course) -> None:
        codes = [voucher.code for voucher in make_pool(course, 32)]
        calls = together(32, lambda n: APIClient().post("/redeem-voucher", {"code": codes[n]}, format="json"))
        assert {call.status_code for call in calls if not isinstance(call, Exception)} == {200}
