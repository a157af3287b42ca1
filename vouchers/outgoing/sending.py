"""Sending webhooks: takes what is due, posts it signed after Standard Webhooks, records what became of it.

As with emails no transaction is open meanwhile, and what a killed sender took is due again when its lease ends:
receivers get every event at least once, and tell a repeat by its `webhook-id` (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from dataclasses import dataclass

import requests
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook

from vouchers.errors import NotResendable
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.models.outgoing import WebhookMessageQuerySet
from vouchers.outgoing.addresses import PrivateAddress, public_session
from vouchers.outgoing.announcing import forget_receivers

logger = logging.getLogger(__name__)

Status = WebhookMessage.Status
LEASE = dt.timedelta(minutes=5)
# How long to wait after each failed attempt: the schedule of the specification, three days and three hours in all.
HOURS = (0.5, 2, 5, 10, 14, 20, 24)
BACKOFF = [dt.timedelta(seconds=5), dt.timedelta(minutes=5), *(dt.timedelta(hours=hours) for hours in HOURS)]
TIMEOUT = 10  # seconds to connect, and between two bytes of the answer
BATCH = 20
SEND_SECONDS = 15.0
KEEP_SENT = dt.timedelta(days=30)
GONE = 410


@dataclass(frozen=True)
class Answer:
    """`status` is of HTTP; None where there was no answer, and `error` says why."""

    status: int | None
    error: str = ""

    @property
    def is_good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def send_due(limit_seconds: float = SEND_SECONDS) -> int:
    """Sends what is due, until nothing is or the time is up; returns how many were taken by their receivers.

    A receiver that fails once is left alone for the rest of the round: one that hangs must not delay the others.
    """
    deadline = time.monotonic() + limit_seconds
    failing: set[int] = set()
    sent = 0
    with public_session() as session:
        while time.monotonic() < deadline and (batch := _claim(failing)):
            for message in batch:
                if message.receiver_id in failing or time.monotonic() >= deadline:
                    _release(message)
                elif _deliver(session, message):
                    sent += 1
                else:
                    failing.add(message.receiver_id)
    return sent


def replay(message: WebhookMessage) -> None:
    """Sends a message once more, under its own id: it is the same event. Raises `NotResendable` for one on its way."""
    replayed = WebhookMessage.objects.filter(pk=message.pk, status__in=[Status.SENT, Status.FAILED]).update(
        status=Status.QUEUED, due_at=Now(), attempts=0, sent_at=None, last_error=""
    )
    if not replayed:
        raise NotResendable(f"Message {message} is on its way already.")


def forget_sent() -> int:
    """Deletes what was sent a month ago; returns how many."""
    old = WebhookMessage.objects.filter(status=Status.SENT, sent_at__lt=timezone.now() - KEEP_SENT)
    return old.delete()[0]


@transaction.atomic
def _claim(failing: set[int]) -> list[WebhookMessage]:
    """The end of the lease is on the database's clock, and tells this claim from every other one."""
    due = WebhookMessage.objects.due().exclude(receiver__in=failing).select_for_update(skip_locked=True)
    keys = list(due.values_list("pk", flat=True)[:BATCH])
    WebhookMessage.objects.filter(pk__in=keys).update(
        status=Status.SENDING, due_at=Now() + LEASE, attempts=F("attempts") + 1
    )
    return list(WebhookMessage.objects.filter(pk__in=keys).select_related("receiver").order_by("pk"))


def _deliver(session: requests.Session, message: WebhookMessage) -> bool:
    if not message.receiver.active:
        _give_up(message, Answer(None, "Its receiver is not active."))
        return False
    answer = _post(session, message)
    if answer.is_good:
        _still_ours(message).update(status=Status.SENT, sent_at=Now(), last_status=answer.status, last_error="")
        return True
    logger.warning("Webhook not taken", extra={"event": {"message": message.message_id, "status": answer.status}})
    if answer.status == GONE:
        _disable(message.receiver)
    if answer.status == GONE or message.attempts > len(BACKOFF):
        _give_up(message, answer)
    else:
        _still_ours(message).update(
            status=Status.QUEUED,
            due_at=Now() + BACKOFF[message.attempts - 1],
            last_status=answer.status,
            last_error=answer.error,
        )
    return False


def _post(session: requests.Session, message: WebhookMessage) -> Answer:
    """Signed anew at each attempt: a receiver refuses a time that is more than five minutes old."""
    body = json.dumps(message.payload, separators=(",", ":"), ensure_ascii=False)
    now = timezone.now()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "voucher-desk",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(message.receiver.secret).sign(message.message_id, now, body),
    }
    try:
        # Streamed and left unread: what a receiver says beside its status does not matter, however long it is.
        with session.post(
            message.receiver.url,
            body.encode(),
            headers=headers,
            timeout=TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as response:
            return Answer(response.status_code, "" if response.ok else f"Answered {response.status_code}.")
    except PrivateAddress as error:
        return Answer(None, str(error))
    except requests.RequestException as error:
        return Answer(None, f"No answer: {type(error).__name__}")


def _give_up(message: WebhookMessage, answer: Answer) -> None:
    _still_ours(message).update(status=Status.FAILED, last_status=answer.status, last_error=answer.error)


def _release(message: WebhookMessage) -> None:
    """Gives back what was taken and never tried."""
    _still_ours(message).update(status=Status.QUEUED, due_at=Now(), attempts=F("attempts") - 1)


def _disable(receiver: WebhookReceiver) -> None:
    """410 is the specification's word for "tell me nothing more"."""
    reason = "It answered 410 Gone: it wants to be told nothing more."
    WebhookReceiver.objects.filter(pk=receiver.pk).update(active=False, disabled_reason=reason)
    forget_receivers()


def _still_ours(message: WebhookMessage) -> WebhookMessageQuerySet:
    return WebhookMessage.objects.filter(pk=message.pk, status=Status.SENDING, due_at=message.due_at)
