"""Reminders of vouchers that are not redeemed yet, and warnings of those about to expire, as their courses want them.

A reminder comes once for each issuance, a warning once for each code: who was given another code in the place of the
first has not been warned of that one. The series of the deliveries says so, and the database holds it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import (
    Count,
    DateField,
    DurationField,
    ExpressionWrapper,
    F,
    OuterRef,
    QuerySet,
    Subquery,
    Value,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from vouchers.delivery.outbox import email_of
from vouchers.models import Delivery, Issuance, Replacement, Voucher
from vouchers.tombstones import TOMBSTONES

CHUNK = 500
# Hours of the day in TIME_ZONE: nobody's telephone is to ring at night for this.
FIRST_HOUR, LAST_HOUR = 8, 20
# Who got the code only now has its email before their eyes.
NEW = dt.timedelta(days=1)


def remind_by_day(now: dt.datetime | None = None) -> int:
    """`queue_reminders`, between 8:00 and 20:00 in TIME_ZONE; nothing at other hours."""
    now = now or timezone.now()
    is_day = FIRST_HOUR <= timezone.localtime(now).hour < LAST_HOUR
    return queue_reminders(now) if is_day else 0


def queue_reminders(now: dt.datetime | None = None) -> int:
    """Queues what is due and returns how many emails that are. Several of these at once queue each email once.

    Warnings go first, because a reminder beside one would say less.
    """
    now = now or timezone.now()
    left_alone = LeftAlone.now()
    warned = _queue(about_to_expire(now), Delivery.Kind.EXPIRY, left_alone)
    return warned + _queue(unredeemed_for_long(now), Delivery.Kind.REMINDER, left_alone)


def about_to_expire(now: dt.datetime) -> QuerySet[Issuance]:
    """Holders to be warned: the last day of the code is no more days away than their course says."""
    horizon = ExpressionWrapper(
        Value(timezone.localdate(now), output_field=DateField()) + F("course__warn_before_days"),
        output_field=DateField(),
    )
    return _unwarned(now).filter(voucher__valid_until__lte=horizon, voucher__issued_at__lte=now - NEW)


def unredeemed_for_long(now: dt.datetime) -> QuerySet[Issuance]:
    """Holders to be reminded, unless they are warned: they have had the code for as many days as their course says."""
    patience = ExpressionWrapper(F("course__remind_after_days") * dt.timedelta(days=1), output_field=DurationField())
    reminders = Delivery.objects.filter(issuance=OuterRef("pk"), kind=Delivery.Kind.REMINDER)
    patient = _unwarned(now).filter(voucher__issued_at__lte=Value(now) - patience)
    return patient.annotate(reminder=_first(reminders)).filter(reminder=None)


def _unwarned(now: dt.datetime) -> QuerySet[Issuance]:
    """Who holds a code that can be redeemed, and was not warned of this one; `code_number` counts the codes that an
    issuance had, from 1."""
    replacements = Replacement.objects.filter(issuance=OuterRef("pk")).order_by().values("issuance")
    number = Subquery(replacements.annotate(number=Count("pk")).values("number"))
    warnings = Delivery.objects.filter(
        issuance=OuterRef("pk"), kind=Delivery.Kind.EXPIRY, series=OuterRef("code_number")
    )
    held = Issuance.objects.select_related("course", "purchase").filter(
        status=Issuance.Status.ISSUED,
        voucher__status=Voucher.Status.ISSUED,
        voucher__held_since=None,
        voucher__valid_until__gte=timezone.localdate(now),
    )
    return (
        held.exclude(email__endswith=TOMBSTONES)
        .annotate(code_number=1 + Coalesce(number, 0))
        .annotate(warning=_first(warnings))
        .filter(warning=None)
    )


def _first(deliveries: QuerySet[Delivery]) -> Subquery:
    """Looked up for each issuance by itself, which `delivery_once_per_series` serves. As an `Exists` it becomes a join
    that the planner bases on how many there were at the last ANALYZE: none, while this very run makes many."""
    return Subquery(deliveries.order_by().values("pk")[:1])


@dataclass(frozen=True)
class LeftAlone:
    """Who gets neither: addresses, in upper case, that called an email of ours spam, and to which goes only what they
    ask for; issuances whose last email did not arrive. Another one to the same address would hide that from staff."""

    complainers: frozenset[str]
    undelivered: frozenset[int]

    @classmethod
    def now(cls) -> LeftAlone:
        complaints = Delivery.objects.filter(fate=Delivery.Fate.COMPLAINED).values_list("email", flat=True)
        undelivered = Delivery.objects.undelivered().values_list("issuance_id", flat=True)
        return cls(frozenset(map(str.upper, complaints)), frozenset(pk for pk in undelivered if pk))

    def __contains__(self, issuance: Issuance) -> bool:
        return issuance.email.upper() in self.complainers or issuance.pk in self.undelivered


def _queue(due: QuerySet[Issuance], kind: Delivery.Kind, left_alone: LeftAlone) -> int:
    """Who is due is asked once: the planner does not stop at the first 500 of them, and would look at all for each."""
    keys = list(due.order_by("pk").values_list("pk", flat=True))
    queued = 0
    for start in range(0, len(keys), CHUNK):
        chunk = due.filter(pk__in=keys[start : start + CHUNK]).order_by("pk")
        queued += _insert([_email(issuance, kind) for issuance in chunk if issuance not in left_alone])
    return queued


def _email(issuance: Issuance, kind: Delivery.Kind) -> Delivery:
    delivery = email_of(issuance, issuance.course, kind)
    if kind == Delivery.Kind.EXPIRY:
        delivery.series = issuance.code_number  # type: ignore[attr-defined]  # annotated
    return delivery


def _insert(deliveries: list[Delivery]) -> int:
    """How many of them nobody else had queued."""
    Delivery.objects.bulk_create(deliveries, ignore_conflicts=True)
    return Delivery.objects.filter(message_id__in=[delivery.message_id for delivery in deliveries]).count()
