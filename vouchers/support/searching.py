"""One search for whatever a buyer may tell: an email, an order, the reference of a payment, a part of a code.

Every search below is served by an index of its own, and each is bounded: whoever types a part that half of all codes
have in common is asked for more of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet

from courses.models import Course, Purchase
from vouchers.codes import CODE_MAX, clean_code
from vouchers.masking import mask_code
from vouchers.models import AddressChange, Delivery, Issuance, Voucher
from vouchers.support.places import with_place
from vouchers.support.states import State, deciding, state_of_issuance, state_of_purchase, state_of_voucher

SHOWN = 50
SHORTEST_PART = 4
AT_MOST = 1000  # rows of one kind that are looked at for the newest ones
AROUND = "\"'.,;:()<>"  # what people paste along
PART = re.compile(rf"[!-~]{{{SHORTEST_PART},{CODE_MAX}}}")

Subject = Issuance | Purchase | Voucher


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A case that was found; texts are empty where there is nothing to say."""

    subject: Subject
    code: str = ""
    course_id: str
    email: str
    order: str = ""
    state: State
    at: datetime | None


@dataclass(frozen=True)
class Found:
    """`has_more` is whether there are more than these, which are the newest."""

    hits: list[Hit]
    has_more: bool = False


def find_cases(term: str, *, any_part: bool = True) -> Found:
    """The cases that a search term leads to, newest first: each voucher owed, each payment with several seats or with
    none yet, and each voucher that was never owed to anybody.

    Without `any_part` only the end of a code is searched that everybody is shown: whoever may not see codes could spell
    one out by parts of it.
    """
    term = term.replace("\x00", "").strip()
    if not term:
        return Found([])
    purchases = _purchases(term)
    vouchers = {voucher.pk: voucher for voucher in [*find_vouchers(term, any_part=any_part), *_spent_for(purchases)]}
    issuances = _issuances(term, purchases, vouchers)
    cut = max(len(purchases), len(vouchers), len(issuances)) > SHOWN
    hits = [*_hits_of_purchases(purchases, issuances), *_hits_of_issuances(issuances, purchases)]
    hits += _hits_of_vouchers(vouchers.values(), issuances)
    hits.sort(key=lambda hit: (hit.at is not None, hit.at), reverse=True)
    return Found(hits[:SHOWN], cut or len(hits) > SHOWN)


def find_vouchers(term: str, *, any_part: bool = True) -> list[Voucher]:
    """The voucher of a whole code, wherever it is; else those that have left the pool and have the term in their code,
    the newest first."""
    part = clean_code(term).strip(AROUND)
    if not PART.fullmatch(part):
        return []
    whole = list(Voucher.objects.with_code(part).select_related("replacement"))
    if whole:
        return whole
    found = with_part(part).select_related("replacement")
    if not any_part:
        found = found.filter(code__iendswith=part)
    return [voucher for voucher in found[: SHOWN + 1] if any_part or mask_code(voucher.code)[-len(part) :] == part]


def with_part(part: str) -> QuerySet[Voucher]:
    """What the index `voucher_code_parts` serves, which leaves out the pool. The order is one that no index has: the
    planner would walk it, past everything ever issued, for a part that hardly any code has."""
    left_the_pool = Voucher.objects.exclude(status=Voucher.Status.AVAILABLE)
    return left_the_pool.filter(code__icontains=part).order_by(F("issued_at").desc(nulls_last=True), "-pk")


def purchases_of(term: str) -> QuerySet[Purchase, tuple[UUID, datetime]]:
    by_email = Purchase.objects.filter(email__iexact=term).order_by().values_list("pk", "created_at")
    by_reference = Purchase.objects.payments().named(term).order_by().values_list("pk", "created_at")
    return by_email.union(by_reference).order_by("-created_at")


def issuances_of(term: str, purchases: Iterable[UUID], vouchers: Iterable[int]) -> QuerySet[Issuance, tuple[int]]:
    """Those of an email now or before it was corrected, of an order, of these payments and of these vouchers.

    The addresses of emails need no search: each is, or was once, the address of its issuance.
    """
    issuances = Issuance.objects.order_by()
    # An order is unique within its course, and the index begins with that.
    of_order = issuances.filter(course__in=Course.objects.order_by(), order_id=term).exclude(order_id="")
    return (
        issuances.filter(email__iexact=term)
        .values_list("pk")
        .union(
            AddressChange.objects.order_by().filter(old_email__iexact=term).values_list("issuance"),
            of_order.values_list("pk"),
            issuances.filter(purchase__in=list(purchases)).values_list("pk"),
            issuances.filter(voucher__in=list(vouchers)).values_list("pk"),
            issuances.filter(replacements__voucher__in=list(vouchers)).values_list("pk"),
        )
        .order_by("-id")
    )


def _purchases(term: str) -> list[Purchase]:
    # The keys first, in a statement of its own, or the planner may look for them in the whole table, newest first.
    keys = [key for key, _ in purchases_of(term)[:AT_MOST]]
    found = (
        Purchase.objects.filter(pk__in=keys).select_related("redemption__voucher__replacement").order_by("-created_at")
    )
    return list(found[: SHOWN + 1])


def _spent_for(purchases: Iterable[Purchase]) -> list[Voucher]:
    """A free purchase is part of the case of the voucher that it was made with."""
    return [purchase.redemption.voucher for purchase in purchases if hasattr(purchase, "redemption")]


def _issuances(term: str, purchases: Iterable[Purchase], vouchers: Iterable[int]) -> list[Issuance]:
    single = [purchase.pk for purchase in purchases if purchase.quantity == 1]
    keys = [key for (key,) in issuances_of(term, single, vouchers)[:AT_MOST]]
    found = Issuance.objects.filter(pk__in=keys).select_related("voucher", "purchase").order_by("-pk")
    return list(with_place(found)[: SHOWN + 1])


def _hits_of_issuances(issuances: Iterable[Issuance], purchases: Iterable[Purchase]) -> list[Hit]:
    """Without the seats of a payment with several, where that is found itself: its page has all of them."""
    whole = {purchase.pk for purchase in purchases if purchase.quantity > 1}
    shown = [issuance for issuance in issuances if issuance.purchase_id not in whole]
    emails = deciding_emails(shown)
    return [_hit_of_issuance(issuance, emails.get(issuance.pk)) for issuance in shown]


def deciding_emails(issuances: Iterable[Issuance]) -> dict[int, Delivery]:
    """The email that says where the voucher of each issuance is, by the issuance's key."""
    emails: dict[int, list[Delivery]] = {}
    for delivery in Delivery.objects.filter(issuance__in=list(issuances)).order_by("pk"):
        emails.setdefault(delivery.issuance_id or 0, []).append(delivery)
    return {key: decides for key, found in emails.items() if (decides := deciding(found))}


def _hit_of_issuance(issuance: Issuance, email: Delivery | None) -> Hit:
    purchase = issuance.purchase
    return Hit(
        subject=issuance,
        code=mask_code(issuance.voucher.code) if issuance.voucher else "",
        course_id=issuance.course_id,
        email=issuance.email,
        order=issuance.order_id or (purchase.reference if purchase else ""),
        state=state_of_issuance(issuance, email),
        at=issuance.issued_at or issuance.created_at,
    )


def _hits_of_purchases(purchases: Iterable[Purchase], issuances: Iterable[Issuance]) -> list[Hit]:
    """Payments alone, and of those with one seat only those for which nothing is owed yet."""
    by_seat = {issuance.purchase_id for issuance in issuances}
    shown = [
        purchase
        for purchase in purchases
        if purchase.provider != Purchase.Provider.VOUCHER and (purchase.quantity > 1 or purchase.pk not in by_seat)
    ]
    seats, undelivered = _seats_in_words(shown), _undelivered(shown)
    return [_hit_of_purchase(purchase, seats.get(purchase.pk, []), undelivered[purchase.pk]) for purchase in shown]


def _seats_in_words(purchases: list[Purchase]) -> dict[UUID, list[str]]:
    seats = Issuance.objects.filter(purchase__in=purchases).order_by().values("purchase", "status")
    words: dict[UUID, list[str]] = {}
    for row in seats.annotate(number=Count("pk")).order_by("status"):
        words.setdefault(row["purchase"], []).append(f"{row['number']} {row['status']}")
    return words


def _undelivered(purchases: list[Purchase]) -> Counter[Any]:
    """How many emails of each did not arrive, by the purchase's key."""
    lost = Delivery.objects.undelivered().filter(Q(issuance__purchase__in=purchases) | Q(purchase__in=purchases))
    return Counter(
        of_seat or of_purchase for of_seat, of_purchase in lost.values_list("issuance__purchase", "purchase")
    )


def _hit_of_purchase(purchase: Purchase, seats: list[str], undelivered: int) -> Hit:
    state = state_of_purchase(purchase)
    lost = [f"{undelivered} not delivered"] if undelivered else []
    return Hit(
        subject=purchase,
        course_id=purchase.course_id or "",
        email=purchase.email,
        order=purchase.reference,
        state=State("bad" if lost else state.kind, ", ".join([state.words, *seats, *lost])),
        at=purchase.created_at,
    )


def _hits_of_vouchers(vouchers: Iterable[Voucher], issuances: Iterable[Issuance]) -> list[Hit]:
    """Only those that nobody is or was owed: the others are part of an issuance."""
    owed = {issuance.voucher_id for issuance in issuances if issuance.status != Issuance.Status.RETURNED}
    return [
        Hit(
            subject=voucher,
            code=mask_code(voucher.code),
            course_id=voucher.course_id,
            email=voucher.issued_to,
            state=state_of_voucher(voucher),
            at=voucher.issued_at or voucher.revoked_at,
        )
        for voucher in vouchers
        if voucher.pk not in owed and not hasattr(voucher, "replacement")
    ]
