"""Staff hear of emails that did not arrive: at once of a course's first, then once a day of all since."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core import mail
from django.utils import timezone

from courses.models import Course
from tests.factories import CourseFactory, UserFactory, issue_to, make_pool
from tests.racing import together
from tests.stripe_events import Payment, tell
from vouchers.correcting import correct_address
from vouchers.delivery.alerts import alert_staff, staff_emails
from vouchers.delivery.outbox import claim_due, record_failure
from vouchers.delivery.sending import send_due
from vouchers.models import Delivery, Issuance

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def _somebody_is_told(settings: Any) -> None:
    settings.ALERT_EMAILS = ["desk@shop.example"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def fail(course: Course, email: str) -> Issuance:
    make_pool(course, 1)
    issuance = issue_to(course, email)
    for delivery in claim_due(10):
        record_failure(delivery, f"550 no such user <{email}>", permanent=True)
    return issuance


def a_day_later() -> None:
    yesterday = timezone.now() - DAY
    Delivery.objects.filter(kind="alert").update(created_at=yesterday)
    Delivery.objects.filter(alerted_at__isnull=False).update(alerted_at=yesterday)


def test_it_tells_of_the_first_at_once_with_the_reason_and_where_to_look(course: Course) -> None:
    fail(course, "ann@example.com")

    assert alert_staff() == 1
    send_due()

    (message,) = mail.outbox
    assert message.to == ["desk@shop.example"]
    assert message.subject == "1 voucher email of JS101 did not arrive"
    assert "- a***@example.com: failed (550 no such user <<email>>)" in message.body
    assert "?trouble=JS101" in message.body
    assert "ann@example.com" not in str(message.message())


def test_it_tells_of_each_once(course: Course) -> None:
    fail(course, "ann@example.com")
    assert [alert_staff(), alert_staff()] == [1, 0]
    a_day_later()
    assert alert_staff() == 0


def test_it_collects_what_comes_later_for_the_next_day(course: Course) -> None:
    fail(course, "ann@example.com")
    alert_staff()
    fail(course, "bob@example.com")
    fail(course, "cid@example.com")
    assert alert_staff() == 0

    a_day_later()
    assert alert_staff() == 1
    send_due()

    assert mail.outbox[-1].subject == "3 voucher emails of JS101 did not arrive"


def test_it_tells_of_each_course_by_itself(course: Course) -> None:
    fail(course, "ann@example.com")
    alert_staff()
    fail(CourseFactory.create(id="PY201"), "bob@example.com")
    assert alert_staff() == 1
    assert list(Delivery.objects.filter(kind="alert").values_list("course", flat=True)) == ["PY201", "JS101"]


def test_it_tells_of_a_waiting_buyer_whose_news_did_not_arrive(priced: Course) -> None:
    tell(Payment().completed())
    for delivery in claim_due(10):
        record_failure(delivery, "550 no such user", permanent=True)
    assert alert_staff() == 1


def test_it_is_not_sent_where_all_is_mended_meanwhile(course: Course) -> None:
    issuance = fail(course, "ann@exmaple.com")
    alert_staff()
    correct_address(issuance, email="ann@example.com", actor="tests")

    assert send_due() == 1

    assert [message.to for message in mail.outbox] == [["ann@example.com"]]


def test_an_alert_that_fails_is_no_reason_for_another(course: Course) -> None:
    fail(course, "ann@example.com")
    alert_staff()
    for delivery in claim_due(10):
        record_failure(delivery, "550 no such staff", permanent=True)
    assert alert_staff() == 0


def test_what_an_alert_told_of_that_did_not_arrive_is_told_again_the_next_day(course: Course) -> None:
    fail(course, "ann@example.com")
    alert_staff()
    for delivery in claim_due(10):
        record_failure(delivery, "550 no such staff", permanent=True)
    a_day_later()
    assert [alert_staff(), alert_staff()] == [1, 0]


def test_an_alert_that_was_withdrawn_keeps_no_other_from_being_told_at_once(course: Course) -> None:
    issuance = fail(course, "ann@exmaple.com")
    alert_staff()
    correct_address(issuance, email="ann@example.com", actor="tests")
    send_due()
    fail(course, "bob@example.com")
    assert alert_staff() == 1


def test_it_takes_an_address_once_that_is_named_twice(course: Course, settings: Any) -> None:
    settings.ALERT_EMAILS = ["desk@shop.example", "desk@shop.example"]
    fail(course, "ann@example.com")
    assert alert_staff() == 1
    assert Delivery.objects.filter(kind="alert").count() == 1


def test_it_waits_until_there_is_somebody_to_tell(course: Course, settings: Any) -> None:
    settings.ALERT_EMAILS = []
    fail(course, "ann@example.com")
    assert alert_staff() == 0

    UserFactory.create(email="boss@shop.example")
    assert alert_staff() == 1


def test_it_tells_those_of_staff_who_may_see_deliveries(db: None, settings: Any) -> None:
    settings.ALERT_EMAILS = []
    may_see = Permission.objects.get(codename="view_delivery", content_type__app_label="vouchers")
    group = Group.objects.create(name="support")
    group.permissions.add(may_see)
    UserFactory.create(email="boss@shop.example")
    UserFactory.create(email="group@shop.example", is_superuser=False).groups.add(group)
    UserFactory.create(email="own@shop.example", is_superuser=False).user_permissions.add(may_see)
    UserFactory.create(email="other@shop.example", is_superuser=False)
    UserFactory.create(email="gone@shop.example", is_active=False)
    UserFactory.create(email="")

    assert staff_emails() == ["boss@shop.example", "group@shop.example", "own@shop.example"]


@pytest.mark.django_db(transaction=True)
def test_several_at_once_tell_once(course: Course) -> None:
    fail(course, "ann@example.com")
    assert sorted(together(4, lambda n: alert_staff()), key=str) == [0, 0, 0, 1]
    assert Delivery.objects.filter(kind="alert").count() == 1
