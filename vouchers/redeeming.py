"""Redeem: a code is spent at a checkout, once, and a free purchase exists.

One conditional UPDATE decides who won; the free purchase commits with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from courses.models import Course, Purchase
from vouchers.codes import clean_code, fault_of
from vouchers.delivery.outbox import queue_notice
from vouchers.errors import (
    AlreadyRedeemed,
    InvalidCode,
    VoucherExpired,
    VoucherNotFound,
    VoucherOnHold,
    VoucherRevoked,
)
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Redemption, Voucher
from vouchers.outgoing.announcing import announce_purchase, announce_redeemed


@dataclass(frozen=True, kw_only=True)
class RedeemRequest:
    """`code` is as the buyer typed it; `course_id` and `email` are empty where not given. With `confirm` the desk
    itself tells the buyer, by email; a program that redeems has a front end of its own for that."""

    code: str
    guesser: Guesser
    course_id: str = ""
    email: str = ""
    idempotency_key: str = ""
    confirm: bool = False


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
        while voucher := _find(code, request):
            if redemption := _repeat_or_refuse(voucher, request) or _spend(voucher, request):
                return redemption
            # Changed between the look and the update: look again, and say why.
        request.guesser.record()
    raise VoucherNotFound  # outside the transaction, so that the guess is kept


def _find(code: str, request: RedeemRequest) -> Voucher | None:
    """The voucher of a code if it exists for this caller: refusals must not tell an unknown code from another's."""
    try:
        voucher = Voucher.objects.with_code(code).select_related("course").get()
    except Voucher.DoesNotExist:
        return None
    if request.course_id not in ("", voucher.course_id):
        return None
    rule = voucher.course.redemption
    if rule != Course.Redemption.BEARER and voucher.issued_at is None:
        return None
    if rule == Course.Redemption.HOLDER and voucher.issued_to.upper() != request.email.upper():
        return None
    return voucher


def _repeat_or_refuse(voucher: Voucher, request: RedeemRequest) -> Redemption | None:
    """The first answer again where this very request spent the voucher; else raises what its state forbids, if
    it forbids anything."""
    if voucher.status == Voucher.Status.REDEEMED:
        redemption = Redemption.objects.select_related("voucher", "purchase").filter(pk=voucher.pk).first()
        if redemption and request.idempotency_key and _is_by(redemption, request):
            return redemption
        raise AlreadyRedeemed
    if voucher.status == Voucher.Status.REVOKED:
        raise VoucherRevoked
    if voucher.held_since:
        raise VoucherOnHold
    if voucher.is_past:
        raise VoucherExpired
    return None


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
