"""All that is known about one case, read in a fixed number of statements: for the timeline, for the answer at the top
of its page and for what can be done about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.db.models import Model, Q, QuerySet

from courses.models import PaymentFact, Purchase
from vouchers.models import (
    AddressChange,
    Delivery,
    DeliveryEvent,
    Issuance,
    RedeemAttempt,
    Redemption,
    Replacement,
    Voucher,
)
from vouchers.support.people import People, people_of
from vouchers.support.places import with_place
from vouchers.support.searching import Subject

SEATS = 100
ROWS = 500  # of each kind, the newest

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a page of the support desk is about, and every row that tells of it; rows are oldest first.

    `seats` are what is owed: one for the case of an issuance, those of a payment, former ones of a voucher that is in
    the pool again. `vouchers` are those that they hold or held until they were replaced.
    """

    subject: Subject
    purchase: Purchase | None = None
    seats: list[Issuance] = field(default_factory=list)
    vouchers: list[Voucher] = field(default_factory=list)
    has_more_seats: bool = False
    facts: list[PaymentFact] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    events: list[DeliveryEvent] = field(default_factory=list)
    changes: list[AddressChange] = field(default_factory=list)
    replacements: list[Replacement] = field(default_factory=list)
    redemptions: list[Redemption] = field(default_factory=list)
    attempts: list[RedeemAttempt] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)
    people: People = field(default_factory=People)

    @property
    def issuance(self) -> Issuance | None:
        """What is owed, where the case is of one buyer and one voucher."""
        return self.subject if isinstance(self.subject, Issuance) else None

    @property
    def voucher(self) -> Voucher | None:
        """The voucher as it is held now, where the case is of one."""
        if isinstance(self.subject, Issuance):
            return self.subject.voucher if self.subject.status == Issuance.Status.ISSUED else None
        return self.subject if isinstance(self.subject, Voucher) else None

    def emails_of(self, issuance: Issuance) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.issuance_id == issuance.pk]

    def seat_of_voucher(self, pk: int) -> Issuance | None:
        """The seat that holds a voucher, or held it until it was replaced."""
        keys = {row.issuance_id for row in self.replacements if row.voucher_id == pk}
        return next((seat for seat in self.seats if seat.voucher_id == pk or seat.pk in keys), None)

    def replacements_of(self, issuance: Issuance) -> list[Replacement]:
        return [replacement for replacement in self.replacements if replacement.issuance_id == issuance.pk]


def case_of_issuance(pk: int) -> Case:
    """Raises `Issuance.DoesNotExist`."""
    found = with_place(Issuance.objects.select_related("voucher", "course", "purchase__course"))
    issuance = found.get(pk=pk)
    return _read(issuance, issuance.purchase, [issuance])


def case_of_purchase(pk: UUID) -> Case:
    """Of a payment. Raises `Purchase.DoesNotExist`."""
    purchase = Purchase.objects.select_related("course").get(pk=pk)
    seats = with_place(Issuance.objects.select_related("voucher", "course", "purchase").filter(purchase=purchase))
    return _read(purchase, purchase, list(seats.order_by("unit")[: SEATS + 1]))


def case_of_voucher(pk: int) -> Case:
    """Of a voucher that nobody is owed. Raises `Voucher.DoesNotExist`."""
    voucher = Voucher.objects.select_related("course").get(pk=pk)
    former = Issuance.objects.select_related("voucher", "course", "purchase").filter(voucher=voucher)
    return _read(voucher, None, list(with_place(former).order_by("pk")[: SEATS + 1]), [voucher])


def issuance_of_voucher(pk: int) -> int | None:
    """The key of the issuance that a voucher is part of: it holds it, or held it until it was replaced."""
    holds = Issuance.objects.order_by().filter(voucher=pk).exclude(status=Issuance.Status.RETURNED).values_list("pk")
    held = Replacement.objects.order_by().filter(voucher=pk).values_list("issuance")
    found = holds.union(held).first()
    return found[0] if found else None


def voucher_of_purchase(pk: UUID) -> int | None:
    """The key of the voucher that a free purchase was made with; None for a payment."""
    return Redemption.objects.filter(purchase=pk).values_list("pk", flat=True).first()


def _read(
    subject: Subject, purchase: Purchase | None, seats: Sequence[Issuance], vouchers: Sequence[Voucher] = ()
) -> Case:
    shown = list(seats[:SEATS])
    replacements = _newest(Replacement.objects.select_related("voucher").filter(issuance__in=shown))
    held = {seat.voucher.pk: seat.voucher for seat in shown if seat.voucher and seat.status == Issuance.Status.ISSUED}
    held |= {replacement.voucher_id: replacement.voucher for replacement in replacements}
    held |= {voucher.pk: voucher for voucher in vouchers}
    redemptions = list(Redemption.objects.select_related("purchase").filter(pk__in=held).order_by("redeemed_at"))
    purchases = [row.pk for row in [purchase, *(redemption.purchase for redemption in redemptions)] if row]
    deliveries = _newest(Delivery.objects.filter(Q(issuance__in=shown) | Q(purchase__in=purchases)))
    # A code that was returned and issued again has a story with somebody else, which is not this one.
    since = None if isinstance(subject, Voucher) else min((seat.created_at for seat in shown), default=None)
    tried = RedeemAttempt.objects.filter(voucher__in=held)
    attempts = _newest(tried.filter(last_at__gte=since) if since else tried)
    changes = _newest(AddressChange.objects.filter(issuance__in=shown))
    return Case(
        subject=subject,
        purchase=purchase,
        seats=shown,
        vouchers=list(held.values()),
        has_more_seats=len(seats) > SEATS,
        facts=_facts(purchase),
        deliveries=deliveries,
        events=_newest(DeliveryEvent.objects.filter(delivery__in=deliveries)),
        changes=changes,
        replacements=replacements,
        redemptions=redemptions,
        attempts=attempts,
        log=_log(shown, held, purchases, whole=isinstance(subject, Voucher)),
        people=people_of(
            [
                *(seat.caller for seat in shown),
                *(redemption.caller for redemption in redemptions),
                *(attempt.caller for attempt in attempts),
                *(change.actor for change in changes),
                *(replacement.actor for replacement in replacements),
            ]
        ),
    )


def _newest(rows: QuerySet[M]) -> list[M]:
    return list(rows.order_by("-pk")[:ROWS])[::-1]


def _facts(purchase: Purchase | None) -> list[PaymentFact]:
    if purchase is None:
        return []
    return _newest(PaymentFact.objects.filter(provider=purchase.provider, reference=purchase.reference))


def _log(
    seats: Sequence[Issuance], vouchers: Iterable[int], purchases: Iterable[UUID], *, whole: bool
) -> list[LogEntry]:
    """What staff did to any of these rows. Joined by name, so that the first page that is asked for takes no statement
    more, to look up the keys of the types."""
    held = {*vouchers, *(seat.voucher_id for seat in seats if seat.voucher_id)}
    of_type = {"voucher": held, "issuance": [seat.pk for seat in seats], "purchase": purchases}
    rows = Q(pk__in=[])
    for name, keys in of_type.items():
        rows |= Q(
            content_type__app_label="courses" if name == "purchase" else "vouchers",
            content_type__model=name,
            object_id__in=[str(key) for key in keys],
        )
    entries = _newest(LogEntry.objects.select_related("user", "content_type").filter(rows))
    return [entry for entry in entries if whole or _is_of_their_time(entry, seats)]


def _is_of_their_time(entry: LogEntry, seats: Iterable[Issuance]) -> bool:
    """A code that was returned and issued again has deeds of another holder's time."""
    if entry.content_type is None or entry.content_type.model != "voucher":
        return True
    for seat in seats:
        if seat.returned_at is None or str(seat.voucher_id) == entry.object_id:
            until = seat.returned_at or entry.action_time
            if seat.created_at <= entry.action_time <= until:
                return True
    return False
