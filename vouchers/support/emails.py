"""What a timeline tells of each email and of its fate."""

from __future__ import annotations

from collections.abc import Iterator

from vouchers.delivery.outbox import LEASE
from vouchers.models import Delivery, DeliveryEvent, Issuance
from vouchers.support.cases import Case
from vouchers.support.entries import Entry, Log, moment, seat_of

Kind = DeliveryEvent.Kind
Status = Delivery.Status
NAMES: dict[str, str] = {
    Delivery.Kind.VOUCHER: "Voucher email",
    Delivery.Kind.REMINDER: "Reminder",
    Delivery.Kind.EXPIRY: "Warning before expiry",
    Delivery.Kind.WAITING: "News of the queue",
    Delivery.Kind.CONFIRMATION: "Confirmation",
}
FATES: dict[str, tuple[str, str]] = {
    Kind.ACCEPTED: ("accepted by the provider", ""),
    Kind.DEFERRED: ("deferred, the provider tries again", "low"),
    Kind.DELIVERED: ("delivered", "good"),
    Kind.OPENED: ("opened", "good"),
    Kind.BOUNCED: ("bounced", "bad"),
    Kind.FAILED: ("failed at the provider", "bad"),
    Kind.COMPLAINED: ("reported as spam by its reader", "bad"),
}


def email_entries(case: Case, log: Log) -> Iterator[Entry]:
    seats = {seat.pk: seat for seat in case.seats}
    for delivery in case.deliveries:
        issuance = seats.get(delivery.issuance_id or 0)
        seat = seat_of(issuance)
        yield _queued(delivery, seat, _sender(delivery, issuance, case, log))
        yield from _attempted(delivery, seat)
        for event in case.events:
            if event.delivery_id == delivery.pk:
                yield _told(event, delivery, seat)


def name_of_email(delivery: Delivery) -> str:
    """Such as `Voucher email 2`: the second one of its kind."""
    number = f" {delivery.series}" if delivery.series > 1 else ""
    return f"{NAMES.get(delivery.kind, 'Email')}{number}"


def _sender(delivery: Delivery, issuance: Issuance | None, case: Case, log: Log) -> str:
    """Whoever had it sent again: kept in the log of the voucher of then, or of the issuance."""
    words = f"(delivery {delivery.pk})"
    rows = [*([issuance] if issuance else []), *case.vouchers]
    return next(filter(None, (log.take(row, words) for row in rows)), "")


def _queued(delivery: Delivery, seat: int | None, who: str) -> Entry:
    trouble = ""
    if delivery.status in (Status.QUEUED, Status.SENDING) and delivery.last_error:
        trouble = f"Not sent yet, next attempt {moment(delivery.due_at)}: {delivery.last_error}"
    return Entry(
        at=delivery.created_at,
        kind="email",
        what=f"{name_of_email(delivery)} queued for {delivery.email}",
        tone="low" if trouble else "",
        detail=trouble,
        who=who,
        seat=seat,
        about=delivery,
    )


def _attempted(delivery: Delivery, seat: int | None) -> Iterator[Entry]:
    name = name_of_email(delivery)
    if delivery.sent_at:
        what = f"{name} sent to {delivery.email}"
        yield Entry(at=delivery.sent_at, kind="email", what=what, tone="calm", seat=seat)
    elif delivery.status == Status.FAILED:
        # Of the last attempt the end of its lease is kept, which is set when it begins.
        at = max(delivery.created_at, delivery.due_at - LEASE)
        what = f"{name} to {delivery.email} could not be sent"
        yield Entry(at=at, kind="email", what=what, tone="bad", detail=delivery.last_error, seat=seat)


def _told(event: DeliveryEvent, delivery: Delivery, seat: int | None) -> Entry:
    fate, tone = FATES[event.kind]
    return Entry(
        at=event.at,
        kind="email",
        what=f"{name_of_email(delivery)} {fate}",
        tone=tone,
        detail=event.reason,
        who=event.provider,
        seat=seat,
    )
