"""GET /admin/vouchers-summary and GET /admin/vouchers/:course"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone
from rest_framework.test import APIClient

from courses.models import Course
from tests.conftest import Caller
from tests.factories import CourseFactory, UserFactory, issue_to, make_pool
from tests.staff import log_in, logged
from vouchers.guesses import Guesser
from vouchers.models import Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
SUMMARY = "/admin/vouchers-summary"
LIST = "/admin/vouchers/JS101"


@pytest.fixture
def client(caller: Caller) -> APIClient:
    return caller("manage")


def days(number: int) -> dt.date:
    return timezone.localdate() + dt.timedelta(days=number)


def redeem(voucher: Voucher) -> None:
    redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))


@pytest.fixture
def every_kind(course: Course) -> dict[str, Voucher]:
    """One voucher of each fate, and a waiting buyer in another course."""
    make_pool(course, 6)
    fates = ["issued", "redeemed", "revoked", "expired"]
    vouchers = {fate: issue_to(course, f"{fate}@example.com").voucher for fate in fates}
    found = {fate: voucher for fate, voucher in vouchers.items() if voucher}
    redeem(found["redeemed"])
    revoke_voucher(found["revoked"], reason="lost")
    Voucher.objects.filter(pk=found["expired"].pk).update(expires_on=days(-1))
    found["withdrawn"] = Voucher.objects.pool(course)[0]
    revoke_voucher(found["withdrawn"], reason="leaked")
    found["available"] = Voucher.objects.pool(course)[0]
    found["too old"] = make_pool(course, 1, expires_on=days(-1))[0]
    issue_to(CourseFactory.create(id="PY201"))
    return found


class TestSummary:
    def test_it_counts_every_course(self, client: APIClient, every_kind: object) -> None:
        response = client.get(SUMMARY)
        assert response.status_code == 200
        assert response.json() == [
            {
                "courseId": "JS101",
                "name": "JavaScript Basics",
                "total": 5,
                "issued": 4,
                "remaining": 1,
                "redeemed": 1,
                "waiting": 0,
                "expired": 2,
                "revoked": 2,
            },
            {
                "courseId": "PY201",
                "name": "JavaScript Basics",
                "total": 0,
                "issued": 0,
                "remaining": 0,
                "redeemed": 0,
                "waiting": 1,
                "expired": 0,
                "revoked": 0,
            },
        ]

    def test_it_leaves_out_what_is_not_valid_long_enough(self, client: APIClient, course: Course) -> None:
        Course.objects.update(minimum_validity_days=10)
        make_pool(course, 1, expires_on=days(9))
        make_pool(course, 1, expires_on=days(10))
        row = client.get(SUMMARY).json()[0]
        assert (row["total"], row["remaining"], row["expired"]) == (1, 1, 0)

    def test_it_is_one_statement(self, client: APIClient, every_kind: object, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(2):  # the other one finds the key
            client.get(SUMMARY)

    def test_it_counts_queues_once_and_not_for_every_voucher(
        self, client: APIClient, every_kind: object, django_assert_max_num_queries: Any
    ) -> None:
        with django_assert_max_num_queries(2) as queries:
            client.get(SUMMARY)
        [counts] = [query["sql"] for query in queries.captured_queries if "GROUP BY" in query["sql"]]
        # Another term in it would be worked out for every row that is grouped.
        assert counts.endswith('GROUP BY 1 ORDER BY "courses_course"."id" ASC) AS counted')

    def test_it_says_when_nothing_has_changed(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        first = client.get(SUMMARY)
        again = client.get(SUMMARY, headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        issue_to(course)
        assert client.get(SUMMARY, headers={"If-None-Match": first["ETag"]}).status_code == 200

    def test_it_takes_staff(self, course: Course) -> None:
        client = APIClient()
        client.force_login(UserFactory.create())
        assert client.get(SUMMARY, headers={"Accept": "text/html"}).json()[0]["courseId"] == "JS101"
        client.force_login(UserFactory.create(is_superuser=False))
        assert client.get(SUMMARY).status_code == 403
        client.force_login(UserFactory.create(is_staff=False))
        assert client.get(SUMMARY).status_code == 403

    def test_it_never_redirects_to_a_login(self, caller: Caller, course: Course) -> None:
        for path in (SUMMARY, LIST):
            response = caller().get(path)
            assert (response.status_code, response["WWW-Authenticate"]) == (401, "Api-Key")
            assert caller("issue", "redeem").get(path).status_code == 403


class TestList:
    def test_it_shows_every_voucher(self, client: APIClient, every_kind: dict[str, Voucher]) -> None:
        rows = {row["_id"]: row for row in client.get(LIST).json()}
        assert len(rows) == 7
        redeemed = rows[every_kind["redeemed"].code]
        assert redeemed.pop("issuedOn").endswith("Z")
        assert redeemed == {
            "_id": every_kind["redeemed"].code,
            "courseId": "JS101",
            "used": True,
            "issuedTo": "redeemed@example.com",
            "usedOn": timezone.localdate().isoformat(),
            "status": "redeemed",
            "expiresOn": None,
        }
        expected = {**{fate: fate for fate in every_kind}, "withdrawn": "revoked", "too old": "expired"}
        assert {fate: rows[voucher.code]["status"] for fate, voucher in every_kind.items()} == expected

    @pytest.mark.parametrize(
        ("status", "number"),
        [("available", 1), ("issued", 1), ("redeemed", 1), ("revoked", 2), ("expired", 2)],
    )
    def test_it_filters_by_the_status_it_shows(
        self, client: APIClient, every_kind: object, status: str, number: int
    ) -> None:
        rows = client.get(LIST, {"status": status}).json()
        assert [row["status"] for row in rows] == [status] * number

    def test_it_filters_by_email_and_batch(self, client: APIClient, every_kind: dict[str, Voucher]) -> None:
        assert len(client.get(LIST, {"email": "ISSUED@example.com"}).json()) == 1
        assert len(client.get(LIST, {"batch": every_kind["too old"].batch_id}).json()) == 1
        assert client.get(LIST, {"batch": 999_999}).json() == []

    def test_it_pages_by_the_link_header(self, client: APIClient, course: Course) -> None:
        make_pool(course, 25)
        seen: list[str] = []
        path: str | None = f"{LIST}?limit=10&status=available"
        pages = 0
        while path:
            response = client.get(path)
            seen += [row["_id"] for row in response.json()]
            pages += 1
            path = next_of(response)
        assert pages == 3
        assert len(seen) == len(set(seen)) == 25

    def test_it_has_pages_of_a_hundred(self, client: APIClient, course: Course) -> None:
        make_pool(course, 101)
        assert len(client.get(LIST).json()) == 100
        assert "Link" not in client.get(LIST, {"limit": 101})

    @pytest.mark.parametrize(
        "query",
        [
            {"limit": 1001},
            {"limit": 0},
            {"limit": "x"},
            {"status": "used"},
            {"cursor": "x"},
            {"batch": -1},
            {"format": "xml"},
        ],
    )
    def test_it_names_a_filter_it_does_not_know(self, client: APIClient, course: Course, query: dict[str, Any]) -> None:
        response = client.get(LIST, query)
        assert (response.status_code, list(response.json()["fields"])) == (400, list(query))

    def test_it_works_for_courses_named_like_the_admin_s_pages(self, client: APIClient, db: None) -> None:
        for name in ("voucher", "batch", "vouchers-summary"):
            make_pool(CourseFactory.create(id=name), 1)
            assert len(client.get(f"/admin/vouchers/{name}").json()) == 1
        staff = APIClient()
        staff.force_login(UserFactory.create())
        page = staff.get("/admin/vouchers/voucher/")
        assert (page.status_code, page["Content-Type"]) == (200, "text/html; charset=utf-8")

    def test_it_knows_no_such_course(self, client: APIClient, course: Course) -> None:
        for name in ("NOPE", "js101", "J\u00e9", "a b"):
            response = client.get(f"/admin/vouchers/{name}")
            assert (response.status_code, response.json()["code"]) == (404, "course_not_found")


class TestStaff:
    """Programs get whole codes by their scope; people by a permission, and it is written down."""

    @pytest.fixture
    def voucher(self, course: Course) -> Voucher:
        [voucher] = make_pool(course, 1, code="JS101-XZ4B7Q-001")
        issue_to(course)
        return voucher

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_it_masks_the_codes_for_staff(self, voucher: Voucher, kind: str) -> None:
        shown = text_of(log_in("view_voucher").get(LIST, {"format": kind}))
        assert "••••-001" in shown
        assert "JS101-XZ4B7Q" not in shown
        assert "ann@example.com" in shown
        assert not LogEntry.objects.exists()
        voucher.refresh_from_db()
        assert voucher.code == "JS101-XZ4B7Q-001"

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_it_shows_them_to_staff_who_may_see_them(self, voucher: Voucher, kind: str) -> None:
        shown = text_of(log_in("view_voucher", "reveal_voucher").get(LIST, {"format": kind}))
        assert voucher.code in shown
        assert logged(voucher.course) == ["Saw whole codes, by the list of vouchers."]

    def test_it_lists_none_for_those_who_may_see_codes_alone(self, voucher: Voucher) -> None:
        assert log_in("reveal_voucher").get(LIST).status_code == 403
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_it_shows_them_to_programs(self, client: APIClient, voucher: Voucher, kind: str) -> None:
        assert voucher.code in text_of(client.get(LIST, {"format": kind}))
        assert not LogEntry.objects.exists()


class TestCSV:
    def test_it_streams_the_whole_course(self, client: APIClient, course: Course) -> None:
        make_pool(course, 150)
        issue_to(course)
        response = client.get(LIST, {"format": "csv"})
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        rows = rows_of(response)
        assert len(rows) == 150
        assert list(rows[0]) == [
            "_id", "courseId", "used", "issuedTo", "usedOn", "status", "issuedOn", "expiresOn",
        ]  # fmt: skip
        assert rows[0]["issuedTo"] == "ann@example.com"

    @pytest.mark.parametrize("first", ["=", "+", "-"])
    def test_it_makes_cells_harmless(self, client: APIClient, course: Course, first: str) -> None:
        make_pool(course, 1)
        issue_to(course, f"{first}cmd@example.com")
        assert rows_of(client.get(LIST, {"format": "csv"}))[0]["issuedTo"] == f"'{first}cmd@example.com"


def next_of(response: Any) -> str | None:
    found = re.fullmatch(r'<http://testserver(.+)>; rel="next"', response.get("Link", ""))
    return found.group(1) if found else None


def text_of(response: Any) -> str:
    content = response.streaming_content if response.streaming else [response.content]
    return b"".join(content).decode()


def rows_of(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text_of(response))))
