"""Erase a buyer: everywhere in the database a tombstone takes the place of the address. Nothing else changes.

Rows stay, and so do codes, times, amounts and counts; what is owed is owed to the tombstone from then on. What is not
in this database, and what may come later, is in docs/privacy.md; why it is done so, in docs/decisions/0015.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models import Model, Q

from courses.models import Course, PaymentFact, Purchase
from vouchers.errors import BuyerBusy, InvalidRequest
from vouchers.issuing import IssueRequest
from vouchers.locks import LockTimeout, lock_names, lock_timeout_as_error
from vouchers.models import IdempotencyKey, Issuance, KeptEmail, ResendRequest, Voucher
from vouchers.payments.settling import payment_name
from vouchers.privacy.addresses import Address
from vouchers.privacy.places import Place, name_of, places
from vouchers.tombstones import is_tombstone

logger = logging.getLogger(__name__)

LONGEST = 254
LOCK_SECONDS = 10
SCAN_SECONDS = 600  # every table is read as a whole
KEPT_BODY = "The address it was sent to was erased, and this text with it."


@dataclass(frozen=True)
class Owed:
    """What the buyer waits for, and what they hold that is valid and not redeemed."""

    waiting: int
    held: int

    def __bool__(self) -> bool:
        return bool(self.waiting or self.held)

    @property
    def in_words(self) -> str:
        waiting = "waits for 1 voucher" if self.waiting == 1 else f"waits for {self.waiting:,} vouchers"
        held = "holds 1 valid voucher" if self.held == 1 else f"holds {self.held:,} valid vouchers"
        owed = " and ".join([waiting] * bool(self.waiting) + [held] * bool(self.held))
        return f"Still owed: this buyer {owed}. No email about that is sent to an address that was erased."


@dataclass(frozen=True)
class Erased:
    """`counts` are rows by kind, such as `{"issuances": 2}`; empty where nothing holds the address."""

    tombstone: str
    counts: dict[str, int]
    owed: Owed

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def clean_address(given: str) -> str:
    """One address as it may be kept here, trimmed. Raises `InvalidRequest`."""
    email = given.strip()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidRequest("This is not one email address.") from None
    if len(email) > LONGEST:
        raise InvalidRequest(f"An email address has up to {LONGEST} characters.")
    if is_tombstone(email):
        raise InvalidRequest("This is what stands in the place of an address that was erased.")
    return email


@transaction.atomic
def find_buyer(*, email: str) -> Erased:
    """What `erase_buyer` would replace; nothing is changed or locked. Raises `InvalidRequest`."""
    address = Address(clean_address(email))
    _allow_scanning()
    counts: Counter[str] = Counter()
    for place in places():
        held = (row for rows in place.rows_with(address) for row in rows if _changes(place, row, address))
        counts[place.name] += sum(1 for _ in held)
    return Erased(address.tombstone, dict(+counts), owed_to(address))


@transaction.atomic
def erase_buyer(*, email: str, actor: str) -> Erased:
    """Replaces an address by its tombstone wherever it stands; again, there is nothing to do.

    All of it commits, or nothing. `actor` is who does it, such as `user:7`. Raises `InvalidRequest`, and `BuyerBusy`
    where a request or a payment of this buyer is being worked on for more than 10 s.
    """
    address = Address(clean_address(email))
    try:
        with lock_timeout_as_error():
            counts = _erase(address)
    except LockTimeout:
        raise BuyerBusy from None
    erased = Erased(address.tombstone, dict(counts), owed_to(address))
    event = {"tombstone": address.tombstone, "rows": erased.total, "actor": actor}
    logger.info("A buyer was erased", extra={"event": event})
    return erased


def owed_to(address: Address) -> Owed:
    """Under the address or, once it was erased, under its tombstone."""
    buyer = Q(email__iexact=address.email) | Q(email__iexact=address.tombstone)
    valid = Voucher.objects.shown_as(Voucher.Status.ISSUED)
    return Owed(
        waiting=Issuance.objects.filter(buyer, status=Issuance.Status.WAITING).count(),
        held=(valid.held_by(address.email) | valid.held_by(address.tombstone)).count(),
    )


def _erase(address: Address) -> Counter[str]:
    """Looks through everything until nothing is found. What others commit in the middle of one round, such as a
    voucher whose issuance was not there yet when the issuances were read, the next round finds as a whole."""
    _allow_scanning()
    _lock_requests(address)
    counts: Counter[str] = Counter()
    while found := _erase_once(address):
        counts += found
    return counts


def _erase_once(address: Address) -> Counter[str]:
    _lock_payments(address)
    _rename_keys(address)  # first, because they are found by the address
    asked = ResendRequest.objects.filter(email__iexact=address.email)
    counts = Counter({name_of(ResendRequest): asked.delete()[0]})
    for place in places():
        counts[place.name] += _replace(place, address)
    return +counts


def _allow_scanning() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{SCAN_SECONDS}s"])


def _lock_requests(address: Address) -> None:
    """So that no request for this email without an order, and no list, is at work meanwhile, in any course."""
    requests = [
        IssueRequest(course_id=course.pk, email=address.email, caller="") for course in Course.objects.only("pk")
    ]
    lock_names(
        *(name for request in requests for name in request.names),
        shared=[name for request in requests for name in request.shared_names],
        seconds=LOCK_SECONDS,
    )


def _lock_payments(address: Address) -> None:
    """So that none is settled from facts that were read before, which would bring the address back."""
    told = PaymentFact.objects.filter(claims__email__iexact=address.email)
    sold = Purchase.objects.filter(email__iexact=address.email)
    payments = {*told.values_list("provider", "reference"), *sold.values_list("provider", "reference")}
    lock_names(*(payment_name(*payment) for payment in payments), seconds=LOCK_SECONDS)


def _rename_keys(address: Address) -> None:
    """Gives request keys that were used with the address the fingerprint of the tombstone. A fingerprint is a hash
    without a secret: whoever guesses the address could see that the guess is right."""
    of_buyer = (
        Q(issuance__email__iexact=address.email)
        | Q(issuance__purchase__email__iexact=address.email)
        | Q(issuance__address_changes__old_email__iexact=address.email)
    )
    keys = IdempotencyKey.objects.filter(of_buyer).select_related("issuance__course", "issuance__purchase")
    for key in keys.distinct():
        for order in _orders_of(key.issuance):
            if key.fingerprint == _fingerprint(key, address.email, order):
                renamed = _fingerprint(key, address.tombstone, address.replaced_in(order))
                IdempotencyKey.objects.filter(pk=key.pk).update(fingerprint=renamed)


def _orders_of(issuance: Issuance) -> set[str]:
    """The orders it may have been asked for by: its own, none, or a reference of its payment."""
    purchase = issuance.purchase
    return {"", issuance.order_id, *((purchase.reference, purchase.checkout) if purchase else ())}


def _fingerprint(key: IdempotencyKey, email: str, order: str) -> str:
    return IssueRequest(course_id=key.issuance.course_id, email=email, caller=key.caller, order_id=order).fingerprint


def _replace(place: Place, address: Address) -> int:
    replaced = 0
    for rows in place.rows_with(address, lock=True):
        for changes, keys in _alike(place, rows, address):
            replaced += place.rows.filter(pk__in=keys).update(**changes)
    return replaced


def _alike(place: Place, rows: Iterable[Model], address: Address) -> Iterable[tuple[dict[str, object], list[object]]]:
    """Changes, each with the keys of the rows it is the same for: in most rows the address stands alone."""
    found: dict[str, tuple[dict[str, object], list[object]]] = {}
    for row in rows:
        if changes := _changes(place, row, address):
            found.setdefault(repr(changes), (changes, []))[1].append(row.pk)
    return found.values()


def _changes(place: Place, row: Model, address: Address) -> dict[str, object]:
    """The columns of a row in which the address stands, as they are to be."""
    changes = place.replaced(row, address)
    if isinstance(row, KeptEmail) and "to" in changes:
        changes |= {"text": KEPT_BODY, "html": ""}  # it has the code, too
    return changes
