"""Workers killed between the mail server's word and the desk's record of it, round after round: every code arrives, and
what arrives twice is the same email."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now

from courses.models import Course
from tests.email_worker import start_worker
from tests.factories import queue_emails
from tests.racing import DEADLINE, somebody_waits_for_a_lock, wait_until
from tests.smtp_server import SmtpServer
from vouchers.delivery.sending import FEW, send_due
from vouchers.models import Delivery, Voucher

pytestmark = pytest.mark.django_db(transaction=True)

EMAILS_A_ROUND = 3


@dataclass
class Murder:
    """Starts a sender and kills it once the mail server has taken its `number`th message."""

    smtp: SmtpServer
    number: int
    taken: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def before_it_is_told(self) -> None:
        """The server has the message, and its "250" finds nobody."""
        self.smtp.when_taken = self._hold_the_reply
        worker = start_worker(database(), self.smtp.host, self.smtp.port)
        assert self.taken.wait(DEADLINE)
        worker.kill()
        worker.join(DEADLINE)
        self.done.set()

    def before_it_records(self) -> None:
        """The sender has heard "250", and waits to write that down."""
        with psycopg.connect(url()) as keeper:
            self.keeper = keeper
            self.smtp.when_taken = self._lock_the_rows
            worker = start_worker(database(), self.smtp.host, self.smtp.port)
            assert self.taken.wait(DEADLINE)
            wait_until(somebody_waits_for_a_lock)
            worker.kill()
            worker.join(DEADLINE)
            end_waiting_sessions()

    def _is_it(self) -> bool:
        self.count += 1
        return self.count == self.number

    def _hold_the_reply(self) -> None:
        if self._is_it():
            self.taken.set()
            self.done.wait(DEADLINE)

    def _lock_the_rows(self) -> None:
        if self._is_it():
            self.keeper.execute("SELECT id FROM vouchers_delivery FOR UPDATE")
            self.taken.set()


def database() -> str:
    return str(connection.settings_dict["NAME"])


def url() -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{database()}"))


def end_waiting_sessions() -> None:
    """PostgreSQL notices only later that whoever waits there is dead, and would write it down for them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )


def end_leases() -> None:
    Delivery.objects.filter(status=Delivery.Status.SENDING).update(due_at=Now())


@pytest.mark.parametrize("rounds", [10, pytest.param(50, marks=pytest.mark.long)])
def test_every_code_arrives_and_repeats_are_the_same_email(smtp: SmtpServer, course: Course, rounds: int) -> None:
    emails = EMAILS_A_ROUND * rounds
    queue_emails(course, *(f"buyer{n}@example.com" for n in range(emails)))

    for n in range(rounds):
        murder = Murder(smtp, number=1 + n % 3)
        murder.before_it_records() if n % 2 else murder.before_it_is_told()
        end_leases()
    smtp.when_taken = None
    send_due()

    assert not Delivery.objects.exclude(status=Delivery.Status.SENT).exists()
    copies = defaultdict(set)
    for received in smtp.received:
        copies[received.message["Message-ID"]].add((*received.recipients, received.text))
    assert len(copies) == emails
    assert {len(same) for same in copies.values()} == {1}
    # What each killed sender had offered last was offered again, and what else it had not recorded yet.
    assert emails + rounds <= len(smtp.received) <= emails + rounds * FEW
    texts = {recipient: text for same in copies.values() for recipient, text in same}
    assert all(voucher.code in texts[voucher.issued_to] for voucher in Voucher.objects.all())
