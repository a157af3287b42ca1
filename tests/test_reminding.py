"""Reminders of vouchers that are not redeemed yet, and warnings of those about to expire."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core import mail
from django.db import IntegrityError
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from courses.models import Course, Purchase
from tests.factories import CourseFactory, issue_to, make_pool
from tests.racing import DEADLINE, failures, together
from tests.stripe_events import Payment, tell
from vouchers import reminding
from vouchers.delivery.messages import Pointless, message_of
from vouchers.delivery.sending import send_due
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.reminding import queue_reminders, remind_by_day
from vouchers.replacing import replace_voucher
from vouchers.revealing import reveal_url
from vouchers.revoking import revoke_voucher
from vouchers.tombstones import tombstone_of

pytestmark = pytest.mark.django_db
EMAIL = "ann@example.com"
REMIND, WARN = 5, 3  # days


def in_days(days: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(days=days, minutes=1)


def last_day(days: int) -> dt.date:
    return timezone.localdate() + dt.timedelta(days=days)


def queued() -> list[tuple[str, int, str]]:
    """What was queued beside the vouchers' first emails, in that order."""
    news = Delivery.objects.exclude(kind="voucher").order_by("pk")
    return list(news.values_list("kind", "series", "email"))


@pytest.fixture
def reminding_course(course: Course) -> Course:
    """Reminds after 5 days and warns 3 days before the end."""
    course.remind_after_days, course.warn_before_days = REMIND, WARN
    course.save(update_fields=["remind_after_days", "warn_before_days"])
    return course


@pytest.fixture
def issuance(reminding_course: Course) -> Issuance:
    """A voucher that does not expire."""
    make_pool(reminding_course, 1)
    return issue_to(reminding_course, EMAIL)


@pytest.fixture
def expiring(reminding_course: Course) -> Issuance:
    """A voucher whose last day is the tenth after today."""
    make_pool(reminding_course, 1, expires_on=last_day(10))
    return issue_to(reminding_course, EMAIL)


def voucher_of(issuance: Issuance) -> Voucher:
    issuance.refresh_from_db()
    assert issuance.voucher is not None
    return issuance.voucher


class TestReminder:
    def test_it_comes_after_as_many_days_as_the_course_says(self, issuance: Issuance) -> None:
        assert queue_reminders(in_days(REMIND - 0.1)) == 0
        assert queue_reminders(in_days(REMIND)) == 1
        assert queued() == [("reminder", 1, EMAIL)]

    def test_it_comes_once(self, issuance: Issuance) -> None:
        queue_reminders(in_days(REMIND))
        Delivery.objects.update(status="failed")
        assert queue_reminders(in_days(REMIND)) == queue_reminders(in_days(100)) == 0
        assert len(queued()) == 1

    def test_a_course_that_says_nothing_reminds_nobody(self, issuance: Issuance) -> None:
        Course.objects.update(remind_after_days=None)
        assert queue_reminders(in_days(1000)) == 0

    def test_a_course_may_say_so_later(self, course: Course) -> None:
        make_pool(course, 1)
        issue_to(course, EMAIL)
        assert queue_reminders(in_days(30)) == 0
        Course.objects.update(remind_after_days=30)
        assert queue_reminders(in_days(30)) == 1

    def test_it_counts_from_the_code_that_took_the_place_of_another(self, issuance: Issuance) -> None:
        Issuance.objects.update(issued_at=timezone.now() - dt.timedelta(days=30))
        assert queue_reminders(in_days(REMIND - 0.1)) == 0

    def test_who_was_reminded_is_not_reminded_of_the_next_code(self, issuance: Issuance) -> None:
        queue_reminders(in_days(REMIND))
        make_pool(issuance.course, 1)
        replace_voucher(issuance, reason="Stolen", actor="user:7")
        assert queue_reminders(in_days(2 * REMIND)) == 0


class TestWarning:
    @pytest.mark.parametrize(("day", "number"), [(6, 0), (7, 1), (10, 1), (11, 0)])
    def test_it_comes_while_the_end_is_near(self, expiring: Issuance, day: int, number: int) -> None:
        Course.objects.update(remind_after_days=None)
        assert queue_reminders(in_days(day)) == number
        assert queued() == [("expiry", 1, EMAIL)] * number

    def test_the_days_are_those_of_the_shops_time_zone(self, expiring: Issuance, settings: Settings) -> None:
        Course.objects.update(remind_after_days=None)
        settings.TIME_ZONE = "Pacific/Kiritimati"  # UTC+14
        almost = dt.datetime.combine(last_day(10) - dt.timedelta(days=WARN), dt.time(), ZoneInfo(settings.TIME_ZONE))
        Voucher.objects.update(expires_on=almost.date() + dt.timedelta(days=WARN))
        assert queue_reminders(almost.astimezone(dt.UTC) - dt.timedelta(seconds=1)) == 0
        assert queue_reminders(almost.astimezone(dt.UTC)) == 1

    def test_it_comes_once(self, expiring: Issuance) -> None:
        queue_reminders(in_days(8))
        assert queue_reminders(in_days(8)) == queue_reminders(in_days(9)) == 0

    def test_who_has_just_got_the_code_is_not_warned(self, reminding_course: Course) -> None:
        make_pool(reminding_course, 1, expires_on=last_day(2))
        issue_to(reminding_course, EMAIL)
        assert queue_reminders(in_days(0.9)) == 0
        assert queue_reminders(in_days(1)) == 1

    def test_a_code_that_does_not_expire_needs_none(self, issuance: Issuance) -> None:
        Course.objects.update(remind_after_days=None)
        assert queue_reminders(in_days(1000)) == 0

    def test_a_course_that_says_nothing_warns_nobody(self, expiring: Issuance) -> None:
        Course.objects.update(warn_before_days=None, remind_after_days=None)
        assert queue_reminders(in_days(9)) == 0

    def test_a_code_in_the_place_of_another_has_a_warning_of_its_own(self, expiring: Issuance) -> None:
        Course.objects.update(remind_after_days=None)
        queue_reminders(in_days(8))
        make_pool(expiring.course, 1, expires_on=last_day(20))
        replace_voucher(expiring, reason="Stolen", actor="user:7")
        assert queue_reminders(in_days(16)) == 0
        assert queue_reminders(in_days(18)) == 1
        assert queue_reminders(in_days(18)) == 0
        assert queued() == [("expiry", 1, EMAIL), ("expiry", 2, EMAIL)]


class TestBoth:
    def test_where_both_are_due_only_the_warning_goes(self, expiring: Issuance) -> None:
        assert queue_reminders(in_days(8)) == 1
        assert queue_reminders(in_days(9)) == 0
        assert queued() == [("expiry", 1, EMAIL)]

    def test_one_after_the_other_both_go(self, expiring: Issuance) -> None:
        assert queue_reminders(in_days(REMIND)) == 1
        assert queue_reminders(in_days(8)) == 1
        assert queued() == [("reminder", 1, EMAIL), ("expiry", 1, EMAIL)]


def redeem(voucher: Voucher) -> None:
    redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))


def complain(voucher: Voucher) -> None:
    Delivery.objects.update(fate="complained", fate_at=timezone.now())


def complain_about_another(voucher: Voucher) -> None:
    other = CourseFactory.create(id="PY201", warn_before_days=None)
    make_pool(other, 1)
    issue_to(other, EMAIL.upper()).deliveries.update(fate="complained", fate_at=timezone.now())


def bounce(voucher: Voucher) -> None:
    Delivery.objects.update(fate="bounced", fate_at=timezone.now())


def erase(voucher: Voucher) -> None:
    Voucher.objects.filter(status="issued").update(issued_to=tombstone_of(EMAIL))
    Issuance.objects.update(email=tombstone_of(EMAIL))


class TestNobodyElse:
    @pytest.mark.parametrize(
        "deed",
        [
            redeem,
            lambda voucher: revoke_voucher(voucher, reason="Refunded"),
            lambda voucher: Voucher.objects.update(held_since=timezone.now()),
            lambda voucher: Voucher.objects.update(expires_on=last_day(7)),  # and it is the eighth day
            complain,
            complain_about_another,
            bounce,
            erase,
        ],
    )
    def test_it_leaves_alone_who_has_nothing_from_it(
        self, expiring: Issuance, deed: Callable[[Voucher], object]
    ) -> None:
        deed(voucher_of(expiring))
        assert queue_reminders(in_days(8)) == 0
        assert queued() == []

    def test_who_waits_is_not_reminded(self, reminding_course: Course) -> None:
        issue_to(reminding_course, EMAIL)
        assert queue_reminders(in_days(1000)) == 0

    def test_somebody_elses_complaint_does_not_count(self, issuance: Issuance) -> None:
        make_pool(issuance.course, 1)
        issue_to(issuance.course, "bob@example.com").deliveries.update(fate="complained", fate_at=timezone.now())
        queue_reminders(in_days(REMIND))
        assert queued() == [("reminder", 1, EMAIL)]


class TestMany:
    def test_it_goes_on_until_all_are_queued(
        self, reminding_course: Course, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
    ) -> None:
        monkeypatch.setattr(reminding, "CHUNK", 3)
        make_pool(reminding_course, 7)
        emails = [f"{n}@example.com" for n in range(7)]
        for email in emails:
            issue_to(reminding_course, email)
        # Nobody complained, nothing undelivered, nobody to be warned; 3 + 3 + 1 chosen, stored and counted; none left.
        with django_assert_num_queries(13):
            assert queue_reminders(in_days(REMIND)) == 7
        assert [email for _, _, email in queued()] == emails

    def test_it_asks_four_times_where_nothing_is_due(
        self, issuance: Issuance, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        queue_reminders(in_days(REMIND))
        with django_assert_num_queries(4):
            assert queue_reminders(in_days(REMIND)) == 0


class TestByDay:
    @pytest.mark.parametrize(
        ("time", "number"), [("07:59", 0), ("08:00", 1), ("19:59", 1), ("20:00", 0), ("00:00", 0), ("23:59", 0)]
    )
    def test_nobody_is_woken(self, issuance: Issuance, settings: Settings, time: str, number: int) -> None:
        settings.TIME_ZONE = "America/New_York"
        day = timezone.localdate() + dt.timedelta(days=REMIND + 2)
        now = dt.datetime.combine(day, dt.time.fromisoformat(time), ZoneInfo(settings.TIME_ZONE))
        assert remind_by_day(now.astimezone(dt.UTC)) == number
        assert len(queued()) == number


class TestEmails:
    def bodies(self, kind: str) -> tuple[str, str, str]:
        """Subject, text and HTML."""
        message = message_of(Delivery.objects.get(kind=kind))
        ((html, _),) = message.alternatives
        return str(message.subject), str(message.body), re.sub("</?strong>", "", str(html))

    @pytest.mark.parametrize(("kind", "day"), [("reminder", REMIND), ("expiry", 8)])
    def test_it_says_why_it_comes_and_until_when_the_code_is_valid(
        self, expiring: Issuance, kind: str, day: int, settings: Settings
    ) -> None:
        voucher = voucher_of(expiring)
        queue_reminders(in_days(day))
        subject, text, html = self.bodies(kind)
        got = timezone.localtime(voucher.issued_at).strftime("%-d %B %Y")
        end = last_day(10).strftime("%-d %B %Y")
        assert "JavaScript Basics" in subject
        for body in (text, html):
            assert f"on {got} you got a voucher for JavaScript Basics. It has not been redeemed yet" in body
            assert f"It is valid until the end of {end} (UTC)." in body
            assert voucher.code in body
            assert "/courses/JS101/checkout" in body
            assert "/vouchers/" not in body

    @pytest.mark.parametrize(("kind", "day"), [("reminder", REMIND), ("expiry", 8)])
    def test_it_carries_the_link_where_the_course_wants_one(self, expiring: Issuance, kind: str, day: int) -> None:
        Course.objects.update(reveal="link")
        queue_reminders(in_days(day))
        _, text, html = self.bodies(kind)
        for body in (text, html):
            assert reveal_url(expiring) in body
            assert voucher_of(expiring).code not in body
        assert not Delivery.objects.get(kind=kind).carries_code

    def test_a_reminder_says_nothing_of_an_end_where_there_is_none(self, issuance: Issuance) -> None:
        queue_reminders(in_days(REMIND))
        assert not any("valid until" in part for part in self.bodies("reminder"))

    def test_names_are_text_in_html_and_as_they_are_elsewhere(self, issuance: Issuance) -> None:
        Course.objects.update(name="C & <b>bold</b>")
        queue_reminders(in_days(REMIND))
        subject, text, html = self.bodies("reminder")
        assert "C & <b>bold</b>" in subject
        assert "C & <b>bold</b>" in text
        assert "<b>bold" not in html

    def test_it_links_to_the_purchase(self, reminding_course: Course) -> None:
        Course.objects.update(price=49)
        make_pool(reminding_course, 1)
        tell(Payment().completed())
        queue_reminders(in_days(REMIND))
        assert f"/purchases/{Purchase.objects.get().token}" in self.bodies("reminder")[1]

    def test_redeemed_meanwhile_it_is_not_sent(self, issuance: Issuance) -> None:
        send_due()
        queue_reminders(in_days(REMIND))
        redeem(voucher_of(issuance))
        with pytest.raises(Pointless):
            message_of(Delivery.objects.get(kind="reminder"))
        assert send_due() == 0
        reminder = Delivery.objects.get(kind="reminder")
        assert (reminder.status, reminder.last_error) == ("failed", "Not sent: the voucher is redeemed.")
        assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def queue_at_once(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """Two workers have chosen the same 20 before either has queued one."""
        make_pool(course, 20)
        for n in range(20):
            issue_to(course, f"{n}@example.com")
        both_chose = threading.Barrier(2, timeout=DEADLINE)
        insert = reminding._insert

        def wait_and_insert(deliveries: list[Delivery]) -> int:
            both_chose.wait()
            return insert(deliveries)

        monkeypatch.setattr(reminding, "_insert", wait_and_insert)
        return together(2, lambda n: queue_reminders(in_days(REMIND)))

    def test_two_workers_queue_each_email_once(self, reminding_course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        results = self.queue_at_once(reminding_course, monkeypatch)
        assert not failures(results)
        assert sum(results) == len(queued()) == 20

    def test_control_without_the_constraints_leave_the_slower_one_fails(
        self, reminding_course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def insert(deliveries: list[Delivery]) -> int:
            return len(Delivery.objects.bulk_create(deliveries))

        monkeypatch.setattr(reminding, "_insert", insert)
        results = self.queue_at_once(reminding_course, monkeypatch)
        # Both went to queue all of them; the database refused the second.
        assert [type(failure) for failure in failures(results)] == [IntegrityError]
