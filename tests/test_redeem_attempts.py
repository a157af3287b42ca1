"""Every refusal of a code of ours is kept with its exact reason; the caller hears less."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.racing import failures, together
from vouchers.guesses import Guesser
from vouchers.models import RedeemAttempt, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db


def redeem(**body: Any) -> int:
    body.setdefault("code", Voucher.objects.get().code)
    return APIClient().post("/redeem-voucher", body, format="json").status_code


@pytest.fixture
def voucher(course: Course) -> Voucher:
    make_pool(course, 1)
    issue_to(course)
    return Voucher.objects.get()


@pytest.mark.parametrize(
    ("fields", "rule", "body", "status", "reason"),
    [
        ({}, "bearer", {"courseId": "PY201"}, 404, "other_course"),
        ({}, "holder", {"email": "bob@example.com"}, 404, "other_email"),
        ({}, "holder", {}, 404, "other_email"),
        ({"held_since": timezone.now()}, "bearer", {}, 409, "on_hold"),
        ({"expires_on": dt.date(2020, 1, 1)}, "bearer", {}, 410, "expired"),
        ({"status": "revoked", "revoked_at": timezone.now()}, "bearer", {}, 410, "revoked"),
    ],
)
def test_it_keeps_why_a_code_was_refused(
    voucher: Voucher, fields: dict[str, Any], rule: str, body: dict[str, str], status: int, reason: str
) -> None:
    Voucher.objects.update(**fields)
    Course.objects.update(redemption=rule)

    assert redeem(**body) == status

    attempt = RedeemAttempt.objects.get()
    assert (attempt.voucher, attempt.reason, attempt.times) == (voucher, reason, 1)
    assert (attempt.course, attempt.email) == (body.get("courseId", ""), body.get("email", ""))
    assert attempt.caller == "address:127.0.0.1/32"


def test_it_keeps_that_a_code_was_never_issued(course: Course) -> None:
    Course.objects.update(redemption="issued")
    make_pool(course, 1)

    assert redeem() == 404

    assert RedeemAttempt.objects.get().reason == "never_issued"


def test_it_keeps_that_a_code_was_redeemed_before(voucher: Voucher) -> None:
    assert [redeem(), redeem()] == [200, 409]
    assert RedeemAttempt.objects.get().reason == "redeemed"


def test_it_keeps_one_row_for_each_reason_and_caller(voucher: Voucher) -> None:
    for email in ("bob@example.com", "eve@example.com"):
        redeem(courseId="PY201", email=email)
    redeem_first = RedeemAttempt.objects.get()

    assert (redeem_first.times, redeem_first.email) == (2, "eve@example.com")
    assert redeem_first.last_at > redeem_first.first_at
    redeem()
    redeem()
    assert sorted(RedeemAttempt.objects.values_list("reason", "times")) == [("other_course", 2), ("redeemed", 1)]


def test_it_keeps_nothing_of_codes_that_are_none_of_ours(voucher: Voucher) -> None:
    assert redeem(code="JS101-NOBODYS-001") == 404
    assert redeem(code="?") == 400
    assert not RedeemAttempt.objects.exists()


def test_it_keeps_nothing_of_a_retry_that_is_answered(voucher: Voucher) -> None:
    request = RedeemRequest(code=voucher.code, guesser=Guesser.of_key("key:a"), idempotency_key="k-1")
    assert redeem_voucher(request).pk == redeem_voucher(request).pk
    assert not RedeemAttempt.objects.exists()


def test_it_tells_the_caller_no_more_than_of_an_unknown_code(voucher: Voucher) -> None:
    Course.objects.update(redemption="holder")

    def answer(code: str) -> dict[str, Any]:
        body = APIClient().post("/redeem-voucher", {"code": code, "email": "eve@example.com"}, format="json").json()
        return {name: value for name, value in body.items() if name != "requestId"}

    assert answer(voucher.code) == answer("JS101-NOBODYS-001")


@pytest.mark.django_db(transaction=True)
def test_it_counts_attempts_at_the_same_time(voucher: Voucher) -> None:
    guesser = Guesser.of_key("key:a")
    redeem_voucher(RedeemRequest(code=voucher.code, guesser=guesser))

    results = together(16, lambda n: redeem_voucher(RedeemRequest(code=voucher.code, guesser=guesser)))

    assert len(failures(results)) == 16
    assert RedeemAttempt.objects.get().times == 16
