"""Sending to a real SMTP server, which is not always a kind one."""

from __future__ import annotations

import datetime as dt
import logging
import smtplib
from types import SimpleNamespace

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from courses.models import Course
from tests.factories import queue_emails, voucher_of
from tests.smtp_server import DROP, SmtpServer
from vouchers.delivery import outbox, sending
from vouchers.delivery.outbox import BACKOFF, claim_due, record_failure, record_sent
from vouchers.delivery.sending import send_due
from vouchers.delivery.trouble import Trouble, judge
from vouchers.models import Delivery, DeliveryEvent
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db


def make_due() -> None:
    Delivery.objects.filter(status__in=["queued", "sending"]).update(due_at=Now())


def waits(delivery: Delivery) -> dt.timedelta:
    """How far off the next attempt is, by the database's clock."""
    now = Delivery.objects.annotate(now=Now()).values_list("now", flat=True).get(pk=delivery.pk)
    delivery.refresh_from_db()
    return delivery.due_at - now


def code_of(delivery: Delivery) -> str:
    return voucher_of(delivery).code


def test_it_sends_each_voucher_to_its_holder_alone(smtp: SmtpServer, course: Course) -> None:
    deliveries = queue_emails(course, "ann@example.com", "bob@example.com", "cid@example.com")

    assert send_due() == 3

    assert len(smtp.connections) == 1
    assert len(smtp.received) == 3
    for delivery, received in zip(deliveries, smtp.received, strict=True):
        delivery.refresh_from_db()
        assert delivery.status == Delivery.Status.SENT
        assert delivery.sent_at is not None
        assert (delivery.attempts, delivery.last_error) == (1, "")
        assert received.recipients == [delivery.email]
        assert received.message["To"] == delivery.email
        assert received.message["Cc"] is None
        assert received.message["From"] == "Course Shop <vouchers@shop.example>"
        assert received.message["Message-ID"] == delivery.message_id
        assert received.message["Subject"] == "Your voucher for JavaScript Basics"
        assert received.message["Auto-Submitted"] == "auto-generated"
        assert code_of(delivery) in received.text.splitlines()[4]
        assert f">{code_of(delivery)}</td>" in received.html
    assert send_due() == 0
    assert len(smtp.received) == 3


def test_it_does_not_connect_when_nothing_is_due(smtp: SmtpServer) -> None:
    assert send_due() == 0
    assert smtp.connections == []


def test_it_gives_up_a_refused_recipient_at_once_and_goes_on(smtp: SmtpServer, course: Course) -> None:
    _, bob, _ = queue_emails(course, "ann@example.com", "bob@example.com", "cid@example.com")
    smtp.answer("RCPT", "550 5.1.1 No such user <bob@example.com>", to="bob@example.com")

    assert send_due() == 2

    bob.refresh_from_db()
    assert (bob.status, bob.attempts) == (Delivery.Status.FAILED, 1)
    assert bob.last_error == "550 5.1.1 No such user <bob@example.com>"
    assert smtp.recipients == ["ann@example.com", "cid@example.com"]


def test_it_gives_up_a_message_that_is_refused_for_good(smtp: SmtpServer, course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    smtp.answer("DATA", "554 5.6.0 We do not like this message")

    assert send_due() == 0

    ann.refresh_from_db()
    assert ann.status == Delivery.Status.FAILED
    assert ann.last_error == "554 5.6.0 We do not like this message"


def test_it_tries_again_later_after_a_temporary_refusal(smtp: SmtpServer, course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    smtp.answer("RCPT", "451 4.7.1 Greylisted", times=1)

    assert send_due() == 0
    assert BACKOFF[0] - dt.timedelta(seconds=3) < waits(ann) <= BACKOFF[0]
    assert ann.status == Delivery.Status.QUEUED
    assert ann.last_error == "451 4.7.1 Greylisted"
    assert send_due() == 0

    make_due()
    assert send_due() == 1
    ann.refresh_from_db()
    assert (ann.status, ann.attempts, ann.last_error) == (Delivery.Status.SENT, 2, "")


def test_its_waits_grow_for_a_day_and_end_in_failure(smtp: SmtpServer, course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    smtp.answer("DATA", "452 4.2.2 Mailbox full")

    for expected in BACKOFF:
        assert send_due() == 0
        assert expected - dt.timedelta(seconds=3) < waits(ann) <= expected
        assert ann.status == Delivery.Status.QUEUED
        make_due()
    assert send_due() == 0

    ann.refresh_from_db()
    assert ann.status == Delivery.Status.FAILED
    assert ann.attempts == len(BACKOFF) + 1
    assert ann.last_error == "452 4.2.2 Mailbox full"
    assert sorted(BACKOFF) == BACKOFF
    assert dt.timedelta(hours=24) < sum(BACKOFF, dt.timedelta()) < dt.timedelta(hours=27)


@pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
def test_it_goes_on_after_a_dropped_connection(smtp: SmtpServer, course: Course, stage: str) -> None:
    ann, bob = queue_emails(course, "ann@example.com", "bob@example.com")
    smtp.answer(stage, DROP, times=1)

    assert send_due() == 1

    ann.refresh_from_db()
    assert (ann.status, ann.attempts) == (Delivery.Status.QUEUED, 1)
    assert "SMTPServerDisconnected" in ann.last_error
    assert smtp.recipients == [bob.email]
    assert len(smtp.connections) == 2


def test_it_sends_the_same_email_again_when_the_answer_was_lost(smtp: SmtpServer, course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    smtp.answer("DATA", DROP, times=1)

    assert send_due() == 0
    make_due()
    assert send_due() == 1

    first, second = smtp.received
    assert first.message["Message-ID"] == second.message["Message-ID"] == ann.message_id
    assert first.recipients == second.recipients == ["ann@example.com"]
    assert (first.text, first.html) == (second.text, second.html)
    assert code_of(ann) in second.text
    ann.refresh_from_db()
    assert (ann.status, ann.attempts) == (Delivery.Status.SENT, 2)


def test_it_does_not_wait_for_a_server_that_hangs(smtp: SmtpServer, course: Course, settings: Settings) -> None:
    settings.EMAIL_TIMEOUT = 1.5
    ann, bob = queue_emails(course, "ann@example.com", "bob@example.com")
    smtp.answer("DATA", "250 OK", times=1, seconds=60)

    assert send_due() == 1

    ann.refresh_from_db()
    assert (ann.status, ann.attempts) == (Delivery.Status.QUEUED, 1)
    assert "timed out" in ann.last_error
    bob.refresh_from_db()
    assert bob.status == Delivery.Status.SENT


def test_it_opens_another_connection_when_the_server_limits_one(smtp: SmtpServer, course: Course) -> None:
    queue_emails(course, "ann@example.com", "bob@example.com", "cid@example.com", "dan@example.com")
    smtp.per_connection = 1

    assert send_due() == 2
    make_due()
    assert send_due() == 1
    make_due()
    assert send_due() == 1

    assert sorted(smtp.recipients) == [f"{name}@example.com" for name in ("ann", "bob", "cid", "dan")]


def assert_all_postponed(deliveries: list[Delivery], error: str) -> None:
    for delivery in deliveries:
        assert BACKOFF[0] - dt.timedelta(seconds=3) < waits(delivery) <= BACKOFF[0]
        # Not one attempt: nobody has been shown a code, so a refunded one may still go back to the pool.
        assert (delivery.status, delivery.attempts) == (Delivery.Status.QUEUED, 0)
        assert error in delivery.last_error


def test_it_puts_the_whole_batch_back_when_nobody_answers(smtp: SmtpServer, course: Course, settings: Settings) -> None:
    deliveries = queue_emails(course, "ann@example.com", "bob@example.com")
    right, settings.EMAIL_PORT = settings.EMAIL_PORT, 1

    assert send_due() == 0
    assert_all_postponed(deliveries, "Connection refused")

    settings.EMAIL_PORT = right
    make_due()
    assert send_due() == 2


def test_it_never_gives_up_over_a_wrong_password(smtp: SmtpServer, course: Course, settings: Settings) -> None:
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "shop", "wrong-password"
    deliveries = queue_emails(course, "ann@example.com", "bob@example.com")

    assert send_due() == 0
    assert_all_postponed(deliveries, "535")
    assert len(smtp.connections) == 1
    for _ in range(len(BACKOFF) + 1):
        make_due()
        assert send_due() == 0

    settings.EMAIL_HOST_PASSWORD = "right-password"
    make_due()
    assert send_due() == 2


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("MAIL", "553 5.7.1 Not your address"),
        ("RCPT", "530 5.7.0 Authentication required"),
        ("RCPT", "554 5.7.1 <ann@example.com>: Relay access denied"),
        ("RCPT", "504 5.5.2 <desk>: Helo command rejected: need fully-qualified hostname"),
    ],
)
def test_it_takes_a_refused_sender_for_its_own_trouble(
    smtp: SmtpServer, course: Course, stage: str, reply: str
) -> None:
    deliveries = queue_emails(course, "ann@example.com", "bob@example.com")
    smtp.answer(stage, reply)

    assert send_due() == 0

    assert_all_postponed(deliveries, reply)


def test_it_takes_a_refused_greeting_for_its_own_trouble() -> None:
    assert judge(smtplib.SMTPHeloError(550, b"who are you?")) is Trouble.DESK


def test_its_waits_for_an_absent_server_grow_with_the_age(smtp: SmtpServer, course: Course, settings: Settings) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    settings.EMAIL_PORT = 1
    for age, expected in [(120, 30), (1200, 300), (86_400, 600)]:
        Delivery.objects.update(created_at=Now() - dt.timedelta(seconds=age), due_at=Now())
        assert send_due() == 0
        assert abs(waits(ann).total_seconds() - expected) < 3


def test_it_does_not_send_what_was_revoked_in_the_meantime(smtp: SmtpServer, course: Course) -> None:
    ann, _ = queue_emails(course, "ann@example.com", "bob@example.com")
    revoke_voucher(voucher_of(ann), reason="refunded")

    assert send_due() == 1

    ann.refresh_from_db()
    assert (ann.status, ann.attempts) == (Delivery.Status.FAILED, 0)
    assert ann.last_error == "Not sent: the voucher is revoked."
    assert smtp.recipients == ["bob@example.com"]


def test_it_does_not_send_what_expired_in_the_meantime(smtp: SmtpServer, course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    voucher = voucher_of(ann)
    assert voucher is not None
    voucher.expires_on = dt.date(2020, 1, 1)
    voucher.save(update_fields=["expires_on"])

    assert send_due() == 0

    ann.refresh_from_db()
    assert (ann.status, ann.last_error) == (Delivery.Status.FAILED, "Not sent: the voucher is expired.")
    assert smtp.received == []


def test_it_gives_back_what_it_has_no_time_for(
    smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(course, "ann@example.com", "bob@example.com")
    # The first message takes longer than there is.
    clock = SimpleNamespace(monotonic=lambda: 1000.0 if smtp.received else 0.0)

    with monkeypatch.context() as patch:
        patch.setattr(sending, "time", clock)
        assert send_due(limit_seconds=30) == 1

    bob = Delivery.objects.get(email="bob@example.com")
    assert (bob.status, bob.attempts, bob.last_error) == (Delivery.Status.QUEUED, 0, "")
    assert waits(bob) <= dt.timedelta()
    assert send_due() == 1


def test_it_begins_no_message_in_the_second_half_of_its_lease(
    smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(course, "ann@example.com", "bob@example.com")
    half = outbox.LEASE.total_seconds() / 2
    clock = SimpleNamespace(monotonic=lambda: half if smtp.received else 0.0)
    monkeypatch.setattr(sending, "time", clock)

    assert send_due(limit_seconds=3600) == 1


def test_its_log_lines_name_neither_code_nor_address(
    smtp: SmtpServer, course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    smtp.answer("RCPT", f"451 Greylisted ann@example.com {code_of(ann)}")

    with caplog.at_level(logging.INFO):
        send_due()

    (record,) = (record for record in caplog.records if record.name == "vouchers.delivery.sending")
    assert record.__dict__["event"] == {"delivery": ann.pk, "attempt": 1, "error": "SMTPRecipientsRefused"}
    assert "ann@" not in str(record.__dict__)
    assert code_of(ann) not in str(record.__dict__)


def test_it_takes_over_when_a_lease_ends(smtp: SmtpServer, course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    (first,) = claim_due(10)  # and then this sender is killed

    assert send_due() == 0
    make_due()
    assert send_due() == 1

    ann.refresh_from_db()
    assert (ann.status, ann.attempts) == (Delivery.Status.SENT, 2)
    assert first.due_at > ann.created_at + outbox.LEASE - dt.timedelta(seconds=3)


def test_it_sends_nothing_twice_of_which_the_provider_has_told_meanwhile(smtp: SmtpServer, course: Course) -> None:
    """The sender was killed before it could write down that the provider had it, but the provider speaks for itself."""
    (ann,) = queue_emails(course, "ann@example.com")
    claim_due(10)
    DeliveryEvent.objects.create(delivery=ann, provider="Mailgun", key="1", kind="accepted", at=ann.created_at)
    make_due()

    assert send_due() == 1

    ann.refresh_from_db()
    assert (ann.status, ann.provider_id) == (Delivery.Status.SENT, ann.message_id)
    assert smtp.received == []


def test_a_late_answer_does_not_overwrite_the_record_of_the_next_sender(course: Course) -> None:
    (ann,) = queue_emails(course, "ann@example.com")
    (first,) = claim_due(10)
    make_due()
    (second,) = claim_due(10)

    assert not record_failure(first, "too late", permanent=True)
    outbox.release([first])
    outbox.postpone([first], "too late")
    assert not outbox.withdraw(first, "too late")

    ann.refresh_from_db()
    assert (ann.status, ann.attempts, ann.last_error) == (Delivery.Status.SENDING, 2, "")
    assert record_sent({second: "provider-2"}) == {ann.pk}
    assert record_sent({first: "provider-1"}) == set()
    ann.refresh_from_db()
    assert (ann.status, ann.provider_id) == (Delivery.Status.SENT, "provider-2")
