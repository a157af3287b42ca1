"""How a sender sends many: what it asks of the database, what it leaves open meanwhile, over how many connections."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from email.message import Message
from types import SimpleNamespace

import pytest
from django.core.mail import EmailMultiAlternatives
from django.db import OperationalError, connection
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import queue_emails, voucher_of
from tests.racing import wait_until
from tests.smtp_server import SmtpServer
from vouchers.delivery import sending
from vouchers.delivery.messages import DeliveryMessage
from vouchers.delivery.outbox import claim_due, record_sent
from vouchers.delivery.sending import BATCH, CONNECTIONS, FEW, KNOWN_FOR, UNRECORDED_FOR, send_due
from vouchers.models import Delivery, Voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
MANY = FEW + 3 * BATCH


class Clock(SimpleNamespace):
    """Goes on by `step` seconds at every look at it, and each time does something first."""

    def __init__(self, step: float, deed: Callable[[], object] = lambda: None) -> None:
        times = itertools.count(step=step)
        super().__init__(monotonic=lambda: (deed(), next(times))[1])


def addresses(number: int) -> list[str]:
    return [f"buyer{n}@example.com" for n in range(number)]


# What it asks the database ----------------------------------------------------------------------------


def test_it_asks_once_where_nothing_is_due(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        assert send_due() == 0


@pytest.mark.parametrize("number", [1, 8])
def test_it_claims_looks_up_and_records_all_at_once(
    smtp: SmtpServer,
    course: Course,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    queue_emails(course, *addresses(number))
    monkeypatch.setattr(sending, "time", Clock(0))

    with django_assert_num_queries(3):
        assert send_due() == number

    assert not Delivery.objects.exclude(status=Delivery.Status.SENT, attempts=1).exists()


def test_it_records_the_id_of_each(course: Course) -> None:
    ann, bob = queue_emails(course, "ann@example.com", "bob@example.com")

    assert record_sent({delivery: f"of {delivery.email}" for delivery in claim_due(10)}) == {ann.pk, bob.pk}

    assert dict(Delivery.objects.values_list("email", "provider_id")) == {
        "ann@example.com": "of ann@example.com",
        "bob@example.com": "of bob@example.com",
    }


# How old what it knows may be -------------------------------------------------------------------------


def revoke_after_the_first(smtp: SmtpServer, course: Course) -> Callable[[], None]:
    _, bob = queue_emails(course, "ann@example.com", "bob@example.com")

    def revoke() -> None:
        if smtp.received and Voucher.objects.filter(pk=voucher_of(bob).pk, status=Voucher.Status.ISSUED).exists():
            revoke_voucher(voucher_of(bob), reason="refunded")

    return revoke


def test_it_looks_again_after_a_moment(smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "time", Clock(KNOWN_FOR, revoke_after_the_first(smtp, course)))

    assert send_due(limit_seconds=100) == 1

    assert smtp.recipients == ["ann@example.com"]
    assert Delivery.objects.get(email="bob@example.com").last_error == "Not sent: the voucher is revoked."


def test_control_within_a_moment_it_does_not(smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "time", Clock(0, revoke_after_the_first(smtp, course)))

    assert send_due(limit_seconds=100) == 2


# What is not recorded yet -----------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "most"), [(UNRECORDED_FOR, 1), (UNRECORDED_FOR / 10, 4), (0, 8)])
def test_it_leaves_unrecorded_what_was_sent_within_a_moment_at_most(
    smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch, step: float, most: int
) -> None:
    queue_emails(course, *addresses(8))
    unrecorded = [0]

    def look() -> None:
        recorded = Delivery.objects.filter(status=Delivery.Status.SENT).count()
        unrecorded.append(len(smtp.received) - recorded)

    monkeypatch.setattr(sending, "time", Clock(step, look))
    assert send_due(limit_seconds=100) == 8

    assert max(unrecorded) == most
    assert not Delivery.objects.exclude(status=Delivery.Status.SENT).exists()


def test_it_records_once_more_what_could_not_be_recorded(
    smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(course, *addresses(3))
    monkeypatch.setattr(sending, "time", Clock(UNRECORDED_FOR))
    troubles = [OperationalError("gone for a moment")]

    def fail_once(execute: Callable[..., object], sql: str, *rest: object) -> object:
        if "record emails as sent" in sql and troubles:
            raise troubles.pop()
        return execute(sql, *rest)

    with pytest.raises(OperationalError), connection.execute_wrapper(fail_once):
        send_due()

    assert len(smtp.received) == Delivery.objects.filter(status=Delivery.Status.SENT).count() == 1


def test_it_records_what_it_sent_before_something_ended_it(
    smtp: SmtpServer, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = queue_emails(course, "ann@example.com", "bob@example.com")

    def interrupt() -> None:
        if smtp.received:
            raise KeyboardInterrupt

    monkeypatch.setattr(sending, "time", Clock(0, interrupt))
    with pytest.raises(KeyboardInterrupt):
        send_due()

    assert dict(Delivery.objects.values_list("pk", "status")) == {
        ann.pk: Delivery.Status.SENT,
        bob.pk: Delivery.Status.SENDING,
    }


# Over how many connections ----------------------------------------------------------------------------


def sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_it_sends_many_over_several_connections_and_leaves_none_open(smtp: SmtpServer, course: Course) -> None:
    queue_emails(course, *addresses(MANY))
    smtp.answer("DATA", "250 OK", seconds=0.005)
    before = sessions()

    assert send_due() == MANY

    assert len(smtp.connections) == CONNECTIONS
    assert sorted(smtp.recipients) == sorted(addresses(MANY))
    assert {received.connection for received in smtp.received[:FEW]} == {0}
    assert not Delivery.objects.exclude(status=Delivery.Status.SENT, attempts=1).exists()
    wait_until(lambda: sessions() == before)


@pytest.mark.django_db(transaction=True)
def test_it_finds_out_once_that_the_server_is_away(smtp: SmtpServer, course: Course) -> None:
    queue_emails(course, *addresses(MANY))
    smtp.answer("MAIL", "553 5.7.1 Not your address")

    assert send_due() == 0

    assert len(smtp.connections) == 1
    assert Delivery.objects.filter(last_error="").count() == MANY - FEW


# How a message is written down ------------------------------------------------------------------------

# "Subject: " and these are a line of 77, 78 and 79 characters, the last one too long.
FULL_LINES = [f"{'so ' * 22}{'x' * number}" for number in (2, 3, 4)]


def written(kind: type[EmailMultiAlternatives], subject: str, to: str) -> bytes:
    headers = {"Message-ID": "<1@shop.example>", "Date": "Wed, 25 Nov 2026 18:47:55 -0000"}
    message = kind(subject, "Hello,\n\nFrom us\n.\n", "Café <shop@shop.example>", [to], headers=headers)
    message.attach_alternative(f"<p>{subject}</p>{'x' * 1200}\n", "text/html")
    message.__dict__["metadata"] = {"delivery": "1"}
    whole: Message = message.message()
    whole.set_boundary("=_1")
    return bytes(whole.as_bytes())


@pytest.mark.parametrize("to", ["ann@example.com", "änn@exämple.com", f"Ann <{'a' * 60}@{'b' * 60}.example.com>"])
@pytest.mark.parametrize("subject", ["Your voucher", "Ihr Gutschein für Käse", "x" * 200, *FULL_LINES])
def test_a_message_is_written_as_any_other(subject: str, to: str) -> None:
    assert written(DeliveryMessage, subject, to) == written(EmailMultiAlternatives, subject, to)
