"""What the desk asks of PayPal: orders, captures and refunds, and what became of them."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext

from courses.models import Course, PaymentFact, Purchase
from vouchers.errors import ProviderRefused, ProviderUnreachable
from vouchers.payments.facts import text_of
from vouchers.payments.orders import Order, Started
from vouchers.payments.paypal.client import NAME, Refused, Tree, ask, ask_dispute, is_ready, sdk
from vouchers.payments.paypal.events import (
    facts_of_capture,
    facts_of_dispute,
    facts_of_order,
    order_of,
    payee_of,
    purchase_named,
)

logger = logging.getLogger(__name__)

SOURCE = "reconciliation"
LONGEST_NAME = 127  # of an item
# https://developer.paypal.com/api/rest/reference/currency-codes/
WITHOUT_DECIMALS = frozenset({"huf", "jpy", "twd"})
LOCALES = {"en": "en-US", "de": "de-DE"}  # PayPal's pages want a country too
SEARCH_SPAN = dt.timedelta(days=31)  # the longest PayPal takes
SEARCH_PAGE = 500
SLOWEST = dt.timedelta(days=30)  # an eCheck is a matter of days


class PayPal:
    """The desk's way to PayPal; see `Provider`."""

    name = Purchase.Provider.PAYPAL

    def is_ready(self) -> bool:
        return is_ready()

    def start(self, order: Order) -> Started:
        """The same purchase again is the same order."""
        if order.unit_price % _smallest(order.course.currency):
            # Rounded, it would be another price than ours, and the payment one for staff to look at.
            currency = order.course.currency.upper()
            sentence = gettext("PayPal takes whole %(currency)s only. Choose another way to pay.")
            raise ProviderRefused(sentence % {"currency": currency})
        try:
            made = ask(
                sdk().orders.create_order,
                body=_order_body(order),
                paypal_request_id=f"order-{order.purchase_id}",
                prefer="return=representation",
            )
        except Refused as refusal:
            logger.error("PayPal refused an order of course %s: %s", order.course.pk, refusal)
            raise ProviderRefused(gettext("PayPal does not take this order. Choose another way to pay.")) from None
        links = {text_of(link, "rel"): text_of(link, "href") for link in made.get("links") or []}
        address = links.get("payer-action") or links.get("approve")
        if not text_of(made, "id") or not address:
            raise ProviderUnreachable(NAME)
        return Started(text_of(made, "id"), address)

    def capture(self, checkout: str) -> Tree:
        """Takes the money of an order that its buyer approved; returns the order then, empty where there is none.

        What is not approved, is captured already, or is declined stays as it is. Raises `ProviderUnreachable`.
        """
        order = fetch_order(checkout)
        if text_of(order, "status") != "APPROVED":
            return order
        try:
            # A buyer who was declined may approve again, with another card, and the order has another time then.
            # Two calls at once are of one approval, and one capture.
            key = f"capture-{checkout}-{text_of(order, 'update_time')}"
            ask(sdk().orders.capture_order, id=checkout, paypal_request_id=key)
        except Refused as refusal:
            logger.info("PayPal did not capture an order: %s", refusal)
        return fetch_order(checkout)

    def refund(self, purchase: Purchase, amount: Decimal, key: str) -> None:
        try:
            ask(
                sdk().payments.refund_captured_payment,
                capture_id=purchase.reference,
                paypal_request_id=key,
                body={"amount": _money(amount, purchase.currency)},
            )
        except Refused as refusal:
            reason = refusal.issue or f"HTTP {refusal.status}"
            raise ProviderRefused(f"PayPal refuses to refund this payment ({reason}). Look at it at PayPal.") from None

    def missed(self, since: dt.datetime) -> Iterator[list[PaymentFact]]:
        """Of our own checkouts that are not paid as far as we know, of open disputes, and, where the account may
        search, of all payments that name a course or a purchase.

        Nothing is captured here: a buyer who never came back may not want it.
        """
        facts_on_the_way = PaymentFact.objects.filter(provider=self.name, kind=PaymentFact.Kind.PENDING)
        slow = facts_on_the_way.filter(at__gte=since - SLOWEST).values("reference")
        pending = Purchase.objects.filter(Q(created_at__gte=since) | Q(reference__in=slow), paid_at=None)
        ours = pending.filter(provider=self.name).exclude(checkout="")
        for checkout in list(ours.order_by("created_at").values_list("checkout", flat=True)):
            if facts := facts_of_order(fetch_order(checkout), SOURCE, own_account):
                yield facts
        for dispute_id in _open_disputes():
            if facts := facts_of_dispute(fetch_dispute(dispute_id), SOURCE):
                yield facts
        for capture_id in _searched(since):
            if facts := facts_of_payment(fetch_capture(capture_id), SOURCE):
                yield facts


def _open_disputes() -> list[str]:
    """The ids of those that hold vouchers, however old."""
    disputed = Purchase.objects.filter(provider=Purchase.Provider.PAYPAL, disputed_at__isnull=False)
    facts = PaymentFact.objects.filter(provider=Purchase.Provider.PAYPAL, kind=PaymentFact.Kind.DISPUTED)
    keys = facts.filter(reference__in=disputed.values("reference")).values_list("key", flat=True)
    return sorted({key.partition(" ")[0] for key in keys})


def fetch_order(checkout: str) -> Tree:
    """Empty where PayPal knows none: it forgets those that nobody approved."""
    return _known(sdk().orders.get_order, id=checkout)


def fetch_capture(capture_id: str) -> Tree:
    return _known(sdk().payments.get_captured_payment, capture_id=capture_id)


def fetch_refund(refund_id: str) -> Tree:
    return _known(sdk().payments.get_refund, refund_id=refund_id)


def fetch_dispute(dispute_id: str) -> Tree:
    try:
        return ask_dispute(dispute_id)
    except Refused as refusal:
        return _empty_if_unknown(refusal)


def facts_of_payment(capture: Tree, source: str) -> list[PaymentFact]:
    """The facts of a payment, and of its order as PayPal has it now."""
    order = fetch_order(order_of(capture)) if order_of(capture) else {}
    return facts_of_capture(capture, order, source, own_account)


def own_account() -> str:
    """The merchant id of the desk's own account. Raises `ProviderUnreachable`."""
    return _own_account(settings.PAYPAL_API_HOST, settings.PAYPAL_CLIENT_ID)


@lru_cache(maxsize=4)
def _own_account(host: str, client_id: str) -> str:
    """PayPal tells it nowhere but in an order, so one is made that nobody is asked to pay, and that PayPal forgets."""
    body = {"intent": "CAPTURE", "purchase_units": [{"amount": _money(Decimal(1), "usd")}]}
    try:
        made = ask(sdk().orders.create_order, body=body, prefer="return=representation")
    except Refused as refusal:
        logger.error("PayPal does not tell which account is ours: %s", refusal)
        raise ProviderUnreachable(NAME) from None
    return payee_of((made.get("purchase_units") or [{}])[0])


def _known(call: Any, **options: str) -> Tree:
    """What PayPal has, empty where it has none of this id. Raises `ProviderUnreachable`."""
    try:
        return ask(call, **options)
    except Refused as refusal:
        return _empty_if_unknown(refusal)


def _empty_if_unknown(refusal: Refused) -> Tree:
    if refusal.is_unknown:
        return {}
    # A permission that the account lacks, say: it is for staff to give, and until then nothing is lost.
    logger.error("PayPal refused to tell: %s", refusal)
    raise ProviderUnreachable(NAME) from None


def _order_body(order: Order) -> Tree:
    currency = order.course.currency
    total = _money(order.total, currency)
    item = {
        "name": order.course.name[:LONGEST_NAME],
        "sku": order.course.pk,
        "quantity": str(order.quantity),
        "unit_amount": _money(order.unit_price, currency),
        "category": "DIGITAL_GOODS",
    }
    unit = {
        "custom_id": str(order.purchase_id),
        "invoice_id": str(order.purchase_id),
        "amount": total | {"breakdown": {"item_total": total}},
        "items": [item],
    }
    experience = {
        "user_action": "PAY_NOW",
        "shipping_preference": "NO_SHIPPING",
        "return_url": order.success_url,
        "cancel_url": order.cancel_url,
    }
    if order.language:
        experience["locale"] = LOCALES[order.language]
    return {
        "intent": "CAPTURE",
        "purchase_units": [unit],
        "payment_source": {"paypal": {"experience_context": experience}},
    }


def _money(amount: Decimal, currency: str) -> Tree:
    return {"currency_code": currency.upper(), "value": str(amount.quantize(_smallest(currency)))}


def _smallest(currency: str) -> Decimal:
    """The smallest amount that PayPal takes in a currency; it has its own idea of some."""
    return Decimal(1) if currency in WITHOUT_DECIMALS else Decimal("0.01")


def _searched(since: dt.datetime) -> Iterator[str]:
    """The ids of payments that name a course or a purchase, as far as the account may search."""
    start, now = since, timezone.now()
    try:
        while start < now:
            end = min(start + SEARCH_SPAN, now)
            yield from _searched_between(start, end)
            start = end
    except Refused as refusal:
        logger.warning("PayPal's transaction search is refused, so only checkouts of our own are compared: %s", refusal)


def _searched_between(start: dt.datetime, end: dt.datetime) -> Iterator[str]:
    page, pages = 1, 1
    while page <= pages:
        found = ask(
            sdk().transaction_search.search_transactions,
            start_date=start.isoformat(timespec="seconds"),
            end_date=end.isoformat(timespec="seconds"),
            fields="transaction_info",
            page_size=SEARCH_PAGE,
            page=page,
        )
        for detail in found.get("transaction_details") or []:
            if _is_for_us(text_of(detail, "transaction_info", "custom_field")) and _is_payment(detail):
                yield text_of(detail, "transaction_info", "transaction_id")
        pages = int(text_of(found, "total_pages") or 1)
        page += 1


def _is_payment(detail: Tree) -> bool:
    """T00.. are payments; refunds, reversals and fees have codes of their own, and come with their payment."""
    return text_of(detail, "transaction_info", "transaction_event_code").startswith("T00")


def _is_for_us(custom_field: str) -> bool:
    return Course.objects.filter(pk=custom_field).exists() or purchase_named(custom_field) is not None
