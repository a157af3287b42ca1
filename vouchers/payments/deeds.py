"""What staff do about a payment: find it good all the same, leave it at that, give the money back, take a code back."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from django.db import transaction
from django.db.utils import IntegrityError
from django.utils import timezone

from courses.models import Course, Purchase
from courses.money import is_whole_coins
from vouchers.errors import NotRefundable, NotReturnable, NotReviewable
from vouchers.filling import fill_waiting
from vouchers.models import Issuance, Voucher
from vouchers.payments.providers import find_provider
from vouchers.payments.settling import lock_payment, settle


@transaction.atomic
def accept_purchase(purchase: Purchase, *, course: Course, email: str, quantity: int) -> Purchase:
    """Finds a paid purchase good, for this course, buyer and number of seats, and issues what is owed.

    Raises `NotReviewable`.
    """
    lock_payment(purchase)
    accepted = (
        Purchase.objects.for_review()
        .filter(pk=purchase.pk, paid_at__isnull=False, completed_at=None)
        .update(accepted_at=timezone.now(), reviewed_at=timezone.now(), course=course, email=email, quantity=quantity)
    )
    if not accepted:
        raise NotReviewable(f"Purchase {purchase} is not paid, or not waiting for a review any more.")
    purchase.refresh_from_db()
    return settle(purchase)


def close_review(purchase: Purchase) -> None:
    """Leaves a purchase as it is: staff have seen it. Raises `NotReviewable`."""
    if not Purchase.objects.for_review().filter(pk=purchase.pk).update(reviewed_at=timezone.now()):
        raise NotReviewable(f"Purchase {purchase} is not waiting for a review any more.")


def refundable(purchase: Purchase) -> Decimal:
    """What can still be given back, in major units."""
    return max(Decimal(0), purchase.amount - purchase.refunded_amount)


def price_of_waiting(purchase: Purchase) -> Decimal:
    """What the seats that still wait were paid with, in major units."""
    waiting = Issuance.objects.filter(purchase=purchase, status=Issuance.Status.WAITING).count()
    if waiting == purchase.quantity:
        return refundable(purchase)
    seat = (purchase.amount / purchase.quantity).quantize(Decimal("0.01"), ROUND_DOWN)
    return min(refundable(purchase), seat * waiting)


def refund_purchase(purchase: Purchase, amount: Decimal) -> None:
    """Asks the provider to give the money back. What follows from it comes by webhook, as with every refund.

    Raises `NotRefundable`, `ProviderRefused`, `ProviderNotReady` or `ProviderUnreachable`.
    """
    if purchase.provider == Purchase.Provider.VOUCHER or purchase.paid_at is None:
        raise NotRefundable(f"Purchase {purchase} was not paid with money.")
    if not is_whole_coins(amount, purchase.currency):
        raise NotRefundable(f"{purchase.currency.upper()} has no coins that small.")
    if not 0 < amount <= refundable(purchase):
        raise NotRefundable(f"From 0.01 to {refundable(purchase)} can be refunded of purchase {purchase}.")
    # The same amount asked for twice before the first is known of is one refund.
    key = f"refund {purchase.pk} {purchase.refunded_amount} {amount}"
    find_provider(purchase.provider).refund(purchase, amount, key)


@transaction.atomic
def return_voucher(issuance: Issuance) -> None:
    """Puts the code of a refunded seat back into the pool, where its holder never saw it. Raises `NotReturnable`.

    Whether it was seen is for the database to say (docs/decisions/0001).
    """
    voucher = Voucher.objects.select_for_update().filter(issuances=issuance).first()
    if issuance.status == Issuance.Status.RETURNED:
        raise NotReturnable(f"The code of issuance {issuance.pk} went back into the pool before.")
    if voucher is None or voucher.status != Voucher.Status.REVOKED:
        raise NotReturnable(f"Issuance {issuance.pk} has no revoked voucher. Refund or revoke it first.")
    try:
        with transaction.atomic():
            Issuance.objects.filter(pk=issuance.pk).update(status=Issuance.Status.RETURNED)
            Voucher.objects.filter(pk=voucher.pk).update(
                status=Voucher.Status.AVAILABLE,
                issued_to="",
                issued_at=None,
                revoked_at=None,
                revoked_reason="",
                held_since=None,
            )
    except IntegrityError as error:
        raise NotReturnable(
            f"The code of issuance {issuance.pk} may have been seen: it was shown, told to a program, or stood in an "
            "email. It stays revoked."
        ) from error
    fill_waiting(issuance.course)
