"""Redeem: a code is spent at a checkout, once, and a free purchase exists.

One conditional UPDATE decides who won; the free purchase commits with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from courses.models import Course, Purchase
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
from vouchers.guesses import Guesser
from vouchers.models import Delivery, RedeemAttempt, Redemption, Voucher
from vouchers.outgoing.announcing import announce_purchase, announce_redeemed


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


def redeem_voucher(request: RedeemRequest) -> Redemption:
    """Spends the voucher of a code, or finds that the same request key already did.

    Raises, in this order: `InvalidCode`, `TooManyGuesses`, `VoucherNotFound` (also for a code that is none
    of this caller's business), then what its state forbids.
    """
    code = clean_code(request.code)
    if fault_of(code):
        raise InvalidCode
    with transaction.atomic():
        request.guesser.check()
        result = _try(code, request)
    if isinstance(result, Redemption):
        return result
    raise result  # outside the transaction, so that the guess and the attempt are kept


def _try(code: str, request: RedeemRequest) -> Redemption | DeskError:
    """Spends the voucher, or writes down that it was refused, and why."""
    while voucher := Voucher.objects.with_code(code).select_related("course").first():
        reason = _is_hidden(voucher, request) or _is_closed(voucher)
        if reason is None:
            if redemption := _spend(voucher, request):
                return redemption
            continue  # changed between the look and the update: look again, and say why
        if reason == Reason.REDEEMED and (redemption := _repeated(voucher, request)):
            return redemption
        _record_attempt(voucher, reason, request)
        return _refuse(REFUSALS[reason](), request)
    return _refuse(VoucherNotFound(), request)


def _refuse(refusal: DeskError, request: RedeemRequest) -> DeskError:
    if isinstance(refusal, VoucherNotFound):
        request.guesser.record()
    return refusal


def _is_hidden(voucher: Voucher, request: RedeemRequest) -> Reason | None:
    """Why it is none of this caller's business, if so."""
    if request.course_id not in ("", voucher.course_id):
        return Reason.OTHER_COURSE
    rule = voucher.course.redemption
    if rule != Course.Redemption.BEARER and voucher.issued_at is None:
        return Reason.NEVER_ISSUED
    if rule == Course.Redemption.HOLDER and voucher.issued_to.upper() != request.email.upper():
        return Reason.OTHER_EMAIL
    return None


def _is_closed(voucher: Voucher) -> Reason | None:
    """What its state forbids, if anything."""
    if voucher.status == Voucher.Status.REDEEMED:
        return Reason.REDEEMED
    if voucher.status == Voucher.Status.REVOKED:
        return Reason.REVOKED
    if voucher.held_since:
        return Reason.ON_HOLD
    return Reason.EXPIRED if voucher.is_past else None


def _repeated(voucher: Voucher, request: RedeemRequest) -> Redemption | None:
    """The first answer again, where this very request spent the voucher."""
    redemption = Redemption.objects.select_related("voucher", "purchase").filter(pk=voucher.pk).first()
    return redemption if redemption and request.idempotency_key and _is_by(redemption, request) else None


def _record_attempt(voucher: Voucher, reason: Reason, request: RedeemRequest) -> None:
    """For staff; a row for each reason and caller, so that nobody can fill the table with one code."""
    attempt = RedeemAttempt(voucher=voucher, reason=reason, caller=request.guesser.name, times=0)
    RedeemAttempt.objects.bulk_create([attempt], ignore_conflicts=True)
    RedeemAttempt.objects.filter(voucher=voucher, reason=reason, caller=request.guesser.name).update(
        times=F("times") + 1, last_at=Now(), course=request.course_id[:64], email=request.email[:254]
    )


def _is_by(redemption: Redemption, request: RedeemRequest) -> bool:
    return (redemption.caller, redemption.idempotency_key) == (request.guesser.name, request.idempotency_key)


def _spend(voucher: Voucher, request: RedeemRequest) -> Redemption | None:
    """One conditional update: nobody spent it since, and it is still the one that this caller may spend."""
    now = timezone.now()
    unchanged = Voucher.objects.redeemable().filter(
        pk=voucher.pk, issued_to=voucher.issued_to, issued_at=voucher.issued_at
    )
    if not unchanged.update(status=Voucher.Status.REDEEMED, redeemed_at=now, issued_at=Coalesce("issued_at", now)):
        return None
    purchase = Purchase.objects.create(
        provider=Purchase.Provider.VOUCHER,
        reference=str(voucher.pk),
        course=voucher.course,
        email=request.email or voucher.issued_to,
        amount=0,
        currency=voucher.course.currency,
        language=request.language,
        paid_at=now,
    )
    if request.confirm and purchase.email:
        queue_notice(purchase, Delivery.Kind.CONFIRMATION)
    redemption = Redemption.objects.create(
        voucher=voucher,
        purchase=purchase,
        email=request.email,
        caller=request.guesser.name,
        idempotency_key=request.idempotency_key,
        redeemed_at=now,
    )
    announce_redeemed(redemption)
    announce_purchase(purchase)
    return redemption
