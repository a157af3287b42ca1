"""Sending webhooks: takes what is due, posts it signed after Standard Webhooks, records what became of it.

As with emails no transaction is open meanwhile, and what a killed sender took is due again when its lease ends:
receivers get every event at least once, and tell a repeat by its `webhook-id` (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import requests
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
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
TIMEOUT = 10  # seconds to connect, and for the handshake of TLS; see also `addresses.ANSWER_SECONDS`
# A receiver's turn ends after so many messages or seconds, whichever comes first; then the others have theirs.
TURN = 10
TURN_SECONDS = 3.0
SEND_SECONDS = 15.0
NOT_ACTIVE = "Its receiver is not active."
GONE = 410


@dataclass(frozen=True)
class Answer:
    """`status` is of HTTP; None where there was no answer, and `reason` says why."""

    status: int | None
    reason: str = ""

    @property
    def is_good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def error(self) -> str:
        return self.reason or ("" if self.is_good else f"Answered {self.status}.")


def send_due(limit_seconds: float = SEND_SECONDS) -> int:
    """Sends what is due, until nothing is or the time is up; returns how many were taken by their receivers.

    Receivers take turns, so that one that is slow or has much to be told does not delay the others, and one that
    fails is left alone for the rest of the round.
    """
    deadline = time.monotonic() + limit_seconds
    _give_up_inactive()
    waiting = deque(_waiting_receivers())
    total = 0
    with public_session() as session:
        while waiting and time.monotonic() < deadline:
            receiver = waiting.popleft()
            sent, again = _take_turn(session, receiver, deadline)
            total += sent
            if again:
                waiting.append(receiver)
    return total


def replay(message: WebhookMessage) -> None:
    """Sends a message once more, under its own id: it is the same event. Raises `NotResendable` for one on its way."""
    replayed = WebhookMessage.objects.filter(pk=message.pk, status__in=[Status.SENT, Status.FAILED]).update(
        status=Status.QUEUED, due_at=Now(), attempts=0, sent_at=None, last_error=""
    )
    if not replayed:
        raise NotResendable(f"Message {message} is on its way already.")


def _waiting_receivers() -> QuerySet[WebhookReceiver, int]:
    """Who has something due, in no order: rounds end, and it must not always be the same who come last."""
    due = WebhookMessage.objects.due().filter(receiver=OuterRef("pk"))
    return WebhookReceiver.objects.filter(Exists(due)).order_by("?").values_list("pk", flat=True)


def _take_turn(session: requests.Session, receiver: int, deadline: float) -> tuple[int, bool]:
    """How many messages the receiver took, and whether it is to have another turn."""
    ends = min(deadline, time.monotonic() + TURN_SECONDS)
    batch = _claim(receiver)
    for place, message in enumerate(batch):
        if time.monotonic() >= ends:
            _release(batch[place:])
            return place, True
        if not _deliver(session, message):
            _release(batch[place + 1 :])
            return place, False
    return len(batch), len(batch) == TURN


@transaction.atomic
def _claim(receiver: int) -> list[WebhookMessage]:
    """The end of the lease is on the database's clock, and tells this claim from every other one."""
    due = WebhookMessage.objects.due().filter(receiver=receiver).select_for_update(skip_locked=True)
    keys = list(due.values_list("pk", flat=True)[:TURN])
    WebhookMessage.objects.filter(pk__in=keys).update(
        status=Status.SENDING, due_at=Now() + LEASE, attempts=F("attempts") + 1
    )
    return list(WebhookMessage.objects.filter(pk__in=keys).select_related("receiver").order_by("pk"))


def _deliver(session: requests.Session, message: WebhookMessage) -> bool:
    if not message.receiver.active:
        _give_up(message, Answer(None, NOT_ACTIVE))
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
    body = json.dumps(message.payload, separators=(",", ":"), ensure_ascii=False)
    try:
        # Streamed and left unread: what a receiver says beside its status does not matter, however long it is.
        with session.post(
            message.receiver.url,
            body.encode(),
            headers=_headers(message, body),
            timeout=TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as response:
            return Answer(response.status_code)
    except PrivateAddress as error:
        return Answer(None, str(error))
    except Exception as error:  # noqa: BLE001  # whatever one receiver makes us stumble over is not the others' trouble
        return Answer(None, f"No answer: {type(error).__name__}")


def _headers(message: WebhookMessage, body: str) -> dict[str, str]:
    """Signed anew at each attempt: a receiver refuses a time that is more than five minutes old."""
    now = timezone.now()
    return {
        "Content-Type": "application/json",
        "User-Agent": "voucher-desk",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(message.receiver.secret).sign(message.message_id, now, body),
    }


def _give_up(message: WebhookMessage, answer: Answer) -> None:
    _still_ours(message).update(status=Status.FAILED, last_status=answer.status, last_error=answer.error)


def _give_up_inactive() -> None:
    """What waits for receivers that are told nothing; staff can send it again when they are told things again."""
    waiting = WebhookMessage.objects.filter(status=Status.QUEUED, receiver__active=False)
    waiting.update(status=Status.FAILED, last_error=NOT_ACTIVE)


def _release(messages: Sequence[WebhookMessage]) -> None:
    """Gives back what was taken and never tried."""
    _still_ours(*messages).update(status=Status.QUEUED, due_at=Now(), attempts=F("attempts") - 1)


def _disable(receiver: WebhookReceiver) -> None:
    """410 is the specification's word for "tell me nothing more"."""
    reason = "It answered 410 Gone: it wants to be told nothing more."
    WebhookReceiver.objects.filter(pk=receiver.pk).update(active=False, disabled_reason=reason)
    forget_receivers()


def _still_ours(*messages: WebhookMessage) -> WebhookMessageQuerySet:
    """Their rows, less those whose lease ran out and that another sender has taken since."""
    return WebhookMessage.objects.filter(
        pk__in=[message.pk for message in messages],
        status=Status.SENDING,
        due_at__in={message.due_at for message in messages},
    )
