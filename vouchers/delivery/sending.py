"""Sending: takes what is due from the outbox, offers it to the mail server, records what became of it.

No transaction is open while the network is used. What a sender took and never answered for, because it was
killed or cut off, is due again when its lease ends, and is sent again: the same code, the same Message-ID.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence

import requests
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend

from vouchers.delivery import outbox
from vouchers.delivery.messages import OnHold, Pointless, message_of
from vouchers.delivery.trouble import NotConnected, NotSent, Trouble, describe, judge
from vouchers.models import Delivery

logger = logging.getLogger(__name__)

BATCH = 50
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
    connection: BaseEmailBackend = get_connection()
    total = 0
    try:
        while time.monotonic() < deadline and (batch := outbox.claim_due(BATCH)):
            sent, well = _send_batch(connection, batch, deadline)
            total += sent
            if not well:
                break
    finally:
        _close(connection)
    return total


def _send_batch(connection: BaseEmailBackend, batch: Sequence[Delivery], deadline: float) -> tuple[int, bool]:
    """How many were sent, and whether there is any sense in going on."""
    sent = 0
    for place, delivery in enumerate(batch):
        if time.monotonic() >= deadline:
            outbox.release(batch[place:])
            return sent, False
        try:
            provider_id = _arrived(delivery) or _send(connection, delivery)
        except Pointless as reason:
            outbox.withdraw(delivery, str(reason))
        except OnHold as reason:
            outbox.postpone([delivery], str(reason))
        except Exception as error:  # noqa: BLE001  # one email's trouble, a shop's template too, is not the others'
            _log("not sent", delivery, error)
            _close(connection)  # its state is unknown; the next one opens another
            trouble = judge(error)
            if trouble is Trouble.DESK:
                # The others of the batch would only learn the same, each after a time-out of its own.
                outbox.postpone(batch[place:], describe(error))
                return sent, False
            outbox.record_failure(delivery, describe(error), permanent=trouble is Trouble.REFUSED)
        else:
            sent += 1
            if not outbox.record_sent(delivery, provider_id):
                _log("sent after the end of its lease", delivery)
    return sent, True


def _arrived(delivery: Delivery) -> str:
    """The provider's id of what a killed sender had offered to it, where the provider has told of it meanwhile."""
    if delivery.attempts > 1 and delivery.events.exists():
        return delivery.provider_id or delivery.message_id
    return ""


def _send(connection: BaseEmailBackend, delivery: Delivery) -> str:
    """Offers an email to the mail server; returns the provider's id for it, if it gave one.

    Raises `Pointless` and `OnHold`.
    """
    message = message_of(delivery)
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
