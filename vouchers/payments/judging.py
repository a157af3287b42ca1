"""Whether a payment is good: for a course we have, in its currency, to the desk's own account, and enough.

What is not good is kept and shown to staff; nothing is issued for it.
"""

from __future__ import annotations

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from courses.models import Course, Purchase
from courses.money import in_words
from vouchers.payments.facts import MOST_SEATS, Claims
from vouchers.payments.stripe.api import takes_real_money


def faults_of(purchase: Purchase, claims: Claims) -> list[str]:
    """Why this payment is not good, as sentences for staff; empty where it is."""
    recurring = "It is a subscription, and not a payment for once." if claims.recurring else ""
    faults = [
        recurring,
        _fault_of_account(purchase, claims),
        _fault_of_buyer(purchase, claims),
        _fault_of_seats(purchase, claims),
    ]
    if purchase.course is None:
        faults.append(_unknown_course(claims.course_id))
    else:
        faults.append(fault_of_amount(purchase, purchase.course, claims))
    return [fault for fault in faults if fault]


def _unknown_course(course_id: str) -> str:
    return f"There is no course {course_id!r}." if course_id else "It does not say which course it is for."


def _fault_of_account(purchase: Purchase, claims: Claims) -> str:
    if claims.account:
        return f"It was paid to another account, {claims.account}."
    if purchase.provider != Purchase.Provider.STRIPE or claims.live is None:
        return ""
    desk_is_live = takes_real_money()
    if desk_is_live and not claims.live:
        return "It is a test payment, and this desk takes real ones."
    if desk_is_live is False and claims.live:
        return "It is a real payment, and this desk has a test key."
    return ""


def _fault_of_buyer(purchase: Purchase, claims: Claims) -> str:
    if not purchase.email:
        return "Its email is longer than any can be." if claims.email else "It has no email."
    try:
        validate_email(purchase.email)
    except ValidationError:
        return f"{purchase.email!r} is no email address to send a voucher to."
    return ""


def _fault_of_seats(purchase: Purchase, claims: Claims) -> str:
    if not purchase.began_here and claims.seats is None:
        return f"Its quantity, {claims.quantity!r}, is no number from 1 to {MOST_SEATS}."
    return ""


def fault_of_amount(purchase: Purchase, course: Course, claims: Claims) -> str:
    price, currency = terms_of(purchase, course)
    paid = in_words(claims.net_amount, claims.currency)
    if claims.net_amount == 0:
        return "Nothing was paid: it was discounted wholly."
    # Before the amount: 49 of another currency may be next to nothing.
    if claims.currency != currency:
        return f"{paid} were paid, and the course is sold in {currency.upper()}."
    if price is not None and claims.net_amount < price * purchase.quantity:
        wanted = in_words(price * purchase.quantity, currency)
        return f"{paid} were paid after discounts and before tax, and {wanted} are asked."
    return ""


def terms_of(purchase: Purchase, course: Course) -> tuple[Decimal | None, str]:
    """The price of a seat and its currency: as agreed when the checkout began or the payment was found good, because a
    price may change afterwards; until then what the course asks."""
    if purchase.agreed_currency:
        return purchase.unit_price, purchase.agreed_currency
    return course.price, course.currency
