"""Redeem: a code is spent at a checkout, once, and a free purchase exists.

The database's function `vouchers_redeem` (migration 0009) alone says whether a voucher may be spent, and spends it: one
conditional UPDATE decides who won, and the free purchase commits with it. Where nobody else is to be told and the
caller is far from its limit of guesses, that one statement is all; else it is one of several in a transaction.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from courses.models.purchase import new_token
from vouchers.codes import clean_code, fault_of
from vouchers.delivery.outbox import queue_notice
from vouchers.errors import (
    AlreadyRedeemed,
    DeskError,
    InvalidCode,
    VoucherExpired,
    VoucherNotFound,
    VoucherOnHold,
    VoucherRevoked,
)
from vouchers.guesses import WINDOW, Guesser
from vouchers.models import Delivery, RedeemAttempt, Redemption, Voucher, WebhookReceiver
from vouchers.outgoing.announcing import announce_purchase, announce_redeemed, is_anybody_told


@dataclass(frozen=True, kw_only=True)
class RedeemRequest:
    """`code` is as the buyer typed it; `course_id` and `email` are empty where not given. With `confirm` the desk
    itself tells the buyer, by email in this language; a program that redeems has a front end of its own for that."""

    code: str
    guesser: Guesser
    course_id: str = ""
    email: str = ""
    idempotency_key: str = ""
    confirm: bool = False
    language: str = ""


Reason = RedeemAttempt.Reason
# What a caller is told of each reason: refusals must not tell an unknown code from somebody else's.
REFUSALS: dict[Reason, type[DeskError]] = {
    Reason.OTHER_COURSE: VoucherNotFound,
    Reason.NEVER_ISSUED: VoucherNotFound,
    Reason.OTHER_EMAIL: VoucherNotFound,
    Reason.REDEEMED: AlreadyRedeemed,
    Reason.REVOKED: VoucherRevoked,
    Reason.ON_HOLD: VoucherOnHold,
    Reason.EXPIRED: VoucherExpired,
}
SPEND = """
SELECT voucher, course, holder, refusal FROM vouchers_redeem(
    given_code => %(code)s, named_course => %(course)s, named_holder => %(holder)s, given_email => %(email)s,
    buyer_language => %(language)s, guesser => %(guesser)s, request_key => %(key)s, free_guesses => %(free_guesses)s,
    guess_window => %(window)s, new_purchase => %(purchase)s, new_token => %(token)s,
    moment => %(now)s, today => %(today)s
)
"""
EVENTS = (WebhookReceiver.Event.VOUCHER_REDEEMED, WebhookReceiver.Event.PURCHASE_COMPLETED)
REDEMPTION_FIELDS = [field.attname for field in Redemption._meta.concrete_fields]


@dataclass(frozen=True)
class Refused:
    """A voucher that may not be spent, by its key; and whose it is."""

    voucher: int
    reason: Reason
    holder: str

    def is_of(self, email: str) -> bool:
        """Whether the address was right after all: a database whose locale is C knows the case of ASCII alone."""
        return self.reason == Reason.OTHER_EMAIL and self.holder.upper() == email.upper()


def redeem_voucher(request: RedeemRequest) -> Redemption:
    """Spends the voucher of a code, or finds that the same request key already did.

    Raises, in this order: `InvalidCode`, `TooManyGuesses`, `VoucherNotFound` (also for a code that is none
    of this caller's business), then what its state forbids.
    """
    code = clean_code(request.code)
    if fault_of(code):
        raise InvalidCode
    return _at_once(code, request) or _step_by_step(code, request)


def _at_once(code: str, request: RedeemRequest) -> Redemption | None:
    """Spends the voucher where one statement can do it all. None says nothing, and nothing has been written."""
    free_guesses = request.guesser.free_guesses
    if not free_guesses or request.confirm or any(map(is_anybody_told, EVENTS)):
        return None
    spent = _spend(code, request, free_guesses=free_guesses)
    return spent if isinstance(spent, Redemption) else None


def _step_by_step(code: str, request: RedeemRequest) -> Redemption:
    """Spends the voucher, or says why not, in a transaction that also keeps what others are to know of it."""
    with transaction.atomic():
        request.guesser.check()
        result = _try(code, request)
    if isinstance(result, Redemption):
        return result
    raise result  # outside the transaction, so that the guess and the attempt are kept


def _try(code: str, request: RedeemRequest) -> Redemption | DeskError:
    """Spends the voucher, or writes down that it was refused, and why."""
    spent = _spend(code, request)
    if isinstance(spent, Refused) and spent.is_of(request.email):
        spent = _spend(code, request, holder=spent.holder)
    if isinstance(spent, Redemption):
        _tell(spent, request)
        return spent
    if spent is None:
        return _refuse(VoucherNotFound(), request)
    if spent.reason == Reason.REDEEMED and (redemption := _repeated(spent.voucher, request)):
        return redemption
    _record_attempt(spent.voucher, spent.reason, request)
    return _refuse(REFUSALS[spent.reason](), request)


def _tell(redemption: Redemption, request: RedeemRequest) -> None:
    if request.confirm and redemption.purchase.email:
        queue_notice(redemption.purchase, Delivery.Kind.CONFIRMATION)
    if any(map(is_anybody_told, EVENTS)):
        announce_redeemed(redemption)
        announce_purchase(redemption.purchase)


def _refuse(refusal: DeskError, request: RedeemRequest) -> DeskError:
    if isinstance(refusal, VoucherNotFound):
        request.guesser.record()
    return refusal


def _repeated(voucher: int, request: RedeemRequest) -> Redemption | None:
    """The first answer again, where this very request spent the voucher."""
    redemption = Redemption.objects.select_related("voucher", "purchase").filter(pk=voucher).first()
    return redemption if redemption and request.idempotency_key and _is_by(redemption, request) else None


def _record_attempt(voucher: int, reason: Reason, request: RedeemRequest) -> None:
    """For staff; a row for each reason and caller, so that nobody can fill the table with one code."""
    attempt = RedeemAttempt(voucher_id=voucher, reason=reason, caller=request.guesser.name, times=0)
    RedeemAttempt.objects.bulk_create([attempt], ignore_conflicts=True)
    RedeemAttempt.objects.filter(voucher=voucher, reason=reason, caller=request.guesser.name).update(
        times=F("times") + 1, last_at=Now(), course=request.course_id[:64], email=request.email[:254]
    )


def _is_by(redemption: Redemption, request: RedeemRequest) -> bool:
    return (redemption.caller, redemption.idempotency_key) == (request.guesser.name, request.idempotency_key)


def _spend(
    code: str, request: RedeemRequest, *, holder: str | None = None, free_guesses: int | None = None
) -> Redemption | Refused | None:
    """Has the database spend the voucher, or say why not; nothing is written then. None where there is no such code, or
    where the caller has `free_guesses` behind it or more. `holder` is for an address kept in another case."""
    now = timezone.now()
    purchase = uuid.uuid4()
    given: dict[str, Any] = {
        "code": code,
        "course": request.course_id,
        "holder": request.email if holder is None else holder,
        "email": request.email,
        "language": request.language,
        "guesser": request.guesser.name,
        "key": request.idempotency_key,
        "free_guesses": free_guesses,
        "window": WINDOW,
        "purchase": purchase,
        "token": new_token(),
        "now": now,
        "today": timezone.localdate(now),
    }
    with connection.cursor() as cursor:
        cursor.execute(SPEND, given)
        pk, course, held_by, refusal = cursor.fetchone()
    if pk is None or refusal:
        return Refused(pk, Reason(refusal), held_by) if refusal else None
    facts = (pk, purchase, request.email, request.guesser.name, request.idempotency_key, now)
    redemption = Redemption.from_db(DEFAULT_DB_ALIAS, REDEMPTION_FIELDS, facts)
    redemption.voucher = Voucher.from_db(DEFAULT_DB_ALIAS, ["id", "course_id"], [pk, course])
    return redemption
