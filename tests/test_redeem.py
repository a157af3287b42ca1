"""POST /redeem-voucher"""

from __future__ import annotations

import datetime as dt
import ipaddress
import uuid
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from courses.models import Course, Purchase
from tests.conftest import Caller
from tests.factories import CourseFactory, UserFactory, issue_to, make_pool
from vouchers.guesses import ANONYMOUS_LIMIT, Guesser, forget_old_guesses
from vouchers.models import Guess, Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db


@pytest.fixture
def voucher(course: Course) -> Voucher:
    make_pool(course, 1, code="JS101-XZ4B7Q-001")
    issued = issue_to(course).voucher
    assert issued is not None
    return issued


@pytest.fixture(params=["anonymous, step by step", "by key, at once"])
def client(request: pytest.FixtureRequest, caller: Caller) -> APIClient:
    """What redeems a voucher in one statement, and what does so in several, answers alike."""
    return caller("redeem") if "key" in request.param else caller()


def redeem(client: APIClient, code: str = "JS101-XZ4B7Q-001", *, key: str = "", **fields: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/redeem-voucher", {"code": code, **fields}, format="json", headers=headers)


def test_it_spends_the_voucher_for_a_free_purchase(client: APIClient, voucher: Voucher) -> None:
    response = redeem(client)

    purchase = Purchase.objects.get()
    assert response.status_code == 200
    assert response.json() == {
        "status": "redeemed",
        "courseId": "JS101",
        "purchaseId": str(purchase.pk),
        "usedOn": timezone.localdate().isoformat(),
    }
    assert (purchase.provider, str(purchase.amount), purchase.email) == ("voucher", "0.00", "ann@example.com")
    voucher.refresh_from_db()
    assert voucher.status == "redeemed"
    assert voucher.redemption.purchase == purchase


@pytest.mark.parametrize(
    "typed",
    [
        " js101-xz4b7q-001 ",
        "JS101\u2013XZ4B7Q\u2011001",
        "\u200bJS101-XZ4B7Q-001\ufeff",
        "\uff2aS101-XZ4B7Q-001",
    ],
)
def test_it_cleans_the_code_as_typed(client: APIClient, voucher: Voucher, typed: str) -> None:
    assert redeem(client, typed).status_code == 200


def test_it_takes_voucher_code_for_code(client: APIClient, voucher: Voucher) -> None:
    assert client.post("/redeem-voucher", {"voucherCode": voucher.code}, format="json").status_code == 200


def test_it_spends_a_voucher_once(client: APIClient, voucher: Voucher) -> None:
    redeem(client)
    again = redeem(client)
    assert (again.status_code, again.json()["code"]) == (409, "already_redeemed")
    assert Redemption.objects.count() == 1


class TestRetry:
    def test_it_gets_its_first_answer_again(self, client: APIClient, voucher: Voucher) -> None:
        first = redeem(client, key="k-1")
        again = redeem(client, key="k-1")
        assert (again.status_code, again.json()) == (200, first.json())

    def test_it_is_refused_with_another_key_or_none(self, client: APIClient, voucher: Voucher) -> None:
        redeem(client, key="k-1")
        assert redeem(client, key="k-2").status_code == 409
        assert redeem(client).status_code == 409

    def test_it_is_refused_to_another_caller(self, client: APIClient, caller: Caller, voucher: Voucher) -> None:
        redeem(client, key="k-1")
        assert redeem(caller("redeem"), key="k-1").status_code == 409

    def test_it_is_never_a_retry_without_a_key(self, client: APIClient, voucher: Voucher) -> None:
        redeem(client)
        assert redeem(client).status_code == 409


@pytest.mark.parametrize("code", ["", "ab", "JS101 XZ4B7Q", "-JS101", "a" * 129, "JS101\u00e9\u00e9"])
def test_it_looks_nothing_up_for_what_is_no_code(db: None, code: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        response = redeem(APIClient(), code)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_code")


@pytest.mark.parametrize(
    "body",
    [{}, {"code": None}, {"voucherCode": "", "code": ""}, {"code": ["AAAA-1"]}, {"code": True}, {"code": "AA\x00AA"}],
)
def test_it_refuses_a_missing_code(client: APIClient, db: None, body: dict[str, Any]) -> None:
    assert client.post("/redeem-voucher", body, format="json").json()["code"] == "invalid_code"


def test_it_takes_the_empty_fields_of_a_form_for_absent(client: APIClient, voucher: Voucher) -> None:
    assert redeem(client, courseId="", email=None).status_code == 200


class TestNotFound:
    """All alike: nothing tells an unknown code from one that is none of the caller's business."""

    def answer(self, response: Any) -> dict[str, Any]:
        assert response.status_code == 404
        return {key: value for key, value in response.json().items() if key != "requestId"}

    def test_it_looks_the_same_whatever_the_reason(self, client: APIClient, voucher: Voucher) -> None:
        issued_only = CourseFactory.create(id="PY201", redemption="issued")
        holder_only = CourseFactory.create(id="SQL110", redemption="holder")
        unissued = make_pool(issued_only, 1)[0]
        make_pool(holder_only, 1)
        held = issue_to(holder_only).voucher
        assert held is not None

        unknown = self.answer(redeem(client, "NO-SUCH-CODE"))
        assert unknown["code"] == "voucher_not_found"
        assert self.answer(redeem(client, courseId="PY201")) == unknown
        assert self.answer(redeem(client, unissued.code)) == unknown
        assert self.answer(redeem(client, held.code)) == unknown
        assert self.answer(redeem(client, held.code, email="bob@example.com")) == unknown
        assert not Redemption.objects.exists()

    def test_it_hides_the_state_of_a_holder_s_voucher(self, client: APIClient, course: Course) -> None:
        Course.objects.update(redemption="holder")
        make_pool(course, 1, code="JS101-XZ4B7Q-001")
        issue_to(course)
        assert redeem(client, email="ANN@example.com").status_code == 200
        assert redeem(client, email="bob@example.com").status_code == 404
        assert redeem(client, email="ann@example.com").status_code == 409


class TestRules:
    def test_bearer_takes_a_code_that_was_never_issued(self, client: APIClient, caller: Caller, course: Course) -> None:
        make_pool(course, 2)
        code = Voucher.objects.order_by("position")[0].code
        assert redeem(client, code, email="bob@example.com").status_code == 200
        assert Purchase.objects.get().email == "bob@example.com"
        counts = caller("manage").get("/admin/vouchers-summary").json()[0]
        assert (counts["total"], counts["issued"], counts["remaining"], counts["redeemed"]) == (2, 1, 1, 1)
        shown = caller("manage").get("/admin/vouchers/JS101").json()[0]
        assert (shown["status"], shown["issuedTo"]) == ("redeemed", None)
        assert issue_to(course).voucher != Voucher.objects.get(code=code)

    def test_issued_takes_an_issued_code(self, client: APIClient, voucher: Voucher) -> None:
        Course.objects.update(redemption="issued")
        assert redeem(client).status_code == 200

    def test_holder_takes_the_code_with_its_email(self, client: APIClient, voucher: Voucher) -> None:
        Course.objects.update(redemption="holder")
        assert redeem(client, email="Ann@Example.com").status_code == 200

    def test_holder_knows_upper_and_lower_case_of_every_alphabet(self, client: APIClient, course: Course) -> None:
        Course.objects.update(redemption="holder")
        make_pool(course, 1, code="JS101-XZ4B7Q-001")
        issue_to(course, "ann@b\u00fccher.example")
        assert redeem(client, email="ann@k\u00fcchen.example").status_code == 404
        assert redeem(client, email="ANN@B\u00dcCHER.example").status_code == 200
        assert Redemption.objects.get().email == "ANN@B\u00dcCHER.example"


class TestStatements:
    """Who is told of what is remembered, so it is asked for beforehand."""

    def statements(self, course: Course, guesser: Guesser) -> list[str]:
        spare, voucher = make_pool(course, 2)
        redeem_voucher(RedeemRequest(code=spare.code, guesser=guesser))
        with CaptureQueriesContext(connection) as queries:
            redeem_voucher(RedeemRequest(code=voucher.code, guesser=guesser))
        return [query["sql"].split()[0] for query in queries]

    def test_it_takes_one_for_a_key(self, course: Course) -> None:
        assert self.statements(course, Guesser.of_key("key:a")) == ["SELECT"]

    def test_it_takes_a_lock_and_a_count_more_near_the_limit(self, course: Course) -> None:
        guesser = Guesser.of_address("127.0.0.1")
        # A savepoint, because the test itself is a transaction.
        assert self.statements(course, guesser) == ["SAVEPOINT", "SELECT", "SELECT", "SELECT", "RELEASE"]

    def test_it_never_reads_a_whole_table_by_a_plan_made_when_that_was_small(self, course: Course) -> None:
        vouchers = make_pool(course, 10)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE vouchers_voucher")
        before = whole_tables_read()
        for voucher in vouchers:  # a plan is kept from the sixth time on
            redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_key("key:a")))
        assert whole_tables_read() == before


class TestState:
    def test_it_refuses_a_revoked_voucher(self, client: APIClient, voucher: Voucher) -> None:
        revoke_voucher(voucher, reason="refunded")
        response = redeem(client)
        assert (response.status_code, response.json()["code"]) == (410, "voucher_revoked")

    def test_it_refuses_an_expired_voucher(self, client: APIClient, voucher: Voucher) -> None:
        Voucher.objects.update(expires_on=timezone.localdate() - dt.timedelta(days=1))
        response = redeem(client)
        assert (response.status_code, response.json()["code"]) == (410, "voucher_expired")

    def test_it_takes_a_voucher_to_the_end_of_its_last_day(self, client: APIClient, voucher: Voucher) -> None:
        Voucher.objects.update(expires_on=timezone.localdate())
        assert redeem(client).status_code == 200

    def test_it_refuses_a_disputed_voucher(self, client: APIClient, voucher: Voucher) -> None:
        Voucher.objects.update(held_since=timezone.now())
        response = redeem(client)
        assert (response.status_code, response.json()["code"]) == (409, "voucher_on_hold")
        Voucher.objects.update(held_since=None)
        assert redeem(client).status_code == 200


class TestGuessing:
    @pytest.fixture
    def client(self, caller: Caller) -> APIClient:
        return caller()

    def guess(self, client: APIClient, number: int, **headers: str) -> list[int]:
        return [
            client.post("/redeem-voucher", {"code": f"GUESS-{n}"}, format="json", **headers).status_code  # type: ignore[arg-type]
            for n in range(number)
        ]

    def test_it_stops_after_ten_wrong_codes(self, client: APIClient, voucher: Voucher) -> None:
        assert self.guess(client, 12) == [404] * 10 + [429] * 2
        response = redeem(client)
        assert (response.status_code, response.json()["code"]) == (429, "too_many_guesses")
        assert 590 <= int(response["Retry-After"]) <= 600

    def test_it_goes_on_once_the_window_has_moved(self, client: APIClient, voucher: Voucher) -> None:
        self.guess(client, 10)
        oldest = Guess.objects.earliest("id")
        Guess.objects.filter(pk=oldest.pk).update(at=F("at") - dt.timedelta(minutes=10))
        assert self.guess(client, 2) == [404, 429]

    def test_it_counts_nothing_but_wrong_codes(self, client: APIClient, voucher: Voucher) -> None:
        redeem(client)
        assert [redeem(client).status_code for _ in range(15)] == [409] * 15
        assert [redeem(client, "x").status_code for _ in range(15)] == [400] * 15
        assert self.guess(client, 1) == [404]

    def test_it_counts_a_key_apart_and_further(self, client: APIClient, caller: Caller, voucher: Voucher) -> None:
        with_key = caller("redeem")
        assert self.guess(with_key, 12) == [404] * 12
        caller_name = Guess.objects.values_list("caller", flat=True).distinct().get()
        Guess.objects.bulk_create(Guess(caller=caller_name) for _ in range(1000 - 12 - 1))
        assert self.guess(with_key, 2) == [404, 429]
        assert self.guess(client, 1) == [404]

    def test_it_is_not_dodged_with_a_forged_address(self, client: APIClient, voucher: Voucher) -> None:
        self.guess(client, 10)
        assert redeem_from(client, "198.51.100.7").status_code == 429

    def test_it_believes_a_trusted_proxy(self, client: APIClient, voucher: Voucher, settings: Any) -> None:
        settings.TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.0/8")]
        for _ in range(ANONYMOUS_LIMIT):
            assert redeem_from(client, "198.51.100.7").status_code == 404
        assert redeem_from(client, "198.51.100.7").status_code == 429
        assert redeem_from(client, "203.0.113.9, 198.51.100.7").status_code == 429
        assert redeem_from(client, "198.51.100.7:5555").status_code == 429
        assert redeem_from(client, "198.51.100.8:5555").status_code == 404
        assert redeem_from(client, "[2001:db8::1]:443").status_code == 404
        assert Guess.objects.filter(caller="address:2001:db8::/64").exists()

    def test_it_takes_the_addresses_of_one_network_of_ipv6_for_one(self, client: APIClient, voucher: Voucher) -> None:
        for n in range(ANONYMOUS_LIMIT):
            assert self.guess(client, 1, REMOTE_ADDR=f"2001:db8:0:1::{n}") == [404]
        assert self.guess(client, 1, REMOTE_ADDR="2001:db8:0:1:ffff::1") == [429]
        assert self.guess(client, 1, REMOTE_ADDR="2001:db8:0:2::1") == [404]

    def test_it_forgets_guesses_that_no_longer_count(self, client: APIClient, voucher: Voucher) -> None:
        self.guess(client, 3)
        Guess.objects.update(at=F("at") - dt.timedelta(minutes=11))
        self.guess(client, 1)
        assert forget_old_guesses() == 3
        assert Guess.objects.count() == 1


def whole_tables_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT sum(seq_scan) FROM pg_stat_xact_user_tables WHERE relname IN ('vouchers_voucher', 'vouchers_guess')
        """)
        return int(cursor.fetchone()[0])


def redeem_from(client: APIClient, forwarded_for: str) -> Any:
    return client.post(
        "/redeem-voucher",
        {"code": f"GUESS-{uuid.uuid4()}"},
        format="json",
        headers={"X-Forwarded-For": forwarded_for},
    )


class TestCallers:
    @pytest.fixture
    def client(self, caller: Caller) -> APIClient:
        return caller()

    def test_it_needs_the_scope_of_a_key(self, caller: Caller, voucher: Voucher) -> None:
        assert redeem(caller("issue", "manage")).status_code == 403
        assert redeem(caller("redeem")).status_code == 200

    def test_it_refuses_a_wrong_key(self, client: APIClient, voucher: Voucher) -> None:
        client.credentials(HTTP_AUTHORIZATION="Api-Key nonsense")
        assert redeem(client).status_code == 401

    def test_it_takes_staff_for_shoppers(self, voucher: Voucher) -> None:
        client = APIClient(enforce_csrf_checks=True)
        client.force_login(UserFactory.create())
        assert redeem(client).status_code == 200
