"""django-oscar's voucher sets, used as its own dashboard and its own checkout use them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from oscar.apps.offer.models import Benefit, Condition, ConditionalOffer, Range
from oscar.apps.order.models import Order
from oscar.apps.voucher.models import Voucher, VoucherSet

BUYER = AnonymousUser()
NOW = timezone.now()


class NotAvailable(Exception):
    """The voucher was used before, or is not valid now."""


def prepare() -> None:
    """An offer that the vouchers stand for, and the order that they are used in."""
    call_command("migrate", verbosity=0)
    everything = Range.objects.create(name="Everything", includes_all_products=True)
    ConditionalOffer.objects.create(
        name="Free course",
        offer_type=ConditionalOffer.VOUCHER,
        condition=Condition.objects.create(range=everything, type=Condition.COUNT, value=1),
        benefit=Benefit.objects.create(range=everything, type=Benefit.PERCENTAGE, value=100),
    )
    free = Decimal(0)
    Order.objects.create(
        number="1", total_incl_tax=free, total_excl_tax=free, shipping_incl_tax=free, shipping_excl_tax=free
    )


@transaction.atomic
def store(codes: Iterable[str]) -> None:
    """As the form of its dashboard does, which asks whether a code exists before it makes it; ours exist already."""
    offer = ConditionalOffer.objects.get()
    validity = {"start_datetime": NOW, "end_datetime": NOW + dt.timedelta(days=365)}
    of_now = VoucherSet.objects.create(name=f"Set {VoucherSet.objects.count() + 1}", count=0, **validity)
    for code in codes:
        voucher = Voucher.objects.create(name=code, code=code, voucher_set=of_now, usage=Voucher.SINGLE_USE, **validity)
        voucher.offers.add(offer)
    of_now.update_count()


@transaction.atomic
def redeem(code: str) -> None:
    """As its checkout does at the end, for an order that is there already."""
    voucher = Voucher.objects.get(code=code)
    available, why = voucher.is_available_to_user(BUYER)
    if not available or not voucher.is_active():
        raise NotAvailable(why)
    voucher.record_usage(Order.objects.get(), BUYER)
