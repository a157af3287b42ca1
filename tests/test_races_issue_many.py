"""The races of issuing to lists, on real connections; and each once more with its guard taken away."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from rest_framework.test import APIClient

from courses.models import Course
from tests.erasing import EMAIL, erase, tables_with
from tests.factories import issue_to, make_key, make_pool
from tests.racing import (
    DEADLINE,
    assert_books_are_right,
    failures,
    in_thread,
    rewritten,
    somebody_waits_for_a_lock,
    together,
    wait_until,
)
from vouchers import bulk_issuing
from vouchers.bulk_issuing import LineResult, ListRequest, issue_to_list
from vouchers.email_lists import EmailList
from vouchers.issuing import IssueRequest
from vouchers.models import Issuance, Voucher

pytestmark = pytest.mark.django_db(transaction=True)
ANN = "ann@example.com"
EMAILS = [ANN, *(f"{n}@example.com" for n in range(9))]
KEYS = ["", "k-1"]


def issue(course: Course, emails: list[str] = EMAILS, batch_key: str = "") -> list[LineResult]:
    return issue_to_list(
        ListRequest(course_id=course.pk, emails=emails, caller="tests", batch_key=batch_key, tells_code=True)
    )


def codes(results: Any) -> dict[str, str]:
    return {result.line.email: result.voucher.code for result in results}


class TestSameList:
    @pytest.mark.parametrize("batch_key", KEYS)
    def test_it_issues_once(self, course: Course, batch_key: str) -> None:
        make_pool(course, 50)
        results = together(4, lambda n: issue(course, batch_key=batch_key))
        assert not failures(results)
        assert all(codes(result) == codes(results[0]) for result in results)
        assert Voucher.objects.filter(status="issued").count() == len(EMAILS)
        assert_books_are_right(course)

    def test_lists_that_overlap_give_each_email_one_voucher(self, course: Course) -> None:
        make_pool(course, 50)
        results = together(4, lambda n: issue(course, [*EMAILS[n:], *EMAILS[:n], f"own-{n}@example.com"]))
        assert not failures(results)
        assert Voucher.objects.filter(status="issued").count() == len(EMAILS) + 4
        assert_books_are_right(course)

    @pytest.mark.parametrize("batch_key", KEYS)
    def test_control_without_the_lock_it_is_done_twice(
        self, course: Course, batch_key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 50)
        all_looked = threading.Barrier(2, timeout=DEADLINE)
        name = "_find_list" if batch_key else "_find_owed"
        find = getattr(bulk_issuing, name)

        def find_and_wait(*args: Any) -> dict[str, Issuance]:
            known: dict[str, Issuance] = find(*args)
            all_looked.wait()
            return known

        monkeypatch.setattr(bulk_issuing, "lock_names", lambda *names, **limits: None)
        monkeypatch.setattr(bulk_issuing, name, find_and_wait)
        results = together(2, lambda n: issue(course, batch_key=batch_key))
        if batch_key:  # a unique constraint refuses the other, in words nobody can act on
            assert [type(error) for error in failures(results)] == [IntegrityError]
        else:
            assert Voucher.objects.filter(status="issued").count() == 2 * len(EMAILS)

    @pytest.mark.parametrize("batch_key", KEYS)
    def test_it_says_so_when_the_same_list_takes_too_long(
        self, course: Course, batch_key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk_issuing, "SAME_REQUEST_SECONDS", 1)
        make_pool(course, 20)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Api-Key {(key := make_key('issue'))}")
        body = {"courseId": "JS101", "emails": EMAILS} | ({"batchKey": batch_key} if batch_key else {})
        same = ListRequest(course_id="JS101", emails=EMAILS, caller=f"key:{key.partition('.')[0]}", batch_key=batch_key)
        with transaction.atomic():
            issue_to_list(same)
            response = in_thread(lambda: client.post("/api/admin/vouchers/issue", body, format="json"))()
        assert (response.status_code, response.json()["code"]) == (409, "request_in_progress")
        assert response["Retry-After"] == "1"
        assert client.post("/api/admin/vouchers/issue", body, format="json").json()["found"] == len(EMAILS)


class TestSingleRequests:
    def issue_while_a_list_is_at_work(self, course: Course) -> int:
        """How many vouchers of the list's course its first buyer has in the end."""
        make_pool(course, 20)
        with transaction.atomic():
            issue(course)
            ann = in_thread(lambda: issue_to(course, ANN.upper()))
            wait_until(lambda: somebody_waits_for_a_lock() or Issuance.objects.filter(email=ANN.upper()).exists())
        ann()
        return Voucher.objects.held_by(ANN).count()

    def test_one_for_an_email_waits_for_the_list(self, course: Course) -> None:
        assert self.issue_while_a_list_is_at_work(course) == 1
        assert_books_are_right(course)

    def test_control_without_the_lock_at_once_it_does_not(self, course: Course) -> None:
        with rewritten("vouchers_issue_at_once", ("NOT pg_try_advisory_xact_lock_shared(same)", "false")):
            assert self.issue_while_a_list_is_at_work(course) == 2

    def test_control_without_the_lock_it_does_not(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vouchers.issuing.issue_at_once", lambda **request: None)
        monkeypatch.setattr(IssueRequest, "shared_names", [])
        assert self.issue_while_a_list_is_at_work(course) == 2

    def test_a_list_waits_for_one_of_its_emails(self, course: Course) -> None:
        make_pool(course, 20)
        with transaction.atomic():
            issue_to(course, ANN)
            listed = in_thread(lambda: issue(course))
            wait_until(somebody_waits_for_a_lock)
        assert [result.counted_as for result in listed()] == ["found"] + ["issued"] * 9
        assert_books_are_right(course)

    def test_control_without_the_lock_the_list_does_not(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_issuing, "lock_names", lambda *names, **limits: None)
        make_pool(course, 20)
        with transaction.atomic():
            issue_to(course, ANN)
            listed = in_thread(lambda: issue(course))()
        assert [result.counted_as for result in listed] == ["issued"] * 10
        assert Voucher.objects.held_by(ANN).count() == 2

    @pytest.mark.parametrize("fields", [{"order_id": "A-1"}, {"idempotency_key": "k"}])
    def test_others_do_not_wait_for_the_list(self, course: Course, fields: dict[str, str]) -> None:
        make_pool(course, 20)
        with transaction.atomic():
            issue(course)
            assert in_thread(lambda: issue_to(course, ANN, **fields))().status == "issued"

    def test_they_do_not_wait_for_each_other(self, course: Course) -> None:
        make_pool(course, 2)
        with transaction.atomic():
            issue_to(course, ANN)
            assert in_thread(lambda: issue_to(course, "bob@example.com"))().status == "issued"


class TestReturned:
    """A program must not be answered with a code that goes back to the pool before that is written down."""

    def can_be_returned_once_found(self, course: Course) -> bool:
        make_pool(course, 1)
        issue_to(course, ANN)

        def return_it() -> bool:
            with transaction.atomic():
                return bool(Issuance.objects.select_for_update(skip_locked=True).filter(email=ANN))

        with transaction.atomic():
            assert list(bulk_issuing._find_owed(course, EmailList.read([ANN]))) == [ANN.upper()]
            return in_thread(return_it)()

    def test_what_a_list_found_stays(self, course: Course) -> None:
        assert not self.can_be_returned_once_found(course)

    def test_control_without_the_lock_it_does_not(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_issuing, "_locked", list)
        assert self.can_be_returned_once_found(course)


class TestErasing:
    def test_a_list_at_work_is_waited_for(self, course: Course) -> None:
        make_pool(course, 1)
        with transaction.atomic():
            issue(course, [EMAIL])
            erasing_ = in_thread(erase)
            wait_until(somebody_waits_for_a_lock)
        assert erasing_().counts["issuances"] == 1
        assert tables_with(EMAIL) == set()

    def test_control_without_its_lock_the_list_is_missed(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(IssueRequest, "shared_names", [])
        make_pool(course, 1)
        with transaction.atomic():
            issue(course, [EMAIL])
            assert in_thread(erase)().total == 0
        assert tables_with(EMAIL) != set()
