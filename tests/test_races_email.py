"""The races of sending, and once more with the guard taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import transaction
from django.db.models.functions import Now

from tests.factories import CourseFactory, queue_emails
from tests.racing import DEADLINE, in_thread, together
from tests.smtp_server import SmtpServer
from vouchers.delivery import outbox, sending
from vouchers.delivery.outbox import claim_due
from vouchers.delivery.sending import send_due
from vouchers.models import Delivery

pytestmark = pytest.mark.django_db(transaction=True)


def claim_without_lock(both_have_read: threading.Barrier) -> Callable[[int], list[Delivery]]:
    """`claim_due` as it would be without its lock: both have read before either has written."""

    def claim(limit: int) -> list[Delivery]:
        due = list(Delivery.objects.filter(status=Delivery.Status.QUEUED)[:limit])
        both_have_read.wait()
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in due]).update(
            status=Delivery.Status.SENDING, due_at=Now() + outbox.LEASE
        )
        return due

    return claim


def test_two_senders_at_once_send_each_email_once(smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "BATCH", 3)
    emails = [f"buyer{n}@example.com" for n in range(30)]
    queue_emails(CourseFactory.create(), *emails)
    smtp.answer("DATA", "250 OK", seconds=0.01)

    sent = together(2, lambda _: send_due())

    assert sum(number for number in sent if isinstance(number, int)) == 30
    assert 0 not in sent
    assert sorted(smtp.recipients) == sorted(emails)
    assert not Delivery.objects.exclude(status=Delivery.Status.SENT, attempts=1).exists()


def test_control_without_the_lock_two_senders_send_the_same_email(
    smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "claim_due", claim_without_lock(threading.Barrier(2, timeout=DEADLINE)))
    queue_emails(CourseFactory.create(), "ann@example.com")

    together(2, lambda _: send_due())

    assert smtp.recipients == ["ann@example.com", "ann@example.com"]


def test_a_sender_passes_by_what_another_is_just_taking() -> None:
    queue_emails(CourseFactory.create(), "ann@example.com", "bob@example.com")

    with transaction.atomic():
        (first,) = claim_due(1)
        others = in_thread(lambda: [delivery.email for delivery in claim_due(10)])()

    assert first.email == "ann@example.com"
    assert others == ["bob@example.com"]
