"""Begin a checkout: the buyer is sent to the provider, and a pending purchase waits for what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext

from courses.models import Course, Purchase
from vouchers.delivery.messages import status_url
from vouchers.errors import InvalidRequest, NotOnSale, SoldOut
from vouchers.models import Issuance, Voucher
from vouchers.payments.orders import Order
from vouchers.payments.providers import find_provider

MOST_SEATS = 100
MOST_MONEY = Decimal(10) ** 10  # what a column of amounts holds


@dataclass(frozen=True)
class Checkout:
    """`redirect_url` is where the buyer pays."""

    purchase: Purchase
    redirect_url: str


def price_of(course: Course) -> Decimal | None:
    """What a seat costs in the shop; None where it cannot be bought there."""
    return course.price if course.on_sale and course.price else None


def is_sold_out(course: Course, quantity: int = 1) -> bool:
    """Whether a course that stops selling when its pool is empty has too few codes, those who wait counted."""
    if not course.stop_when_empty:
        return False
    wanted = quantity + Issuance.objects.waiting(course).count()
    return Voucher.objects.pool(course)[:wanted].count() < wanted


def check_sale(course: Course, quantity: int) -> Decimal:
    """The price of a seat. Raises `InvalidRequest`, `NotOnSale` or `SoldOut`."""
    if not 1 <= quantity <= MOST_SEATS:
        fault = gettext("Choose from 1 to {most} seats.").format(most=MOST_SEATS)
        raise InvalidRequest(f"quantity: {fault}", fields={"quantity": [fault]})
    price = price_of(course)
    if price is None:
        raise NotOnSale(gettext("%(course)s is not on sale.") % {"course": course.name})
    if price * quantity >= MOST_MONEY:
        fault = gettext("So many seats cost more than can be paid at once.")
        raise InvalidRequest(f"quantity: {fault}", fields={"quantity": [fault]})
    if is_sold_out(course, quantity):
        raise SoldOut(_sold_out_in_words(course, quantity))
    return price


def _sold_out_in_words(course: Course, quantity: int) -> str:
    if quantity == 1:
        sentence = gettext("%(course)s is sold out just now. Nothing was charged; please come back later.")
    else:
        sentence = gettext(
            "%(course)s has fewer than %(quantity)d seats left just now. Nothing was charged; please come back later."
        )
    return sentence % {"course": course.name, "quantity": quantity}


def start_checkout(*, course: Course, email: str, quantity: int, provider: str = "", language: str = "") -> Checkout:
    """Sends a buyer to a provider (the first that is set up, where none is named), whose page speaks the language of
    the buyer too, as all emails will; empty where it is not known.

    Raises `InvalidRequest`, `NotOnSale`, `SoldOut`, `ProviderNotReady`, `ProviderRefused` and `ProviderUnreachable`.
    The provider is asked first: a checkout of which we then fail to make a row is one that nobody has an address of.
    """
    price = check_sale(course, quantity)
    chosen = find_provider(provider)
    purchase = Purchase(
        provider=chosen.name,
        course=course,
        email=email,
        language=language,
        quantity=quantity,
        began_here=True,
        unit_price=price,
        agreed_currency=course.currency,
        amount=price * quantity,
        currency=course.currency,
    )
    started = chosen.start(
        Order(
            purchase_id=purchase.pk,
            course=course,
            email=email,
            language=language,
            quantity=quantity,
            unit_price=price,
            success_url=status_url(purchase),
            cancel_url=settings.BASE_URL + reverse("checkout", args=[course.pk]),
        )
    )
    purchase.reference = purchase.checkout = started.checkout
    purchase.save(force_insert=True)
    return Checkout(purchase, started.redirect_url)
