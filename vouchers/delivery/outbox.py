"""The outbox: what is to be emailed, who is at it, and what became of it. Deliveries are its rows."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from email.utils import parseaddr
from functools import cache

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from courses.models import Course, Purchase
from vouchers.errors import NotResendable
from vouchers.locks import lock_names
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.models.delivery import DeliveryQuerySet
from vouchers.tombstones import is_tombstone

# A sender answers for what it took within this time, or somebody else sends it again.
LEASE = dt.timedelta(minutes=5)
# How long to wait after each failed attempt; about 25 hours in all, then the delivery has failed.
BACKOFF = [dt.timedelta(seconds=s) for s in (5, 15, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200)]
# How long to wait for a mail server that is away or wants none of us; see `postpone`.
POSTPONED_AT_LEAST = BACKOFF[0]
POSTPONED_AT_MOST = dt.timedelta(minutes=10)
NEWS_SECONDS = 10

# What is to be sent now, and what a sender took and never answered for, oldest first. One statement, because a sender
# asks every second and mostly for nothing. The clock is that of `Now()`.
CLAIM = """
/* desk: claim due emails */
WITH due AS MATERIALIZED (
    SELECT id FROM vouchers_delivery
    WHERE status IN ('queued', 'sending') AND due_at <= statement_timestamp()
    ORDER BY due_at, id
    LIMIT %s
    FOR UPDATE SKIP LOCKED
)
UPDATE vouchers_delivery d
SET status = 'sending', due_at = statement_timestamp() + %s, attempts = attempts + 1
FROM due
WHERE d.id = due.id
RETURNING d.*
"""
# As `_still_ours`, for many that each have an id of the provider's. Locked by key, or two that write to the same rows
# might wait for each other.
RECORD_SENT = """
/* desk: record emails as sent */
WITH ours AS (
    SELECT d.id, s.provider_id
    FROM vouchers_delivery d
    JOIN unnest(%s::bigint[], %s::timestamptz[], %s::text[]) AS s (id, due_at, provider_id) USING (id, due_at)
    WHERE d.status = 'sending'
    ORDER BY d.id
    FOR NO KEY UPDATE OF d
)
UPDATE vouchers_delivery d
SET status = 'sent', sent_at = statement_timestamp(), provider_id = ours.provider_id, last_error = ''
FROM ours
WHERE d.id = ours.id
RETURNING d.id
"""


def queue_email(issuance: Issuance) -> Delivery:
    """Puts the first email of an issuance into the outbox, in the transaction that issued it."""
    delivery = email_of(issuance, issuance.course)
    delivery.save(force_insert=True)
    return delivery


def queue_emails(course: Course, issuances: Sequence[Issuance]) -> None:
    """The same for many issuances of a course."""
    Delivery.objects.bulk_create(email_of(issuance, course) for issuance in issuances)


def email_of(issuance: Issuance, course: Course, kind: Delivery.Kind = Delivery.Kind.VOUCHER) -> Delivery:
    """An email about a voucher, not stored yet. Whether it carries the code, and its language, are settled here, so
    that a repeat of it is the same email whatever becomes of the course's setting and the purchase."""
    return Delivery(
        issuance=issuance,
        kind=kind,
        email=issuance.email,
        message_id=new_message_id(),
        carries_code=course.reveal == Course.Reveal.EMAIL,
        language=language_for(issuance.purchase),
    )


def language_for(purchase: Purchase | None) -> str:
    """That of its buyer where it is known, else the shop's own."""
    return (purchase.language if purchase else "") or str(settings.SHOP_LANGUAGE)


def queue_notice(purchase: Purchase, kind: Delivery.Kind) -> None:
    """Tells the buyer something about a purchase as a whole, once, in the transaction that made it so."""
    Delivery.objects.get_or_create(
        purchase=purchase,
        kind=kind,
        series=1,
        defaults={
            "email": purchase.email,
            "message_id": new_message_id(),
            "language": language_for(purchase),
        },
    )


def queue_notice_again(purchase: Purchase, email: str) -> Delivery:
    """The place in the queue once more, to another address; once for all seats of a purchase that go there now."""
    lock_names(f"news of {purchase.pk}", seconds=NEWS_SECONDS)
    news = Delivery.objects.filter(purchase=purchase, kind=Delivery.Kind.WAITING)
    if queued := news.filter(email=email, status=Delivery.Status.QUEUED).first():
        return queued
    last = news.aggregate(last=Max("series"))["last"] or 0
    return Delivery.objects.create(
        purchase=purchase,
        kind=Delivery.Kind.WAITING,
        series=last + 1,
        email=email,
        message_id=new_message_id(),
        language=language_for(purchase),
    )


def send_postponed(issuances: QuerySet[Issuance]) -> None:
    """Makes due what was put off while its voucher was on hold."""
    Delivery.objects.filter(issuance__in=issuances, status=Delivery.Status.QUEUED).update(due_at=Now())


@transaction.atomic
def resend_voucher(issuance: Issuance, *, language: str = "") -> Delivery:
    """Queues the voucher's email once more, as an email of its own. Raises `NotResendable`."""
    locked = (
        Issuance.objects.select_for_update(of=("self",))
        .select_related("voucher", "course", "purchase")
        .get(pk=issuance.pk)
    )
    if locked.voucher is None or locked.status != Issuance.Status.ISSUED:
        raise NotResendable(f"Issuance {locked.pk} holds no voucher that could be sent.")
    if locked.voucher.shown_status != Voucher.Status.ISSUED:
        raise NotResendable(f"The voucher of issuance {locked.pk} is {locked.voucher.shown_status}.")
    if is_tombstone(locked.email):
        raise NotResendable(f"The address of issuance {locked.pk} was erased.")
    if locked.voucher.held_since:
        raise NotResendable(f"The voucher of issuance {locked.pk} is on hold: its payment is disputed.")
    return queue_again(locked, language=language)


def queue_again(issuance: Issuance, *, language: str = "") -> Delivery:
    """The next email of a locked issuance, as it is owed now: to its address, with its voucher."""
    last = issuance.deliveries.filter(kind=Delivery.Kind.VOUCHER).aggregate(last=Max("series"))["last"] or 0
    delivery = email_of(issuance, issuance.course)
    delivery.series, delivery.language = last + 1, language or delivery.language
    delivery.save(force_insert=True)
    return delivery


def claim_due(limit: int) -> list[Delivery]:
    """Takes up to `limit` due deliveries for the length of a lease; other senders pass them by.

    The end of the lease is on the database's clock, and it is what tells this claim from every other one.
    """
    return sorted(Delivery.objects.raw(CLAIM, [limit, LEASE]), key=lambda delivery: delivery.pk)


def record_sent(sent: Mapping[Delivery, str]) -> set[int]:
    """Writes down what the mail server took, with the provider's ids; returns the keys of the rows that were still ours
    to write to. `record_failure` and `withdraw` return whether theirs was."""
    claims = [(delivery.pk, delivery.due_at, provider_id[:255]) for delivery, provider_id in sent.items()]
    with connection.cursor() as cursor:
        cursor.execute(RECORD_SENT, [list(column) for column in zip(*claims, strict=True)])
        return {pk for (pk,) in cursor.fetchall()}


def record_failure(delivery: Delivery, error: str, *, permanent: bool) -> bool:
    """Puts a delivery back for its next attempt, or gives it up: refused for good, or tried for a day."""
    ours = _still_ours(delivery)
    if permanent or delivery.attempts > len(BACKOFF):
        return ours.update(status=Delivery.Status.FAILED, last_error=error[:500]) == 1
    wait = BACKOFF[delivery.attempts - 1]
    return ours.update(status=Delivery.Status.QUEUED, due_at=Now() + wait, last_error=error[:500]) == 1


def withdraw(delivery: Delivery, reason: str) -> bool:
    """Gives up what must not be sent any more. Not an attempt: nobody was shown the code."""
    withdrawn = _still_ours(delivery).update(
        status=Delivery.Status.FAILED, attempts=F("attempts") - 1, last_error=reason[:500]
    )
    return withdrawn == 1


def release(deliveries: Sequence[Delivery]) -> None:
    """Gives back what was taken and never tried."""
    _still_ours(*deliveries).update(status=Delivery.Status.QUEUED, due_at=Now(), attempts=F("attempts") - 1)


def postpone(deliveries: Sequence[Delivery], error: str) -> None:
    """Puts back what could not be offered to the mail server at all, because it was away or wants none of us, and what
    must not be sent yet.

    No attempt is counted, for two reasons. That trouble is the desk's own and not the buyer's: nobody's
    voucher may end as failed because a password was wrong over a long weekend. And `attempts` says that the
    code may have been seen, which decides whether a refunded one may go back to the pool.
    """
    if not deliveries:
        return
    # No count to look the wait up by, so it grows with the age: a quarter of it, which is a backoff too.
    waited = timezone.now() - min(delivery.created_at for delivery in deliveries)
    wait = min(max(waited / 4, POSTPONED_AT_LEAST), POSTPONED_AT_MOST)
    _still_ours(*deliveries).update(
        status=Delivery.Status.QUEUED,
        due_at=Now() + wait,
        attempts=F("attempts") - 1,
        last_error=error[:500],
    )


def _still_ours(*deliveries: Delivery) -> DeliveryQuerySet:
    """Their rows, less those whose lease ran out and that another sender has taken since."""
    return Delivery.objects.filter(
        pk__in=[delivery.pk for delivery in deliveries],
        status=Delivery.Status.SENDING,
        due_at__in={delivery.due_at for delivery in deliveries},
    )


def new_message_id() -> str:
    return f"<{uuid.uuid4()}@{_domain_of(settings.DEFAULT_FROM_EMAIL)}>"


@cache
def _domain_of(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2]
