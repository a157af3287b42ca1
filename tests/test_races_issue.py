"""The races of issuing, on real connections; and each once more with its guard taken away, to show that the
race is real and that the test would see it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import UserFactory, issue_to, make_key, make_pool
from tests.racing import (
    DEADLINE,
    WAIT_AT_THE_GATE,
    assert_books_are_right,
    failures,
    in_thread,
    rewritten,
    somebody_waits_for_a_lock,
    together,
    together_at_the_gate,
    wait_until,
)
from vouchers import issuing
from vouchers.admin.vouchers import VoucherAdmin
from vouchers.filling import sweep_waiting
from vouchers.issuing import IssueRequest, IssueResult, give_or_queue, issue_voucher
from vouchers.models import Issuance, Voucher
from vouchers.pool import Holder

pytestmark = pytest.mark.django_db(transaction=True)


class TestManyClients:
    def test_no_code_is_issued_twice(self, course: Course) -> None:
        make_pool(course, 200)
        results = together(16, lambda n: [issue_to(course, f"{n}-{m}@example.com") for m in range(10)])
        assert not failures(results)
        assert Voucher.objects.filter(status="issued").count() == 160
        assert_books_are_right(course)

    def test_control_without_the_lock_two_take_the_same_code(self, course: Course) -> None:
        make_pool(course, 2)
        unlocked = ("FOR UPDATE SKIP LOCKED", "")
        both_look = ("UPDATE vouchers_voucher v SET", f"{WAIT_AT_THE_GATE} UPDATE vouchers_voucher v SET")
        with rewritten("vouchers_give", unlocked, both_look):
            results = together_at_the_gate(2, lambda n: issue_to(course, f"{n}@example.com"))
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
        make_pool(course, 1)
        monkeypatch.setattr(issuing, "_give_last", lambda *args, **named: [])
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
            request = IssueRequest(course_id=course.pk, email=f"{n}@example.com", caller="tests")
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


class TestSeveralCodes:
    def test_two_who_wait_for_each_other_s_last_codes_do_not_fail(self, course: Course) -> None:
        make_pool(course, 2)
        both_hold_one = threading.Barrier(2, timeout=DEADLINE)

        def buy(n: int) -> list[Issuance]:
            first, *others = [Holder(email=f"{n}-{m}@example.com") for m in range(3)]
            with transaction.atomic():
                held = give_or_queue(course, [first], caller="tests")
                both_hold_one.wait()
                return held + give_or_queue(course, others, caller="tests")

        assert not failures(together(2, buy))
        assert Counter(Issuance.objects.values_list("status", flat=True)) == {"issued": 2, "waiting": 4}
        assert_books_are_right(course)


WAYS: dict[str, dict[str, Any]] = {
    "order": {"order_id": "A-1"},
    "key": {"idempotency_key": "k-1"},
    "order and key": {"order_id": "A-1", "idempotency_key": "k-1"},
    "email": {},
}


def assert_done_twice(results: list[Any], way: str) -> None:
    if way == "email":
        assert Voucher.objects.filter(status="issued").count() == 4
    else:  # a unique constraint refuses the others, in words nobody can act on
        assert [type(error) for error in failures(results)] == [IntegrityError] * 3


class TestSameRequest:
    @pytest.mark.parametrize("way", WAYS)
    def test_it_issues_once(self, course: Course, way: str) -> None:
        make_pool(course, 20)
        results = together(
            16,
            lambda n: issue_voucher(
                IssueRequest(course_id=course.pk, email="ann@example.com", caller="tests", **WAYS[way])
            ),
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

        def find_and_wait(request: IssueRequest, course: Course) -> Issuance | None:
            known = find(request, course)
            all_looked.wait()
            return known

        monkeypatch.setattr(issuing, "issue_at_once", lambda **request: None)
        monkeypatch.setattr(issuing, "lock_names", lambda *names, **limits: None)
        monkeypatch.setattr(issuing, "_find_known", find_and_wait)
        results = together(4, lambda n: issue_to(course, **WAYS[way]))
        assert_done_twice(results, way)

    @pytest.mark.parametrize("way", WAYS)
    def test_control_without_the_lock_it_is_done_twice_at_once(self, course: Course, way: str) -> None:
        make_pool(course, 20)
        unlocked = ("NOT pg_try_advisory_xact_lock(same)", "false")
        all_look = ("RETURN QUERY", f"{WAIT_AT_THE_GATE} RETURN QUERY")
        with rewritten("vouchers_issue_at_once", unlocked, all_look):
            results = together_at_the_gate(4, lambda n: issue_to(course, **WAYS[way]))
        assert_done_twice(results, way)

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
