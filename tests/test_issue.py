"""POST /issue-voucher"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from courses.models import Course
from tests.conftest import Caller
from tests.factories import CourseFactory, UserFactory, issue_to, make_pool, voucher_of
from vouchers.errors import CourseNotFound, IssuanceClosed
from vouchers.filling import fill_waiting
from vouchers.guesses import Guesser
from vouchers.issuing import IssueRequest, issue_voucher, note_told
from vouchers.models import Delivery, IdempotencyKey, Issuance, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
ANN = {"courseId": "JS101", "email": "ann@example.com"}


@pytest.fixture
def client(caller: Caller) -> APIClient:
    return caller("issue")


def issue(client: APIClient, key: str = "", **fields: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/issue-voucher", ANN | fields, format="json", headers=headers)


def test_it_issues_the_next_code_and_queues_its_email(client: APIClient, course: Course) -> None:
    first, _ = make_pool(course, 2)

    response = issue(client, email="  Ann@Example.com ")

    assert response.status_code == 201
    first.refresh_from_db()
    assert first.issued_at is not None
    assert response.json() == {
        "status": "issued",
        "message": "A voucher for JavaScript Basics is issued to Ann@Example.com and sent by email.",
        "voucher": {
            "_id": first.code,
            "courseId": "JS101",
            "used": False,
            "issuedTo": "Ann@Example.com",
            "usedOn": None,
            "status": "issued",
            "issuedOn": first.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "expiresOn": None,
        },
    }
    delivery = Delivery.objects.get()
    assert (delivery.email, delivery.status) == ("Ann@Example.com", "queued")
    assert voucher_of(delivery) == first


def test_it_keeps_to_its_statements(client: APIClient, course: Course, django_assert_num_queries: Any) -> None:
    make_pool(course, 2)
    # Its key, and the deed. And who is to be told of it, which is remembered for some seconds.
    with django_assert_num_queries(3):
        assert issue(client).status_code == 201
    with django_assert_num_queries(2):
        assert issue(client, orderId="A-1", key="k").status_code == 201


@pytest.mark.parametrize("course_id", ["\udcff", "\0", "JS 101", "x" * 65])
def test_it_knows_no_course_of_an_id_that_is_none(db: None, course_id: str) -> None:
    with pytest.raises(CourseNotFound):
        issue_voucher(IssueRequest(course_id=course_id, email="ann@example.com", caller="command"))


class TestSameRequest:
    def test_it_is_the_same_order_whatever_else_happened(self, client: APIClient, course: Course) -> None:
        make_pool(course, 3)
        first = issue(client, orderId="A-1")
        issue(client, orderId="A-2")
        again = issue(client, orderId="A-1", email="ANN@example.com")
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() == first.json()
        assert Voucher.objects.filter(status="issued").count() == 2

    def test_it_is_another_order_in_another_course(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        make_pool(CourseFactory.create(id="PY201"), 1)
        assert issue(client, orderId="A-1").status_code == 201
        assert issue(client, orderId="A-1", courseId="PY201").status_code == 201

    def test_it_is_the_same_key_of_this_caller_only(self, client: APIClient, caller: Caller, course: Course) -> None:
        make_pool(course, 3)
        first = issue(client, key="k-1")
        assert issue(client, key="k-1").json() == first.json()
        assert issue(client, key="k-2").status_code == 201
        assert issue(caller("issue"), key="k-1").status_code == 201

    @pytest.mark.parametrize("change", [{"email": "bob@example.com"}, {"courseId": "PY201"}, {"orderId": "A-1"}])
    def test_it_is_refused_with_a_key_used_for_something_else(
        self, client: APIClient, course: Course, change: dict[str, str]
    ) -> None:
        make_pool(course, 2)
        make_pool(CourseFactory.create(id="PY201"), 1)
        issue(client, key="k-1")
        response = issue(client, key="k-1", **change)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
        assert Voucher.objects.filter(status="issued").count() == 1

    def test_it_is_refused_with_an_order_of_another_email(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue(client, orderId="A-1")
        response = issue(client, orderId="A-1", email="bob@example.com")
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")

    def test_it_is_refused_where_key_and_order_name_different_issuances(
        self, client: APIClient, course: Course
    ) -> None:
        make_pool(course, 2)
        issue(client, orderId="A-1", key="k-1")
        issue(client, orderId="A-2", key="k-2")
        assert issue(client, orderId="A-2", key="k-1").status_code == 422

    def test_it_remembers_a_key_that_came_with_a_known_order(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue(client, orderId="A-1")
        assert issue(client, orderId="A-1", key="k-1").status_code == 200
        assert issue(client, orderId="A-2", key="k-1").status_code == 422
        assert IdempotencyKey.objects.count() == 1

    def test_it_is_the_same_email_that_still_holds_a_voucher(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        first = issue(client)
        assert issue(client, email="ANN@EXAMPLE.COM").json() == first.json()

    @pytest.mark.parametrize("end", ["redeemed", "revoked", "expired"])
    def test_it_is_a_new_request_once_the_email_holds_no_valid_voucher(
        self, client: APIClient, course: Course, end: str
    ) -> None:
        make_pool(course, 2)
        voucher = issue_to(course).voucher
        assert voucher is not None
        if end == "redeemed":
            redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))
        elif end == "revoked":
            revoke_voucher(voucher, reason="lost")
        else:
            Voucher.objects.filter(pk=voucher.pk).update(expires_on=timezone.localdate() - dt.timedelta(days=1))
        assert issue(client).status_code == 201

    def test_it_says_that_what_it_names_was_returned(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue(client, orderId="A-1")
        revoke_voucher(Voucher.objects.get(status="issued"), reason="refunded")
        Issuance.objects.update(status="returned")
        response = issue(client, orderId="A-1")
        assert (response.status_code, response.json()["code"]) == (409, "issuance_closed")

    def test_it_says_what_became_of_a_known_order(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        issue(client, orderId="A-1")
        revoke_voucher(Voucher.objects.get(), reason="lost")
        again = issue(client, orderId="A-1")
        assert (again.status_code, again.json()["voucher"]["status"]) == (200, "revoked")
        assert again.json()["message"].endswith("and is revoked now.")


class TestWaiting:
    def test_it_queues_the_buyer_of_an_empty_pool(self, client: APIClient, course: Course) -> None:
        first = issue(client)
        second = issue(client, email="bob@example.com")
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json()["position"] == 1
        assert second.json() == {
            "status": "waiting",
            "message": "The pool of JavaScript Basics is empty; bob@example.com is number 2 in the queue.",
            "position": 2,
        }
        assert not Delivery.objects.exists()

    def test_it_tells_the_place_now_and_then_the_voucher(
        self, client: APIClient, caller: Caller, course: Course
    ) -> None:
        issue(client)
        issue(client, email="bob@example.com")
        upload = {"courseId": "JS101", "vouchers": ["AAAA-1"]}
        assert caller("manage").post("/api/admin/vouchers/upload", upload, format="json").status_code == 200
        assert issue(client, email="bob@example.com").json()["position"] == 1
        filled = issue(client)
        assert (filled.status_code, filled.json()["voucher"]["_id"]) == (200, "AAAA-1")

    def test_it_lets_nobody_overtake_the_queue(self, client: APIClient, course: Course) -> None:
        issue(client)
        make_pool(course, 2)  # not by an import, which would have filled the queue
        newcomer = issue(client, email="bob@example.com")
        codes = dict(Issuance.objects.values_list("email", "voucher__position"))
        assert newcomer.status_code == 201
        assert codes["ann@example.com"] < codes["bob@example.com"]

    def test_it_queues_a_newcomer_behind_the_queue(self, client: APIClient, course: Course) -> None:
        issue(client)
        make_pool(course, 1)
        newcomer = issue(client, email="bob@example.com")
        assert (newcomer.status_code, newcomer.json()["position"]) == (202, 1)
        assert issue(client).status_code == 200


class TestExpiry:
    def test_it_takes_the_soonest_expiry_first(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        today = timezone.localdate()
        make_pool(course, 1, expires_on=today + dt.timedelta(days=20))
        soon = make_pool(course, 1, expires_on=today + dt.timedelta(days=10))[0]
        assert issue(client).json()["voucher"]["_id"] == soon.code

    def test_it_never_takes_a_code_too_short_for_the_course(self, client: APIClient, course: Course) -> None:
        Course.objects.update(minimum_validity_days=30)
        today = timezone.localdate()
        make_pool(course, 1, expires_on=today + dt.timedelta(days=29))
        assert issue(client).status_code == 202
        long_enough = make_pool(course, 1, expires_on=today + dt.timedelta(days=30))[0]
        assert issue(client, email="bob@example.com").status_code == 202  # the queue got it
        assert issue(client).json()["voucher"]["_id"] == long_enough.code

    def test_it_takes_a_code_on_its_last_day(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1, expires_on=timezone.localdate())
        assert issue(client).status_code == 201


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "courseId"),
            ({"courseId": "JS101"}, "email"),
            ({"courseId": "JS101", "email": "a@b.example, c@d.example"}, "email"),
            ({"courseId": "JS101", "email": "Ann <ann@example.com>"}, "email"),
            ({"courseId": "JS101", "email": "ann@example.com\nBcc: x@example.com"}, "email"),
            ({"courseId": "JS101", "email": f"{'a' * 250}@example.com"}, "email"),
            ({"courseId": "JS101", "email": ["ann@example.com"]}, "email"),
            ({"courseId": "a" * 65, "email": "ann@example.com"}, "courseId"),
            ({"courseId": "JS\u0000101", "email": "ann@example.com"}, "courseId"),
            (ANN | {"orderId": ""}, "orderId"),
            (ANN | {"orderId": "a" * 256}, "orderId"),
            (ANN | {"orderId": {"id": 1}}, "orderId"),
        ],
    )
    def test_it_names_the_field_at_fault(
        self, client: APIClient, course: Course, body: dict[str, object], field: str
    ) -> None:
        make_pool(course, 1)
        response = client.post("/issue-voucher", body, format="json")
        assert response.status_code == 400
        assert field in response.json()["fields"]
        assert not Issuance.objects.exists()

    def test_it_refuses_half_a_character(self, client: APIClient, course: Course) -> None:
        body = '{"courseId": "\\ud800", "email": "ann@example.com"}'
        response = client.post("/issue-voucher", body, content_type="application/json")
        assert (response.status_code, list(response.json()["fields"])) == (400, ["courseId"])

    @pytest.mark.parametrize("key", ["", "a" * 256, "caf\u00e9", "a\tb"])
    def test_it_refuses_a_key_that_is_none(self, client: APIClient, course: Course, key: str) -> None:
        response = client.post("/issue-voucher", ANN, format="json", headers={"Idempotency-Key": key})
        assert response.status_code == 400
        assert "Idempotency-Key" in response.json()["error"]

    def test_it_knows_courses_as_given(self, client: APIClient, course: Course) -> None:
        response = issue(client, courseId="js101")
        assert (response.status_code, response.json()["code"]) == (404, "course_not_found")

    def test_it_takes_staff_with_the_permission_and_a_csrf_token(self, course: Course) -> None:
        make_pool(course, 1)
        client = APIClient(enforce_csrf_checks=True)
        client.force_login(UserFactory.create())
        assert issue(client).status_code == 403
        client.cookies["csrftoken"] = token = "a" * 32
        answer = client.post("/issue-voucher", ANN, format="json", headers={"X-CSRFToken": token})
        assert answer.status_code == 201


class TestTold:
    """That a program was answered with a code is kept: such a code never goes back to the pool."""

    def told_at(self) -> dt.datetime | None:
        return Issuance.objects.get().told_at

    def test_it_keeps_that_it_answered_with_a_new_code(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        issue(client)
        assert self.told_at() == Issuance.objects.get().issued_at

    def test_it_keeps_when_it_first_answered_a_buyer_who_had_waited(self, client: APIClient, course: Course) -> None:
        issue(client)
        make_pool(course, 1)
        fill_waiting(course)
        assert self.told_at() is None
        assert issue(client).status_code == 200
        first = self.told_at()
        assert first is not None
        issue(client)
        assert self.told_at() == first

    def test_it_keeps_nothing_of_what_nobody_was_answered(self, course: Course) -> None:
        make_pool(course, 1)
        issue_to(course)
        assert self.told_at() is None

    def test_it_answers_with_no_code_that_went_back_to_the_pool_meanwhile(self, course: Course) -> None:
        make_pool(course, 1)
        read_before = issue_to(course)
        revoke_voucher(Voucher.objects.get(), reason="refunded")
        Issuance.objects.update(status="returned")
        with pytest.raises(IssuanceClosed):
            note_told(read_before)
