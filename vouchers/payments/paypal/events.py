"""What PayPal's own answers say of a payment, as facts. A webhook's body is never read here: see `webhook.py`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from courses.models import PaymentFact, Purchase
from vouchers.payments.facts import Claims, amount_of, text_of

Kind = PaymentFact.Kind
Tree = Mapping[str, Any]
LIVE_HOST = "https://api-m.paypal.com"
SANDBOX_HOST = "https://api-m.sandbox.paypal.com"

# https://developer.paypal.com/docs/api/payments/v2/#captures_get: what was refunded was paid before.
CAPTURES = {
    "COMPLETED": Kind.PAID,
    "PARTIALLY_REFUNDED": Kind.PAID,
    "REFUNDED": Kind.PAID,
    "PENDING": Kind.PENDING,
    "DECLINED": Kind.FAILED,
    "DENIED": Kind.FAILED,
    "FAILED": Kind.FAILED,
}
REFUNDS = {"COMPLETED": Kind.REFUNDED, "FAILED": Kind.REFUND_FAILED, "CANCELLED": Kind.REFUND_FAILED}
# https://developer.paypal.com/docs/api/customer-disputes/v1/#disputes_get. ACCEPTED and DENIED are of chargebacks.
# An outcome that is not here leaves the dispute open, for staff to see.
OUTCOMES = {
    "RESOLVED_SELLER_FAVOUR": Kind.DISPUTE_WON,
    "CANCELED_BY_BUYER": Kind.DISPUTE_WON,
    "DENIED": Kind.DISPUTE_WON,
    "NONE": Kind.DISPUTE_WON,
    "RESOLVED_BUYER_FAVOUR": Kind.DISPUTE_LOST,
    "RESOLVED_WITH_PAYOUT": Kind.DISPUTE_LOST,
    "ACCEPTED": Kind.DISPUTE_LOST,
}


def facts_of_order(order: Tree, source: str, own_account: Callable[[], str]) -> list[PaymentFact]:
    """The facts of every payment of an order; none where nothing was captured."""
    return [
        fact
        for unit in _listed(order, "purchase_units")
        for capture in _listed(unit, "payments", "captures")
        for fact in facts_of_capture(capture, order, source, own_account)
    ]


def facts_of_capture(capture: Tree, order: Tree, source: str, own_account: Callable[[], str]) -> list[PaymentFact]:
    """The facts of a payment; of its order, empty where PayPal knows none, come the buyer and the refunds.

    `own_account` is the merchant id that payments are to be made to; called only where the order is not the desk's.
    """
    kind, reference = CAPTURES.get(text_of(capture, "status")), text_of(capture, "id")
    if kind is None or not reference:
        return []
    unit = _unit_of(order, reference)
    paid = PaymentFact(
        provider=Purchase.Provider.PAYPAL,
        reference=reference,
        kind=kind,
        key=reference,
        amount=_amount(capture),
        at=_time(capture, "update_time" if kind == Kind.FAILED else "create_time"),
        source=source,
        claims=_claims(capture, order, unit, own_account).as_json(),
    )
    return [paid, *_refunds_of(capture, unit, source)]


def facts_of_refund(refund: Tree, source: str) -> list[PaymentFact]:
    """None while it is on its way."""
    kind, reference = REFUNDS.get(text_of(refund, "status")), capture_of(refund)
    if kind is None or not reference:
        return []
    return [_gone_back(kind, reference, text_of(refund, "id"), refund, source)]


def facts_of_reversal(capture: Tree, source: str) -> list[PaymentFact]:
    """PayPal took the whole payment back."""
    reference = text_of(capture, "id")
    return [_gone_back(Kind.REFUNDED, reference, reference, capture, source)]


def facts_of_dispute(dispute: Tree, source: str) -> list[PaymentFact]:
    """That each of the payments is disputed, and, where it is over, how it ended."""
    return [
        fact
        for transaction in _listed(dispute, "disputed_transactions")
        if text_of(transaction, "seller_transaction_id")
        for fact in _facts_of_disputed(dispute, transaction, source)
    ]


def capture_of(refund: Tree) -> str:
    """The id of the payment a refund is of: a refund names it in a link only."""
    return next((_last_part(link) for link in _listed(refund, "links") if text_of(link, "rel") == "up"), "")


def order_of(capture: Tree) -> str:
    return text_of(capture, "supplementary_data", "related_ids", "order_id")


def purchase_named(custom_id: str) -> Purchase | None:
    """The purchase that began here under this reference."""
    try:
        return Purchase.objects.filter(pk=UUID(custom_id), provider=Purchase.Provider.PAYPAL).first()
    except ValueError:
        return None


def payee_of(unit: Tree) -> str:
    """To whom it is paid: the merchant id, or the email of somebody who has no account yet."""
    return text_of(unit, "payee", "merchant_id") or text_of(unit, "payee", "email_address")


def is_live() -> bool | None:
    """Whether the host is the one where real money moves; None for a host that is not PayPal's."""
    return {LIVE_HOST: True, SANDBOX_HOST: False}.get(settings.PAYPAL_API_HOST)


def _claims(capture: Tree, order: Tree, unit: Tree, own_account: Callable[[], str]) -> Claims:
    custom_id = text_of(capture, "custom_id") or text_of(unit, "custom_id")
    checkout = text_of(order, "id") or order_of(capture)
    purchase, payee = purchase_named(custom_id), payee_of(unit)
    # Anybody may write the id of a purchase into an order of theirs; only the desk made the order of its checkout.
    ours = purchase is not None and purchase.checkout == checkout
    return Claims(
        course_id="" if ours else custom_id,
        email="" if ours else _email_of(order),
        quantity=_quantity_of(unit),
        net=str(min(_net_of(unit, capture), _amount(capture))),
        gross=str(_amount(capture)),
        currency=text_of(capture, "amount", "currency_code").lower(),
        checkout=checkout,
        # A shop's page makes its orders in the buyer's browser, where the buyer may name another payee.
        account="" if ours or not payee or payee == own_account() else payee,
        live=is_live(),
        precise=True,
    )


def _email_of(order: Tree) -> str:
    return text_of(order, "payer", "email_address") or text_of(order, "payment_source", "paypal", "email_address")


def _quantity_of(unit: Tree) -> str:
    quantities = [text_of(item, "quantity") for item in _listed(unit, "items")]
    if not quantities:
        return "1"
    if not all(quantity.isascii() and quantity.isdigit() and len(quantity) <= 10 for quantity in quantities):
        return quantities[0]  # no number, and told as it is
    return str(sum(map(int, quantities)))


def _net_of(unit: Tree, capture: Tree) -> Decimal:
    """Before tax and after discounts, as far as the order says; a capture of a part of it is worth that part only."""
    items = text_of(unit, "amount", "breakdown", "item_total", "value")
    if not items:
        return _amount(capture)
    return max(amount_of(items) - amount_of(text_of(unit, "amount", "breakdown", "discount", "value")), Decimal(0))


def _refunds_of(capture: Tree, unit: Tree, source: str) -> list[PaymentFact]:
    refunds = [refund for refund in _listed(unit, "payments", "refunds") if capture_of(refund) == capture["id"]]
    if not refunds and text_of(capture, "status") == "REFUNDED":
        return facts_of_reversal(capture, source)
    return [fact for refund in refunds for fact in facts_of_refund(refund, source)]


def _gone_back(kind: PaymentFact.Kind, reference: str, key: str, tree: Tree, source: str) -> PaymentFact:
    return PaymentFact(
        provider=Purchase.Provider.PAYPAL,
        reference=reference,
        kind=kind,
        key=key,
        amount=_amount(tree),
        at=_time(tree, "update_time"),
        source=source,
    )


def _facts_of_disputed(dispute: Tree, transaction: Tree, source: str) -> Iterator[PaymentFact]:
    outcome = text_of(dispute, "dispute_outcome", "outcome_code")
    yield _disputed(Kind.DISPUTED, dispute, transaction, source)
    if text_of(dispute, "status") == "RESOLVED" and outcome in OUTCOMES:
        yield _disputed(OUTCOMES[outcome], dispute, transaction, source)


def _disputed(kind: PaymentFact.Kind, dispute: Tree, transaction: Tree, source: str) -> PaymentFact:
    reference = text_of(transaction, "seller_transaction_id")
    return PaymentFact(
        provider=Purchase.Provider.PAYPAL,
        reference=reference,
        kind=kind,
        # One dispute may be of several payments, and a fact is of one.
        key=f"{text_of(dispute, 'dispute_id')} {reference}",
        amount=_disputed_amount(kind, dispute, transaction),
        at=_time(dispute, "create_time" if kind == Kind.DISPUTED else "update_time"),
        source=source,
    )


def _disputed_amount(kind: PaymentFact.Kind, dispute: Tree, transaction: Tree) -> Decimal:
    if len(_listed(dispute, "disputed_transactions")) > 1:
        return amount_of(text_of(transaction, "gross_amount", "value"))
    refunded = text_of(dispute, "dispute_outcome", "amount_refunded", "value")
    asked = text_of(dispute, "dispute_amount", "value")
    return amount_of(refunded if kind == Kind.DISPUTE_LOST and refunded else asked)


def _unit_of(order: Tree, capture_id: str) -> Tree:
    """The part of an order that a capture paid."""
    units = _listed(order, "purchase_units")
    captured = (
        unit
        for unit in units
        if any(text_of(capture, "id") == capture_id for capture in _listed(unit, "payments", "captures"))
    )
    return next(captured, units[0] if len(units) == 1 else {})


def _listed(tree: Tree, *path: str) -> list[Tree]:
    """The objects of a list at a path; none where there is no list."""
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _last_part(link: Tree) -> str:
    return text_of(link, "href").rstrip("/").rpartition("/")[2]


def _amount(tree: Tree) -> Decimal:
    return amount_of(text_of(tree, "amount", "value"))


def _time(tree: Tree, name: str) -> dt.datetime:
    """By PayPal's clock; ours where it says nothing."""
    try:
        time = dt.datetime.fromisoformat(text_of(tree, name) or text_of(tree, "create_time"))
    except ValueError:
        return timezone.now()
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
