"""A code is good to the end of its last day in TIME_ZONE, at every door; and the soonest to expire goes first."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from courses.models import Course
from tests.conftest import Caller
from tests.factories import issue_to, make_pool
from tests.staff import log_in
from vouchers.delivery.outbox import resend_voucher
from vouchers.delivery.sending import send_due
from vouchers.errors import NotResendable
from vouchers.filling import fill_waiting, sweep_waiting
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.summary import summary

pytestmark = pytest.mark.django_db

SUMMARY = "/admin/vouchers-summary"
LIST = "/admin/vouchers/JS101"
UPLOAD = "/api/admin/vouchers/upload"
MOMENT = dt.timedelta(microseconds=1)


class Clock:
    """What `timezone.now` says; the database keeps its own time."""

    def __init__(self) -> None:
        self.now = timezone.now()
        self.ticks: list[dt.datetime] = []  # said first, one a look

    def __call__(self) -> dt.datetime:
        return self.ticks.pop(0) if self.ticks else self.now


@dataclass(frozen=True)
class LastDay:
    """A day somewhere, and the first moment that is no longer in it."""

    zone: str
    day: dt.date
    over: dt.datetime

    @property
    def tomorrow(self) -> dt.date:
        return self.day + dt.timedelta(days=1)

    @property
    def yesterday(self) -> dt.date:
        return self.day - dt.timedelta(days=1)


# Ends of days by the almanac, not by the library that is tried.
LAST_DAYS = {
    "UTC": LastDay("UTC", dt.date(2031, 5, 7), dt.datetime(2031, 5, 8, 0, tzinfo=dt.UTC)),
    "Berlin, summer": LastDay("Europe/Berlin", dt.date(2031, 5, 7), dt.datetime(2031, 5, 7, 22, tzinfo=dt.UTC)),
    "Berlin, 23 hours": LastDay("Europe/Berlin", dt.date(2031, 3, 30), dt.datetime(2031, 3, 30, 22, tzinfo=dt.UTC)),
    "Berlin, 25 hours": LastDay("Europe/Berlin", dt.date(2031, 10, 26), dt.datetime(2031, 10, 26, 23, tzinfo=dt.UTC)),
    "New York, 23 hours": LastDay("America/New_York", dt.date(2031, 3, 9), dt.datetime(2031, 3, 10, 4, tzinfo=dt.UTC)),
    "New York, 25 hours": LastDay("America/New_York", dt.date(2031, 11, 2), dt.datetime(2031, 11, 3, 5, tzinfo=dt.UTC)),
    # The first to see a day, and a day that ends at a midnight which comes twice.
    "Kiritimati": LastDay("Pacific/Kiritimati", dt.date(2031, 5, 7), dt.datetime(2031, 5, 7, 10, tzinfo=dt.UTC)),
    "Santiago, 25 hours": LastDay("America/Santiago", dt.date(2031, 4, 5), dt.datetime(2031, 4, 6, 4, tzinfo=dt.UTC)),
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("django.utils.timezone.now", clock)
    return clock


@pytest.fixture(params=LAST_DAYS)
def last_day(request: pytest.FixtureRequest, settings: Any, clock: Clock) -> LastDay:
    """The last day of the codes of a test, at its last moment."""
    last_day = LAST_DAYS[request.param]
    settings.TIME_ZONE = last_day.zone
    clock.now = last_day.over - MOMENT
    return last_day


@pytest.fixture
def midnight(settings: Any, clock: Clock) -> LastDay:
    """The same in one place, for what does not depend on where it is."""
    last_day = LAST_DAYS["New York, 25 hours"]
    settings.TIME_ZONE = last_day.zone
    clock.now = last_day.over - MOMENT
    return last_day


@pytest.fixture
def client(caller: Caller) -> APIClient:
    return caller("issue", "redeem", "manage")


def ask(client: APIClient, email: str) -> tuple[int, str]:
    response = client.post("/issue-voucher", {"courseId": "JS101", "email": email}, format="json")
    return response.status_code, response.json()["status"]


def redeem(client: APIClient, voucher: Voucher, key: str = "") -> tuple[int, str]:
    headers = {"Idempotency-Key": key} if key else {}
    response = client.post("/redeem-voucher", {"code": voucher.code}, format="json", headers=headers)
    return response.status_code, response.json().get("code") or response.json()["status"]


def counts(client: APIClient) -> dict[str, int]:
    (row,) = client.get(SUMMARY).json()
    assert row["total"] == row["issued"] + row["remaining"]
    return {name: row[name] for name in ("total", "issued", "remaining", "expired")}


def statuses(client: APIClient, **query: str) -> list[str]:
    return [voucher["status"] for voucher in client.get(LIST, query).json()]


def in_admin(client: Client, **query: str) -> list[str]:
    """The badges of the admin's list of vouchers."""
    page = client.get("/admin/vouchers/voucher/", query).content.decode()
    return re.findall(r'class="desk-badge desk-(\w+)"', page)


def issue_the_last(course: Course, last_day: LastDay, email: str = "ann@example.com") -> Issuance:
    make_pool(course, 1, expires_on=last_day.day)
    issuance = issue_to(course, email)
    assert issuance.voucher is not None
    return issuance


class TestTheEndOfTheLastDay:
    def test_it_issues_until_then(self, client: APIClient, course: Course, clock: Clock, last_day: LastDay) -> None:
        make_pool(course, 2, expires_on=last_day.day)
        assert ask(client, "ann@example.com") == (201, "issued")
        clock.now = last_day.over
        assert ask(client, "bob@example.com") == (202, "waiting")

    def test_it_redeems_until_then(self, client: APIClient, course: Course, clock: Clock, last_day: LastDay) -> None:
        early, late = make_pool(course, 2, expires_on=last_day.day)
        assert redeem(client, early) == (200, "redeemed")
        clock.now = last_day.over
        assert redeem(client, late) == (410, "voucher_expired")
        late.refresh_from_db()
        assert late.status == "available"

    def test_it_redeems_what_was_issued_until_then(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        make_pool(course, 2, expires_on=last_day.day)
        early, late = issue_to(course, "ann@example.com").voucher, issue_to(course, "bob@example.com").voucher
        assert early is not None
        assert late is not None
        assert redeem(client, early) == (200, "redeemed")
        clock.now = last_day.over
        assert redeem(client, late) == (410, "voucher_expired")

    def test_it_emails_until_then(self, course: Course, clock: Clock, last_day: LastDay) -> None:
        issue_the_last(course, last_day)
        assert send_due() == 1
        late = issue_the_last(course, last_day, "bob@example.com")
        clock.now = last_day.over
        assert send_due() == 0
        assert late.deliveries.get().last_error == "Not sent: the voucher is expired."

    def test_it_sends_again_until_then(self, course: Course, clock: Clock, last_day: LastDay) -> None:
        issuance = issue_the_last(course, last_day)
        resend_voucher(issuance)
        clock.now = last_day.over
        with pytest.raises(NotResendable, match="expired"):
            resend_voucher(issuance)
        assert Delivery.objects.count() == 2

    def test_it_lists_it_as_good_until_then(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        issue_the_last(course, last_day)
        make_pool(course, 1, expires_on=last_day.day)
        assert statuses(client) == ["issued", "available"]
        clock.now = last_day.over
        assert statuses(client) == ["expired", "expired"]

    def test_it_filters_a_list_by_what_the_list_shows(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        issue_the_last(course, last_day)
        make_pool(course, 1, expires_on=last_day.day)
        shown = {status: len(statuses(client, status=status)) for status in ("issued", "available", "expired")}
        assert shown == {"issued": 1, "available": 1, "expired": 0}
        clock.now = last_day.over
        shown = {status: len(statuses(client, status=status)) for status in ("issued", "available", "expired")}
        assert shown == {"issued": 0, "available": 0, "expired": 2}

    def test_it_counts_it_as_remaining_until_then(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        issue_the_last(course, last_day)
        make_pool(course, 2, expires_on=last_day.day)
        make_pool(course, 4, expires_on=last_day.tomorrow)
        assert counts(client) == {"total": 7, "issued": 1, "remaining": 6, "expired": 0}
        clock.now = last_day.over
        assert counts(client) == {"total": 5, "issued": 1, "remaining": 4, "expired": 3}

    def test_it_shows_it_in_the_admin_as_good_until_then(self, course: Course, clock: Clock, last_day: LastDay) -> None:
        staff = log_in("view_voucher")
        make_pool(course, 1, expires_on=last_day.day)
        assert in_admin(staff) == ["available"]
        assert in_admin(staff, status="expired") == []
        clock.now = last_day.over
        assert in_admin(staff) == ["expired"]
        assert in_admin(staff, status="expired") == ["expired"]

    def test_it_filters_the_admin_by_the_days_left(self, course: Course, clock: Clock, last_day: LastDay) -> None:
        staff = log_in("view_voucher")
        make_pool(course, 1, expires_on=last_day.day)
        make_pool(course, 1, expires_on=last_day.day + dt.timedelta(days=8))
        found = {expiry: len(in_admin(staff, expiry=expiry)) for expiry in ("past", "7")}
        assert found == {"past": 0, "7": 1}
        clock.now = last_day.over
        found = {expiry: len(in_admin(staff, expiry=expiry)) for expiry in ("past", "7")}
        assert found == {"past": 1, "7": 1}

    def test_it_takes_in_codes_for_the_day_until_then(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        upload = {"courseId": "JS101", "expiresOn": last_day.day.isoformat()}
        assert client.post(UPLOAD, {**upload, "vouchers": ["AAAA-1"]}, format="json").status_code == 200
        clock.now = last_day.over
        refused = client.post(UPLOAD, {**upload, "vouchers": ["AAAA-2"]}, format="json")
        assert (refused.status_code, list(refused.json()["fields"])) == (400, ["expiresOn"])
        assert Voucher.objects.count() == 1

    def test_it_takes_in_lines_for_the_day_until_then(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        def upload(code: str) -> int:
            file = SimpleUploadedFile("codes.csv", f"code,expiresOn\n{code},{last_day.day}\n".encode())
            return client.post(UPLOAD, {"courseId": "JS101", "file": file}, format="multipart").status_code

        assert upload("AAAA-1") == 200
        clock.now = last_day.over
        assert upload("AAAA-2") == 422
        assert Voucher.objects.count() == 1

    def test_it_counts_the_days_of_the_minimum_from_today(
        self, client: APIClient, course: Course, clock: Clock, last_day: LastDay
    ) -> None:
        Course.objects.update(minimum_validity_days=30)
        make_pool(course, 1, expires_on=last_day.day + dt.timedelta(days=29))
        make_pool(course, 2, expires_on=last_day.day + dt.timedelta(days=30))
        assert counts(client)["remaining"] == 2
        assert ask(client, "ann@example.com") == (201, "issued")
        clock.now = last_day.over
        assert counts(client)["remaining"] == 0
        assert ask(client, "bob@example.com") == (202, "waiting")


class TestTheDatabasesOwnTime:
    """Its clock shows another year in every test here."""

    @pytest.fixture(params=["Pacific/Kiritimati", "Etc/GMT+12"])
    def _elsewhere(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("PGTZ", request.param)  # as a role or a database of PostgreSQL may say, too
        connection.close()
        yield
        connection.close()

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.usefixtures("_elsewhere")
    def test_its_zone_does_not_matter(self, client: APIClient, course: Course, clock: Clock, midnight: LastDay) -> None:
        last, _ = make_pool(course, 2, expires_on=midnight.day)
        make_pool(course, 1, expires_on=midnight.yesterday)
        assert counts(client) == {"total": 2, "issued": 0, "remaining": 2, "expired": 1}
        assert ask(client, "ann@example.com") == (201, "issued")
        assert redeem(client, last) == (200, "redeemed")
        assert statuses(client) == ["redeemed", "available", "expired"]
        clock.now = midnight.over
        assert counts(client) == {"total": 1, "issued": 1, "remaining": 0, "expired": 2}
        assert ask(client, "bob@example.com") == (202, "waiting")


class TestMidnightInBetween:
    def test_it_counts_all_of_a_summary_on_one_day(
        self, client: APIClient, course: Course, clock: Clock, midnight: LastDay
    ) -> None:
        make_pool(course, 1, expires_on=midnight.day)
        clock.ticks, clock.now = [clock.now], midnight.over
        [row] = summary()
        assert row["remaining"] + row["expired"] == 1

    def test_it_redeems_by_the_one_moment_at_which_it_began(
        self, client: APIClient, course: Course, clock: Clock, midnight: LastDay
    ) -> None:
        [voucher] = make_pool(course, 1, expires_on=midnight.day)
        began = clock.now
        clock.ticks, clock.now = [clock.now], midnight.over
        redemption = redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))
        assert redemption.redeemed_at == began

    def test_it_does_not_issue_what_expired_while_its_lock_was_waited_for(
        self, course: Course, clock: Clock, midnight: LastDay
    ) -> None:
        make_pool(course, 1, expires_on=midnight.day)
        clock.ticks, clock.now = [clock.now], midnight.over
        assert Voucher.objects.lock_next_waiting(course) is None

    def test_it_answers_the_same_redemption_alike_on_the_day_after(
        self, client: APIClient, course: Course, clock: Clock, midnight: LastDay
    ) -> None:
        [voucher] = make_pool(course, 1, expires_on=midnight.day)
        assert redeem(client, voucher, key="one") == (200, "redeemed")
        clock.now = midnight.over
        assert redeem(client, voucher, key="one") == (200, "redeemed")
        assert redeem(client, voucher, key="two") == (409, "already_redeemed")


class TestTheSummarysETag:
    def test_it_is_another_one_once_the_sums_are(
        self, client: APIClient, course: Course, clock: Clock, midnight: LastDay
    ) -> None:
        make_pool(course, 1, expires_on=midnight.day)
        held = {"If-None-Match": client.get(SUMMARY)["ETag"]}
        assert client.get(SUMMARY, headers=held).status_code == 304
        clock.now = midnight.over
        after = client.get(SUMMARY, headers=held)
        assert (after.status_code, after.json()[0]["remaining"]) == (200, 0)

    def test_it_is_the_same_after_a_midnight_at_which_nothing_expired(
        self, client: APIClient, course: Course, clock: Clock, midnight: LastDay
    ) -> None:
        make_pool(course, 1, expires_on=midnight.tomorrow)
        held = {"If-None-Match": client.get(SUMMARY)["ETag"]}
        clock.now = midnight.over
        assert client.get(SUMMARY, headers=held).status_code == 304


class TestTheOrder:
    def test_it_is_soonest_expiry_first_then_upload(self, course: Course, midnight: LastDay) -> None:
        def code(name: str, expires_on: dt.date | None, position: int) -> None:
            make_pool(course, 1, code=name, expires_on=expires_on, position=position)

        # Not stored in the order of upload: an import sorts by code.
        code("7-NEVER", None, 2)
        code("6-NEVER", None, 1)
        code("5-LATE", midnight.day + dt.timedelta(days=9), 3)
        code("4-SOON", midnight.tomorrow, 8)
        code("3-SOON", midnight.tomorrow, 5)
        code("2-SOON", midnight.tomorrow, 4)
        code("0-PAST", midnight.yesterday, 6)
        code("1-TODAY", midnight.day, 7)
        issued = [issue_to(course, f"{n}@example.com").voucher for n in range(8)]
        assert [voucher.code[0] if voucher else "" for voucher in issued] == ["1", "2", "3", "4", "5", "6", "7", ""]

    def test_it_is_the_same_for_those_who_waited(self, course: Course, midnight: LastDay) -> None:
        waiting = [issue_to(course, f"{n}@example.com") for n in range(3)]
        make_pool(course, 1, code="NEVER")
        make_pool(course, 1, code="LATER", expires_on=midnight.tomorrow)
        make_pool(course, 1, code="TODAY", expires_on=midnight.day)
        make_pool(course, 1, code="PAST", expires_on=midnight.yesterday)
        sweep_waiting()
        filled = [Issuance.objects.select_related("voucher").get(pk=issuance.pk) for issuance in waiting]
        assert [row.voucher.code if row.voucher else "" for row in filled] == ["TODAY", "LATER", "NEVER"]


class TestTheQueue:
    def test_it_waits_beside_a_pool_of_expired_codes(
        self, client: APIClient, course: Course, midnight: LastDay
    ) -> None:
        make_pool(course, 3, expires_on=midnight.yesterday)
        assert ask(client, "ann@example.com") == (202, "waiting")
        assert sweep_waiting() == 0
        client.post(UPLOAD, {"courseId": "JS101", "vouchers": ["AAAA-1"]}, format="json")
        assert ask(client, "ann@example.com") == (200, "issued")

    def test_it_is_not_filled_by_a_minimum_that_was_raised_meanwhile(self, course: Course) -> None:
        issue_to(course)
        make_pool(course, 1, expires_on=timezone.localdate() + dt.timedelta(days=5))
        Course.objects.update(minimum_validity_days=30)

        assert fill_waiting(course) == 0  # as an import does, with the course as it was when it began

    def test_it_is_filled_once_the_minimum_is_lowered(
        self, client: APIClient, course: Course, midnight: LastDay
    ) -> None:
        Course.objects.update(minimum_validity_days=2)
        [short] = make_pool(course, 1, expires_on=midnight.tomorrow)
        assert ask(client, "ann@example.com") == (202, "waiting")
        assert sweep_waiting() == 0
        Course.objects.update(minimum_validity_days=1)
        assert sweep_waiting() == 1
        assert Issuance.objects.get().voucher == short


class TestTheMinimum:
    def test_it_counts_at_once_when_staff_raise_it(self, client: APIClient, course: Course, midnight: LastDay) -> None:
        make_pool(course, 1, expires_on=midnight.day)
        make_pool(course, 2, expires_on=midnight.tomorrow)
        assert counts(client) == {"total": 3, "issued": 0, "remaining": 3, "expired": 0}
        form = {"name": course.name, "currency": "usd", "redemption": "bearer", "minimum_validity_days": 1}
        form["reveal"] = "email"
        saved = log_in("view_course", "change_course").post("/admin/courses/course/JS101/change/", form)
        assert saved.status_code == 302
        assert counts(client) == {"total": 2, "issued": 0, "remaining": 2, "expired": 0}
        Course.objects.update(minimum_validity_days=2)
        assert ask(client, "ann@example.com") == (202, "waiting")

    def test_it_does_not_keep_a_code_from_being_redeemed(
        self, client: APIClient, course: Course, midnight: LastDay
    ) -> None:
        Course.objects.update(minimum_validity_days=30)
        [short] = make_pool(course, 1, expires_on=midnight.day)
        assert redeem(client, short) == (200, "redeemed")
        assert counts(client) == {"total": 1, "issued": 1, "remaining": 0, "expired": 0}
