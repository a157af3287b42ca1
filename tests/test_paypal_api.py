"""What the desk asks of PayPal over real HTTP: checkouts, the return page, refunds, and what it missed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import uuid
from decimal import Decimal

import pytest
from django.utils import timezone
from pytest_django import Settings

from courses.models import Course, PaymentFact, Purchase
from tests.factories import CourseFactory, PurchaseFactory, make_pool
from tests.paypal_account import PayPalServer
from vouchers.errors import ProviderRefused, ProviderUnreachable
from vouchers.models import Issuance
from vouchers.payments.orders import Order, Provider
from vouchers.payments.paypal import client
from vouchers.payments.paypal.api import PayPal
from vouchers.payments.paypal.events import facts_of_capture, is_live
from vouchers.payments.paypal.returning import capture_returning

pytest_plugins = ["tests.paypal_server"]
pytestmark = pytest.mark.django_db

Kind = PaymentFact.Kind


@pytest.fixture
def course(db: None) -> Course:
    course = CourseFactory.create(id="JS101", name="JavaScript Basics", price="49.00")
    make_pool(course, 5)
    return course


def order_for(course: Course, quantity: int = 2, purchase_id: uuid.UUID | None = None) -> Order:
    return Order(
        purchase_id=purchase_id or uuid.uuid4(),
        course=course,
        email="ann@example.com",
        quantity=quantity,
        unit_price=Decimal("49.00"),
        success_url="https://shop.example/paid",
        cancel_url="https://shop.example/cancelled",
    )


def started(course: Course, quantity: int = 1) -> Purchase:
    """A checkout of ours, begun at PayPal."""
    order = order_for(course, quantity)
    checkout = PayPal().start(order).checkout
    return PurchaseFactory.create(
        id=order.purchase_id,
        provider="paypal",
        course=course,
        unit_price="49.00",
        began_here=True,
        agreed_currency="usd",
        amount=order.total,
        quantity=quantity,
        checkout=checkout,
        reference=checkout,
    )


# Checkouts --------------------------------------------------------------------------------------------


def test_it_is_ready_with_both_of_its_keys(paypal: PayPalServer, settings: Settings) -> None:
    provider: Provider = PayPal()
    assert provider.is_ready()

    settings.PAYPAL_CLIENT_SECRET = ""
    assert not provider.is_ready()


def test_it_makes_an_order_and_says_where_to_pay(paypal: PayPalServer, course: Course) -> None:
    order = order_for(course)
    begun = PayPal().start(order)

    made = paypal.orders[begun.checkout]
    (unit,) = made["purchase_units"]
    assert begun.redirect_url == f"https://paypal.example/checkoutnow?token={begun.checkout}"
    assert made["intent"] == "CAPTURE"
    assert unit["custom_id"] == unit["invoice_id"] == str(order.purchase_id)
    assert unit["amount"] == {
        "currency_code": "USD",
        "value": "98.00",
        "breakdown": {"item_total": {"currency_code": "USD", "value": "98.00"}},
    }
    assert [(item["name"], item["quantity"]) for item in unit["items"]] == [("JavaScript Basics", "2")]
    context = made["payment_source"]["paypal"]["experience_context"]
    assert context["user_action"] == "PAY_NOW"
    assert context["return_url"] == "https://shop.example/paid"
    assert context["cancel_url"] == "https://shop.example/cancelled"


def test_it_makes_one_order_for_one_purchase(paypal: PayPalServer, course: Course) -> None:
    order = order_for(course)

    assert PayPal().start(order) == PayPal().start(order)
    assert len(paypal.orders) == 1


@pytest.mark.parametrize(("currency", "value"), [("eur", "98.00"), ("jpy", "98"), ("huf", "98")])
def test_it_writes_amounts_as_paypal_wants_them(
    paypal: PayPalServer, course: Course, currency: str, value: str
) -> None:
    course.currency = currency
    begun = PayPal().start(order_for(course))

    amount = paypal.orders[begun.checkout]["purchase_units"][0]["amount"]
    assert (amount["currency_code"], amount["value"]) == (currency.upper(), value)


def test_it_rounds_no_price(paypal: PayPalServer, course: Course) -> None:
    """Stripe has halves of a forint, PayPal has not: rounded, each payment would be one for staff to look at."""
    course.currency = "huf"
    order = dataclasses.replace(order_for(course), unit_price=Decimal("48.50"))

    with pytest.raises(ProviderRefused, match="PayPal takes whole HUF only"):
        PayPal().start(order)
    assert not paypal.orders


def test_it_says_so_where_paypal_does_not_take_the_order(paypal: PayPalServer, course: Course) -> None:
    course.currency = "xts"

    with pytest.raises(ProviderRefused, match="Choose another way to pay"):
        PayPal().start(order_for(course))


# PayPal away ------------------------------------------------------------------------------------------


def test_it_says_that_paypal_is_away(paypal: PayPalServer, course: Course) -> None:
    purchase = started(course)
    paypal.down = True

    with pytest.raises(ProviderUnreachable):
        PayPal().start(order_for(course))
    with pytest.raises(ProviderUnreachable):
        capture_returning(purchase)
    with pytest.raises(ProviderUnreachable):
        PayPal().refund(purchase, Decimal(1), "key")
    with pytest.raises(ProviderUnreachable):
        list(PayPal().missed(timezone.now() - dt.timedelta(days=1)))


def test_it_says_that_paypal_is_away_where_nobody_listens(
    paypal: PayPalServer, course: Course, settings: Settings
) -> None:
    settings.PAYPAL_API_HOST = "http://127.0.0.1:9"

    with pytest.raises(ProviderUnreachable):
        PayPal().start(order_for(course))


@pytest.mark.parametrize("status", [200, 302, 401, 429, 500, 502, 503])
def test_it_takes_no_page_of_a_proxy_for_an_answer(paypal: PayPalServer, course: Course, status: int) -> None:
    started(course)  # there is a token
    paypal.page = status

    with pytest.raises(ProviderUnreachable):
        PayPal().start(order_for(course))
    with pytest.raises(ProviderUnreachable):
        client.ask_dispute("PP-D-1")


def test_it_logs_neither_emails_nor_tokens(
    paypal: PayPalServer, course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    purchase = started(course)
    paypal.declining = True
    paypal.approve(purchase.checkout)
    capture_returning(purchase)
    paypal.down = True
    with pytest.raises(ProviderUnreachable):
        capture_returning(purchase)

    assert "INSTRUMENT_DECLINED" in caplog.text
    for secret in ("@example.com", paypal.token, "Y2xpZW50OnNlY3JldA"):
        assert secret not in caplog.text


# The return page --------------------------------------------------------------------------------------


def test_it_captures_what_the_buyer_approved(paypal: PayPalServer, course: Course) -> None:
    purchase = started(course, 2)
    paypal.approve(purchase.checkout)
    capture_returning(purchase)

    purchase.refresh_from_db()
    assert purchase.paid_at is not None
    assert purchase.reference in paypal.captures
    assert PaymentFact.objects.get().source == "return page"
    assert [issuance.email for issuance in Issuance.objects.all()] == ["ann@example.com"] * 2


def test_it_captures_once_however_often_the_buyer_comes_back(paypal: PayPalServer, course: Course) -> None:
    purchase = started(course)
    paypal.approve(purchase.checkout)
    for _ in range(3):
        capture_returning(purchase)

    assert len(paypal.captures) == Issuance.objects.count() == 1
    assert paypal.asked.count(f"POST /v2/checkout/orders/{purchase.checkout}/capture") == 1


def test_it_does_nothing_before_the_buyer_approved(paypal: PayPalServer, course: Course) -> None:
    purchase = started(course)
    capture_returning(purchase)

    assert not paypal.captures
    assert not PaymentFact.objects.exists()


def test_it_captures_at_the_second_try_of_a_declined_buyer(paypal: PayPalServer, course: Course) -> None:
    purchase = started(course)
    paypal.approve(purchase.checkout)
    paypal.declining = True
    capture_returning(purchase)
    assert not PaymentFact.objects.exists()

    paypal.declining = False
    paypal.approve(purchase.checkout)
    paypal.orders[purchase.checkout]["update_time"] = "2030-01-01T00:00:00Z"
    capture_returning(purchase)
    assert Issuance.objects.count() == 1


@pytest.mark.parametrize(("status", "kind"), [("PENDING", Kind.PENDING), ("DECLINED", Kind.FAILED)])
def test_it_keeps_what_became_of_a_capture_that_brought_nothing(
    paypal: PayPalServer, course: Course, status: str, kind: PaymentFact.Kind
) -> None:
    purchase = started(course)
    paypal.approve(purchase.checkout)
    paypal.capture_status = status
    capture_returning(purchase)

    assert PaymentFact.objects.get().kind == kind
    assert not Issuance.objects.exists()


def test_it_does_nothing_for_an_order_that_paypal_has_forgotten(paypal: PayPalServer, course: Course) -> None:
    purchase = started(course)
    del paypal.orders[purchase.checkout]
    capture_returning(purchase)

    assert not PaymentFact.objects.exists()


# Refunds ----------------------------------------------------------------------------------------------


def test_it_asks_for_a_refund_once(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101", "98.00"))
    purchase = PurchaseFactory.create(provider="paypal", reference=capture, currency="usd")
    for _ in range(2):
        PayPal().refund(purchase, Decimal(49), "refund-1")

    assert [refund["amount"]["value"] for refund in paypal.refunds.values()] == ["49.00"]


@pytest.mark.parametrize("is_known", [True, False])
def test_it_says_why_paypal_refuses_a_refund(paypal: PayPalServer, course: Course, is_known: bool) -> None:
    capture = paypal.pay(paypal.add_order("JS101"))
    paypal.refund(capture, "49.00")
    purchase = PurchaseFactory.create(provider="paypal", reference=capture if is_known else "UNKNOWN")

    with pytest.raises(ProviderRefused, match="CAPTURE_FULLY_REFUNDED" if is_known else "INVALID_RESOURCE_ID"):
        PayPal().refund(purchase, Decimal(49), "refund-1")


# What was missed --------------------------------------------------------------------------------------


def missed(days: int = 1) -> list[tuple[str, str]]:
    found = PayPal().missed(timezone.now() - dt.timedelta(days=days))
    return [(fact.kind, fact.key) for facts in found for fact in facts]


def test_it_finds_a_paid_checkout_of_which_no_event_came(paypal: PayPalServer, course: Course) -> None:
    paid, _unpaid = started(course), started(course)
    capture = paypal.pay(paid.checkout)
    paypal.search_permitted = False

    assert missed() == [(Kind.PAID, capture)]


def test_it_captures_nothing_by_itself(paypal: PayPalServer, course: Course) -> None:
    paypal.approve(started(course).checkout)

    assert missed() == []
    assert not paypal.captures


def test_it_asks_only_of_what_is_recent_and_not_paid(paypal: PayPalServer, course: Course) -> None:
    old, done = started(course), started(course)
    for purchase in (old, done):
        paypal.pay(purchase.checkout)
    Purchase.objects.filter(pk=old.pk).update(created_at=timezone.now() - dt.timedelta(days=2))
    Purchase.objects.filter(pk=done.pk).update(paid_at=timezone.now())

    assert missed() == []


def test_it_finds_payments_of_other_shops_by_the_search(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101"))
    refund = paypal.refund(capture, "9.00")
    code = {"transaction_event_code": "T0006"}
    paypal.transactions = [
        {"transaction_id": "OTHER", "custom_field": "a chair"} | code,
        {"transaction_id": "NOTHING"} | code,
        {"transaction_id": capture, "custom_field": "JS101"} | code,
        {"transaction_id": refund, "custom_field": "JS101", "transaction_event_code": "T1107"},
        {"transaction_id": "FORGOTTEN", "custom_field": "JS101"} | code,
    ]

    assert missed() == [(Kind.PAID, capture), (Kind.REFUNDED, refund)]
    fetched = [line.rpartition("/")[2] for line in paypal.asked if line.startswith("GET /v2/payments/captures/")]
    assert fetched == [capture, "FORGOTTEN"]


def test_it_searches_a_month_at_a_time(paypal: PayPalServer, course: Course) -> None:
    assert missed(days=70) == []
    assert paypal.asked.count("GET /v1/reporting/transactions") == 3


# Facts ------------------------------------------------------------------------------------------------


def claims_of(paypal: PayPalServer, order_id: str) -> dict[str, str]:
    capture = paypal.captures[paypal.pay(order_id)]
    fact = facts_of_capture(capture, paypal.orders[order_id], "a test", lambda: "OURMERCHANT01")[0]
    return {name: fact.claims[name] for name in ("net", "gross", "currency", "quantity", "course_id", "email")}


def test_it_tells_tax_and_discount_from_the_price(paypal: PayPalServer) -> None:
    breakdown = {"item_total": "100.00", "discount": "10.00", "tax_total": "17.10", "shipping": "5.00"}
    amount = {"currency_code": "EUR", "value": "112.10"}
    order = paypal.add_order("JS101")
    parts = {name: {"currency_code": "EUR", "value": value} for name, value in breakdown.items()}
    paypal.orders[order]["purchase_units"][0]["amount"] = amount | {"breakdown": parts}

    claims = claims_of(paypal, order)
    assert (claims["net"], claims["gross"], claims["currency"]) == ("90.00", "112.10", "eur")


def test_it_counts_no_more_than_was_captured(paypal: PayPalServer) -> None:
    order = paypal.add_order("JS101")
    capture = paypal.captures[paypal.pay(order)]
    parts = {"item_total": {"currency_code": "USD", "value": "49.00"}}
    paypal.orders[order]["purchase_units"][0]["amount"]["breakdown"] = parts
    capture["amount"]["value"] = "10.00"

    (fact,) = facts_of_capture(capture, paypal.orders[order], "a test", lambda: "OURMERCHANT01")
    assert fact.claims["net"] == "10.00"


@pytest.mark.parametrize(
    ("items", "quantity"),
    [
        ([], "1"),
        ([{"quantity": "3"}], "3"),
        ([{"quantity": "3"}, {"quantity": "4"}], "7"),
        ([{"quantity": "many"}], "many"),
        ([{"name": "no quantity"}], ""),
    ],
)
def test_it_counts_the_items(paypal: PayPalServer, items: list[dict[str, str]], quantity: str) -> None:
    assert claims_of(paypal, paypal.add_order("JS101", items=items))["quantity"] == quantity


def test_it_takes_a_reference_that_is_not_ours_for_a_course(paypal: PayPalServer, course: Course) -> None:
    foreign, ours = str(uuid.uuid4()), started(course)

    assert claims_of(paypal, paypal.add_order(foreign))["course_id"] == foreign
    claims = claims_of(paypal, ours.checkout)
    assert (claims["course_id"], claims["email"]) == ("", "")


@pytest.mark.parametrize(
    ("host", "live"),
    [("https://api-m.paypal.com", True), ("https://api-m.sandbox.paypal.com", False), ("https://own.example", None)],
)
def test_it_says_whether_real_money_moved(settings: Settings, host: str, live: bool | None) -> None:
    settings.PAYPAL_API_HOST = host

    assert is_live() is live
