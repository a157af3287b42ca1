"""What a proved post says, in the desk's words."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from anymail.exceptions import AnymailError
from anymail.signals import AnymailTrackingEvent, EventType
from anymail.webhooks.base import AnymailCoreWebhookView
from django.db.models import BigIntegerField
from django.http import HttpRequest
from django.utils import timezone

from vouchers.errors import InvalidRequest
from vouchers.models import DeliveryEvent

Kind = DeliveryEvent.Kind

# All other types are nobody's business here: unsubscribed, an answer by a machine, what is not known.
KINDS = {
    EventType.QUEUED: Kind.ACCEPTED,
    EventType.SENT: Kind.ACCEPTED,
    EventType.DEFERRED: Kind.DEFERRED,
    EventType.DELIVERED: Kind.DELIVERED,
    EventType.OPENED: Kind.OPENED,
    EventType.CLICKED: Kind.OPENED,
    EventType.BOUNCED: Kind.BOUNCED,
    EventType.REJECTED: Kind.FAILED,
    EventType.FAILED: Kind.FAILED,
    EventType.COMPLAINED: Kind.COMPLAINED,
}
LONGEST_KEY, LONGEST_REASON = 255, 500  # as the columns have it
# Proved, but not as django-anymail expects it: one of its errors, or what Python says of a tree of another shape.
UNREADABLE = (
    AnymailError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,  # a time that no clock of this machine can show
    RecursionError,
    TypeError,
    ValueError,
)


FAR_OFF = dt.timedelta(days=366)


@dataclass(frozen=True)
class Told:
    """`delivery` is the id that we gave it along, None where it is not there; the other texts may be empty."""

    kind: DeliveryEvent.Kind
    key: str
    at: dt.datetime
    reason: str
    message_id: str
    recipient: str
    delivery: int | None


def read(reader: type[AnymailCoreWebhookView], request: HttpRequest) -> list[Told]:
    """What concerns the desk, in the order of the post. Raises `InvalidRequest` where it cannot be read."""
    try:
        # Made without its __init__, which asks for settings and warns of missing ones: the proof is ours.
        events = reader.__new__(reader).parse_events(request)  # type: ignore[no-untyped-call]
        return [told(event) for event in events if event.event_type in KINDS]
    except UNREADABLE:
        raise InvalidRequest("The post is not as this provider writes it.") from None


def told(event: AnymailTrackingEvent) -> Told:
    at = time_of(event)
    return Told(
        kind=KINDS[event.event_type],
        key=key_of(event),
        at=at,
        reason=reason_of(event),
        message_id=text(event.message_id),
        recipient=text(event.recipient),
        delivery=delivery_of(event.metadata),
    )


def time_of(event: AnymailTrackingEvent) -> dt.datetime:
    """By the provider's clock; by ours where it gives none, or one that is out of the question."""
    now = timezone.now()
    at = event.timestamp or now
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return at if abs(at.replace(tzinfo=None) - now.replace(tzinfo=None)) < FAR_OFF else now


def key_of(event: AnymailTrackingEvent) -> str:
    """The provider's id of what happened, or else what tells it from all others, as a hash."""
    event_id = text(event.event_id)
    if 0 < len(event_id) <= LONGEST_KEY:
        return event_id
    parts = [event_id, text(event.message_id), event.event_type, str(event.timestamp), text(event.recipient).lower()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def reason_of(event: AnymailTrackingEvent) -> str:
    """What the provider and the mail server said, in one line that fits PostgreSQL."""
    said = dict.fromkeys(str(part) for part in (event.description, event.mta_response) if part)
    printable = "".join(letter if letter.isprintable() else " " for letter in " / ".join(said))
    return " ".join(printable.split())[:LONGEST_REASON]


def delivery_of(metadata: object) -> int | None:
    """What `messages.py` gave the provider along with the email."""
    given = text(metadata.get("delivery")) if isinstance(metadata, Mapping) else ""
    if not (given.isascii() and given.isdigit()) or int(given) > BigIntegerField.MAX_BIGINT:
        return None
    return int(given)


def text(value: object) -> str:
    """An id or an address; empty where it is none, or is one that no row could hold."""
    found = str(value) if isinstance(value, str | int) else ""
    return found.strip() if found.isprintable() else ""
