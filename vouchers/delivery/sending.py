"""Sending: takes what is due from the outbox, offers it to the mail server, records what became of it.

No transaction is open while the network is used. What a sender took and never answered for, because it was
killed or cut off, is due again when its lease ends, and is sent again: the same code, the same Message-ID.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import requests
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connections

from vouchers.delivery import outbox
from vouchers.delivery.messages import OnHold, Pointless, compose, look_up
from vouchers.delivery.trouble import NotConnected, NotSent, Trouble, describe, judge
from vouchers.models import Delivery, Issuance

logger = logging.getLogger(__name__)

# Few emails need one connection only, and a mail server that is away is found out once.
FEW = 10
BATCH = 25
# At once; some mail servers take no more than three from one customer.
CONNECTIONS = 3
# Seconds. What is known of an email when it is offered is no older.
KNOWN_FOR = 0.25
# Seconds. When an email is begun, what was sent longer ago is recorded; where the mail server takes longer than that
# for one, each is recorded at once (docs/decisions/0007).
UNRECORDED_FOR = 0.05
# Less than the worker is given to stop (config/management/commands/run.py), so that a batch is given back in order.
SEND_SECONDS = 15.0
# An SMTP dialogue is about a dozen replies, each up to EMAIL_TIMEOUT (10 s) late. So a message that is begun
# in the first half of the lease has its answer before the lease ends.
LATEST_START = outbox.LEASE.total_seconds() / 2


def send_due(limit_seconds: float = SEND_SECONDS) -> int:
    """Sends what is due, until nothing is or the time is up; returns how many emails were sent.

    Returns early where the mail server is away or wants none of us. Any number of these may run at once.
    """
    deadline = time.monotonic() + min(limit_seconds, LATEST_START)
    with Sender(deadline) as sender:
        if not sender.send_some(FEW):
            return sender.sent
        with ThreadPoolExecutor(CONNECTIONS - 1, "sender") as threads:
            helpers = [threads.submit(_help, deadline) for _ in range(CONNECTIONS - 1)]
            sender.send_all()
        return sender.sent + sum(helper.result() for helper in helpers)


def _help(deadline: float) -> int:
    """In a thread, with connections of its own to the mail server and the database."""
    try:
        with Sender(deadline) as sender:
            sender.send_all()
            return sender.sent
    finally:
        connections.close_all()


class Sender:
    """Sends over one connection, one email after the other, until nothing is due or the deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.connection: BaseEmailBackend = get_connection()
        self.sent = 0
        self._record = Record()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        _close(self.connection)

    def send_all(self) -> None:
        while self.send_some(BATCH):
            pass

    def send_some(self, limit: int) -> bool:
        """Sends up to `limit` of what is due; returns whether there is more, and any sense in going on."""
        if time.monotonic() >= self.deadline:
            return False
        batch, ahead = outbox.claim_due(limit), Ahead()
        try:
            well = all(self._send_next(batch[place:], ahead) for place in range(len(batch)))
        finally:
            self._record.write()
        return well and len(batch) == limit

    def _send_next(self, rest: Sequence[Delivery], ahead: Ahead) -> bool:
        """Sends the first of what is left of a batch; False where that is given back."""
        delivery, began = rest[0], time.monotonic()
        if began >= self.deadline:
            outbox.release(rest)
            return False
        try:
            provider_id = _arrived(delivery) or _offer(self.connection, delivery, ahead.compose(rest))
        except Pointless as reason:
            outbox.withdraw(delivery, str(reason))
        except OnHold as reason:
            outbox.postpone([delivery], str(reason))
        except Exception as error:  # noqa: BLE001  # one email's trouble, a shop's template too, is not the others'
            return self._cope(error, rest)
        else:
            self.sent += 1
            self._record.note(delivery, provider_id, began)
        return True

    def _cope(self, error: Exception, rest: Sequence[Delivery]) -> bool:
        _log("not sent", rest[0], error)
        _close(self.connection)  # its state is unknown; the next one opens another
        trouble = judge(error)
        if trouble is Trouble.DESK:
            # The others of the batch would only learn the same, each after a time-out of its own.
            outbox.postpone(rest, describe(error))
            return False
        outbox.record_failure(rest[0], describe(error), permanent=trouble is Trouble.REFUSED)
        return True


class Ahead:
    """What the emails of a batch are about: looked up for all that are left of it at once, and again after a moment."""

    def __init__(self) -> None:
        self._issuances: dict[int, Issuance] = {}
        self._until = -math.inf

    def compose(self, rest: Sequence[Delivery]) -> EmailMultiAlternatives:
        """The email of the first of what is left. Raises `Pointless` and `OnHold`."""
        now = time.monotonic()
        if now >= self._until:
            self._issuances, self._until = look_up(rest), now + KNOWN_FOR
        return compose(rest[0], self._issuances)


class Record:
    """What was sent and is not recorded yet: of the last moment only."""

    def __init__(self) -> None:
        self._sent: dict[Delivery, str] = {}
        self._since = 0.0

    def note(self, delivery: Delivery, provider_id: str, began: float) -> None:
        if not self._sent:
            self._since = began
        self._sent[delivery] = provider_id
        if time.monotonic() - self._since >= UNRECORDED_FOR:
            self.write()

    def write(self) -> None:
        if not self._sent:
            return
        ours = outbox.record_sent(self._sent)
        sent, self._sent = self._sent, {}  # not before: what fails is tried once more at the end of the batch
        for delivery in sent:
            if delivery.pk not in ours:
                _log("sent after the end of its lease", delivery)


def _arrived(delivery: Delivery) -> str:
    """The provider's id of what a killed sender had offered to it, where the provider has told of it meanwhile."""
    if delivery.attempts > 1 and delivery.events.exists():
        return delivery.provider_id or delivery.message_id
    return ""


def _offer(connection: BaseEmailBackend, delivery: Delivery, message: EmailMultiAlternatives) -> str:
    """Offers an email to the mail server; returns the provider's id for it, if it gave one."""
    try:
        connection.open()
    except OSError as error:
        raise NotConnected(describe(error)) from error
    session = getattr(connection, "session", None)
    if isinstance(session, requests.Session):
        # Resend keeps a call from being carried out twice by this; other providers ignore the header.
        session.headers["Idempotency-Key"] = delivery.message_id.strip("<>")
    sent = connection.send_messages([message])
    status = getattr(message, "anymail_status", None)
    if not sent or (status and status.status == {"failed"}):
        raise NotSent("The email backend did not send it.")
    return str(status.message_id) if status and status.message_id is not None else ""


def _close(connection: BaseEmailBackend) -> None:
    # A connection that is broken already cannot be closed politely.
    with contextlib.suppress(OSError):
        connection.close()


def _log(what: str, delivery: Delivery, error: Exception | None = None) -> None:
    # The error's name only: a server's reply may quote the address, a template's error the code.
    event: dict[str, object] = {"delivery": delivery.pk, "attempt": delivery.attempts}
    if error:
        event["error"] = type(error).__name__
    logger.warning("Email %s", what, extra={"event": event})
