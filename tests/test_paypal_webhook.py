"""PayPal's webhook from end to end: signed for real, sent over the API, and PayPal asked before anything is done."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from zlib import crc32

import pytest
from django.db import connection
from django.http import HttpResponse
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from courses.models import Course, PaymentFact, Purchase
from tests.factories import CourseFactory, PurchaseFactory, make_pool
from tests.paypal_account import OWN_ACCOUNT, PayPalServer, Tree
from vouchers.models import Issuance
from vouchers.payments import settling
from vouchers.payments.reconciling import reconcile

pytest_plugins = ["tests.paypal_server"]
pytestmark = pytest.mark.django_db

Kind = PaymentFact.Kind
COMPLETED = "PAYMENT.CAPTURE.COMPLETED"


def deliver(paypal: PayPalServer, body: bytes, headers: dict[str, str] | None = None) -> HttpResponse:
    client = APIClient(raise_request_exception=False)
    headers = paypal.sign(body) if headers is None else headers
    return client.post("/webhooks/paypal/", body, content_type="application/json", headers=headers)


def tell(paypal: PayPalServer, event_type: str, resource: Tree, resource_type: str = "capture") -> HttpResponse:
    response = deliver(paypal, paypal.event(event_type, resource, resource_type))
    assert response.status_code == 200, response.content
    return response


def answer_of(response: HttpResponse) -> tuple[int, str]:
    body = json.loads(response.content)
    assert set(body) == {"error", "code", "requestId"}
    return response.status_code, body["code"]


def facts() -> list[tuple[str, str, str, Decimal]]:
    rows = PaymentFact.objects.order_by("kind", "key")
    return [(fact.kind, fact.reference, fact.key, fact.amount) for fact in rows]


def nothing_happened() -> bool:
    return not (PaymentFact.objects.exists() or Purchase.objects.exists() or Issuance.objects.exists())


@pytest.fixture
def course(db: None) -> Course:
    course = CourseFactory.create(id="JS101", price="49.00")
    make_pool(course, 5)
    return course


def checkout_of_ours(paypal: PayPalServer, course: Course, **fields: Any) -> Purchase:
    """A purchase that began in the desk's shop, with its order at PayPal."""
    purchase = PurchaseFactory.build(
        provider="paypal",
        course=course,
        unit_price="49.00",
        began_here=True,
        agreed_currency="usd",
        amount="49.00",
        email="ann@example.com",
        **fields,
    )
    purchase.checkout = purchase.reference = paypal.add_order(str(purchase.id))
    purchase.save()
    return purchase


# A payment --------------------------------------------------------------------------------------------


def test_it_issues_for_a_payment_that_names_a_course(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101"), email="bob@example.com")
    response = tell(paypal, COMPLETED, paypal.captures[capture])

    assert json.loads(response.content) == {"received": True}
    purchase = Purchase.objects.get()
    assert (purchase.provider, purchase.reference, purchase.course) == ("paypal", capture, course)
    assert (purchase.amount, purchase.currency, purchase.live) == (Decimal("49.00"), "usd", None)
    assert [issuance.email for issuance in Issuance.objects.all()] == ["bob@example.com"]


def test_it_issues_for_a_checkout_of_ours_to_its_own_email(paypal: PayPalServer, course: Course) -> None:
    purchase = checkout_of_ours(paypal, course)
    capture = paypal.pay(purchase.checkout, email="another@example.com")
    tell(paypal, COMPLETED, paypal.captures[capture])

    purchase.refresh_from_db()
    assert purchase.paid_at is not None
    assert purchase.reference == capture
    assert Issuance.objects.get().email == "ann@example.com"
    assert Purchase.objects.count() == 1
    assert "POST /v2/checkout/orders" not in paypal.asked


def test_it_counts_the_seats_of_an_order(paypal: PayPalServer, course: Course) -> None:
    order = paypal.add_order("JS101", "147.00", items=[{"quantity": "2"}, {"quantity": "1"}])
    tell(paypal, COMPLETED, paypal.captures[paypal.pay(order)])

    assert Issuance.objects.count() == 3


def test_it_takes_what_paypal_says_and_not_what_the_event_says(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101", "1.00"))
    lie = paypal.captures[capture] | {"amount": {"currency_code": "USD", "value": "49.00"}, "custom_id": "PY200"}
    tell(paypal, COMPLETED, lie)

    purchase = Purchase.objects.get()
    assert (purchase.amount, purchase.course) == (Decimal("1.00"), course)
    assert purchase.review
    assert not Issuance.objects.exists()


def test_it_leaves_a_payment_to_another_account_to_staff(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101", payee={"merchant_id": "A-THIEF"}))
    tell(paypal, COMPLETED, paypal.captures[capture])

    assert Purchase.objects.get().review == "It was paid to another account, A-THIEF."
    assert not Issuance.objects.exists()


def test_it_takes_no_order_of_somebody_else_for_a_checkout_of_ours(paypal: PayPalServer, course: Course) -> None:
    purchase = checkout_of_ours(paypal, course)
    capture = paypal.pay(paypal.add_order(str(purchase.id)))
    tell(paypal, COMPLETED, paypal.captures[capture])

    purchase.refresh_from_db()
    assert purchase.paid_at is None
    assert Purchase.objects.get(reference=capture).review == f"There is no course '{purchase.id}'."
    assert not Issuance.objects.exists()


def test_it_learns_its_own_account_once(paypal: PayPalServer, course: Course) -> None:
    for _ in range(2):
        tell(paypal, COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])

    assert paypal.asked.count("POST /v2/checkout/orders") == 1
    assert Issuance.objects.count() == 2


def test_it_waits_for_a_payment_on_its_way(paypal: PayPalServer, course: Course) -> None:
    purchase = checkout_of_ours(paypal, course)
    capture = paypal.pay(purchase.checkout, "PENDING")
    tell(paypal, "PAYMENT.CAPTURE.PENDING", paypal.captures[capture])

    assert facts() == [(Kind.PENDING, capture, capture, Decimal("49.00"))]
    assert not Issuance.objects.exists()

    paypal.captures[capture]["status"] = "COMPLETED"
    tell(paypal, COMPLETED, paypal.captures[capture])
    assert Issuance.objects.count() == 1


def test_it_issues_nothing_for_a_denied_payment(paypal: PayPalServer, course: Course) -> None:
    purchase = checkout_of_ours(paypal, course)
    capture = paypal.pay(purchase.checkout, "DECLINED")
    tell(paypal, "PAYMENT.CAPTURE.DENIED", paypal.captures[capture])

    purchase.refresh_from_db()
    assert purchase.failed_at is not None
    assert not Issuance.objects.exists()


# Money that goes back ---------------------------------------------------------------------------------


def paid(paypal: PayPalServer, value: str = "49.00", **fields: Any) -> str:
    capture = paypal.pay(paypal.add_order("JS101", value, **fields))
    tell(paypal, COMPLETED, paypal.captures[capture])
    return capture


def test_it_takes_back_what_was_refunded(paypal: PayPalServer, course: Course) -> None:
    capture = paid(paypal, "98.00", items=[{"quantity": "2"}])
    refund = paypal.refund(capture, "49.00")
    tell(paypal, "PAYMENT.CAPTURE.REFUNDED", paypal.refunds[refund], "refund")
    tell(paypal, "PAYMENT.CAPTURE.REFUNDED", paypal.refunds[refund], "refund")

    assert (Kind.REFUNDED, capture, refund, Decimal("49.00")) in facts()
    assert Purchase.objects.get().refunded_amount == Decimal("49.00")
    vouchers = [issuance.voucher for issuance in Issuance.objects.all()]
    assert sorted(voucher.status for voucher in vouchers if voucher) == ["issued", "revoked"]


def test_it_issues_nothing_where_the_refund_came_first(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101"))
    refund = paypal.refund(capture, "49.00")
    tell(paypal, "PAYMENT.CAPTURE.REFUNDED", paypal.refunds[refund], "refund")
    tell(paypal, COMPLETED, paypal.captures[capture])

    assert not Issuance.objects.exclude(voucher=None).exists()


def test_it_learns_of_a_refund_from_the_payment_too(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101"))
    refund = paypal.refund(capture, "49.00")
    tell(paypal, COMPLETED, paypal.captures[capture])

    assert [fact[:3] for fact in facts()] == [(Kind.PAID, capture, capture), (Kind.REFUNDED, capture, refund)]
    assert not Issuance.objects.exclude(voucher=None).exists()


def test_it_issues_nothing_for_what_was_refunded_where_the_order_does_not_say_how(
    paypal: PayPalServer, course: Course
) -> None:
    order = paypal.add_order("JS101")
    capture = paypal.pay(order)
    paypal.refund(capture, "49.00")
    del paypal.orders[order]["purchase_units"][0]["payments"]["refunds"]
    tell(paypal, COMPLETED, paypal.captures[capture])

    assert [fact[:3] for fact in facts()] == [(Kind.PAID, capture, capture), (Kind.REFUNDED, capture, capture)]
    assert not Issuance.objects.exclude(voucher=None).exists()


def test_it_waits_for_a_refund_on_its_way_and_tells_of_one_that_failed(paypal: PayPalServer, course: Course) -> None:
    capture = paid(paypal)
    refund = paypal.refund(capture, "49.00", "PENDING")
    tell(paypal, "PAYMENT.REFUND.PENDING", paypal.refunds[refund], "refund")
    assert Purchase.objects.get().refunded_amount == 0

    paypal.refunds[refund]["status"] = "FAILED"
    tell(paypal, "PAYMENT.REFUND.FAILED", paypal.refunds[refund], "refund")
    assert (Kind.REFUND_FAILED, capture, refund, Decimal("49.00")) in facts()
    assert "refund failed" in Purchase.objects.get().review


def everything_taken_back() -> bool:
    purchase, voucher = Purchase.objects.get(), Issuance.objects.get().voucher
    return purchase.refunded_amount == purchase.amount and voucher is not None and voucher.status == "revoked"


def test_it_takes_back_a_payment_that_was_reversed(paypal: PayPalServer, course: Course) -> None:
    tell(paypal, "PAYMENT.CAPTURE.REVERSED", paypal.captures[paid(paypal)])

    assert everything_taken_back()


@pytest.mark.parametrize("is_known", [True, False])
def test_it_takes_back_what_was_reversed_by_a_refund(paypal: PayPalServer, course: Course, is_known: bool) -> None:
    refund_id = paypal.refund(paid(paypal), "49.00")
    refund = paypal.refunds[refund_id] if is_known else paypal.refunds.pop(refund_id)
    tell(paypal, "PAYMENT.CAPTURE.REVERSED", refund, "refund")

    assert everything_taken_back()


# Disputes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("RESOLVED_SELLER_FAVOUR", "issued"),
        ("CANCELED_BY_BUYER", "issued"),
        ("RESOLVED_BUYER_FAVOUR", "revoked"),
        ("RESOLVED_WITH_PAYOUT", "revoked"),
    ],
)
def test_it_holds_what_is_disputed_until_the_outcome(
    paypal: PayPalServer, course: Course, outcome: str, status: str
) -> None:
    dispute = paypal.dispute(paid(paypal))
    tell(paypal, "CUSTOMER.DISPUTE.CREATED", paypal.disputes[dispute], "dispute")
    held = Issuance.objects.get().voucher
    assert held is not None
    assert held.held_since is not None

    paypal.resolve(dispute, outcome)
    tell(paypal, "CUSTOMER.DISPUTE.RESOLVED", paypal.disputes[dispute], "dispute")
    held.refresh_from_db()
    assert held.status == status
    assert Purchase.objects.get().disputed_at is None


def test_it_keeps_holding_where_the_outcome_is_one_it_does_not_know(paypal: PayPalServer, course: Course) -> None:
    dispute = paypal.dispute(paid(paypal))
    paypal.resolve(dispute, "SOMETHING_NEW")
    tell(paypal, "CUSTOMER.DISPUTE.RESOLVED", paypal.disputes[dispute], "dispute")

    assert Purchase.objects.get().disputed_at is not None


def test_the_end_of_a_dispute_is_asked_for_too(paypal: PayPalServer, course: Course) -> None:
    dispute = paypal.dispute(paid(paypal))
    tell(paypal, "CUSTOMER.DISPUTE.CREATED", paypal.disputes[dispute], "dispute")
    paypal.resolve(dispute, "RESOLVED_SELLER_FAVOUR")  # and its event is lost
    Purchase.objects.update(created_at=timezone.now() - dt.timedelta(days=60))
    assert reconcile().filled_in == 1
    assert Purchase.objects.get().disputed_at is None


def test_it_holds_every_payment_of_a_dispute(paypal: PayPalServer, course: Course) -> None:
    captures = [paid(paypal), paid(paypal)]
    dispute = paypal.dispute(*captures, value="98.00")
    tell(paypal, "CUSTOMER.DISPUTE.CREATED", paypal.disputes[dispute], "dispute")

    assert Purchase.objects.exclude(disputed_at=None).count() == 2
    amounts = PaymentFact.objects.filter(kind=Kind.DISPUTED).values_list("reference", "amount")
    assert sorted(amounts) == sorted((capture, Decimal("49.00")) for capture in captures)


# Once -------------------------------------------------------------------------------------------------


def test_it_does_the_same_event_once(paypal: PayPalServer, course: Course) -> None:
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])
    headers = paypal.sign(body)

    assert [deliver(paypal, body, headers).status_code for _ in range(3)] == [200, 200, 200]
    assert Issuance.objects.count() == PaymentFact.objects.count() == Purchase.objects.count() == 1


def test_it_does_another_event_of_the_same_payment_once(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101"))
    for event_type in (COMPLETED, "PAYMENT.CAPTURE.PENDING", COMPLETED, "PAYMENT.CAPTURE.DENIED"):
        tell(paypal, event_type, paypal.captures[capture])

    assert Issuance.objects.count() == PaymentFact.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_it_does_the_same_event_at_the_same_time_once(paypal: PayPalServer, course: Course) -> None:
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])

    def deliver_and_close(_: int) -> int:
        try:
            return deliver(paypal, body).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(deliver_and_close, range(8))) == {200}
    assert Issuance.objects.count() == PaymentFact.objects.count() == Purchase.objects.count() == 1


# Refusals ---------------------------------------------------------------------------------------------


def test_it_refuses_a_bad_signature_and_asks_nothing(paypal: PayPalServer, course: Course) -> None:
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])
    wrong = [
        paypal.sign(body + b" "),
        paypal.sign(body, webhook_id="another"),
        paypal.sign(body, key="a thief"),
        paypal.sign(body, at="2020-01-01T00:00:00Z"),
        paypal.sign(body) | {"PAYPAL-CERT-URL": "https://evil.example/v1/notifications/certs/CERT-1"},
        {},
    ]

    assert {answer_of(deliver(paypal, body, headers)) for headers in wrong} == {(400, "bad_signature")}
    assert nothing_happened()
    assert {line for line in paypal.asked if "certs" not in line} == set()


def test_it_issues_nothing_for_another_body_with_the_same_checksum(paypal: PayPalServer, course: Course) -> None:
    signed = paypal.event(COMPLETED, {"id": "A-REAL-ONE"})
    headers = paypal.sign(signed)
    forged = colliding(paypal.event(COMPLETED, capture_for_free("JS101")), crc32(signed))
    assert forged != signed
    assert crc32(forged) == crc32(signed)

    assert answer_of(deliver(paypal, forged, headers)) == (400, "not_confirmed")
    assert nothing_happened()


def test_it_believes_paypal_where_a_forged_body_names_an_unpaid_capture(paypal: PayPalServer, course: Course) -> None:
    pending = paypal.pay(paypal.add_order("JS101"), "PENDING")
    signed = paypal.event(COMPLETED, {"id": "A-REAL-ONE"})
    headers = paypal.sign(signed)
    forged = colliding(paypal.event(COMPLETED, capture_for_free("JS101") | {"id": pending}), crc32(signed))

    assert deliver(paypal, forged, headers).status_code == 200
    assert not Issuance.objects.exists()
    assert not PaymentFact.objects.filter(kind=Kind.PAID).exists()


def capture_for_free(course_id: str) -> Tree:
    amount = {"currency_code": "USD", "value": "49.00"}
    return {"id": "FREE", "status": "COMPLETED", "amount": amount, "custom_id": course_id}


def colliding(body: bytes, wanted: int) -> bytes:
    """The same event with a member more, chosen so that its CRC32 is the one wanted.

    CRC32 is affine: each of the letters flips the same bits of it whatever the others are. So which of them to flip
    (`a` to `c`) is a system of 32 linear equations.
    """
    head, tail = body[:-1] + b', "padding": "', b'"}'
    plain = bytearray(b"a" * 64)
    start = crc32(head + plain + tail)
    basis: dict[int, tuple[int, int]] = {}  # by highest bit: what is flipped, and by which letters
    for place in range(len(plain)):
        flipped, letters = start ^ crc32(head + plain[:place] + b"c" + plain[place + 1 :] + tail), 1 << place
        while flipped and flipped.bit_length() in basis:
            other, others = basis[flipped.bit_length()]
            flipped, letters = flipped ^ other, letters ^ others
        if flipped:
            basis[flipped.bit_length()] = (flipped, letters)
    missing, chosen = start ^ wanted, 0
    while missing:
        flipped, letters = basis[missing.bit_length()]
        missing, chosen = missing ^ flipped, chosen ^ letters
    padding = bytes(ord("c") if chosen >> place & 1 else ord("a") for place in range(len(plain)))
    return head + padding + tail


@pytest.mark.parametrize(
    ("event_type", "resource"),
    [
        (COMPLETED, {"id": "UNKNOWN"}),
        ("PAYMENT.CAPTURE.REFUNDED", {"id": "UNKNOWN"}),
        ("PAYMENT.CAPTURE.REVERSED", {"id": "UNKNOWN"}),
        ("CUSTOMER.DISPUTE.CREATED", {"dispute_id": "PP-D-1"}),
    ],
)
def test_it_refuses_what_paypal_does_not_know(
    paypal: PayPalServer, course: Course, event_type: str, resource: Tree
) -> None:
    assert answer_of(deliver(paypal, paypal.event(event_type, resource))) == (400, "not_confirmed")
    assert nothing_happened()


@pytest.mark.parametrize("name", ["../../../v1/customer/disputes", "A/refund", "A?fields=all", "A%2f", "", {"$ne": ""}])
def test_it_asks_for_nothing_that_is_no_id(paypal: PayPalServer, course: Course, name: Any) -> None:
    for event_type, member in [(COMPLETED, "id"), ("CUSTOMER.DISPUTE.CREATED", "dispute_id")]:
        body = paypal.event(event_type, {member: name})
        assert answer_of(deliver(paypal, body)) == (400, "not_confirmed")

    assert {line for line in paypal.asked if "/certs/" not in line} == set()
    assert nothing_happened()


@pytest.mark.parametrize("event_type", ["CHECKOUT.ORDER.APPROVED", "BILLING.PLAN.CREATED", ""])
def test_it_does_nothing_for_an_event_that_does_not_concern_it(
    paypal: PayPalServer, course: Course, event_type: str
) -> None:
    tell(paypal, event_type, paypal.captures[paypal.pay(paypal.add_order("JS101"))])

    assert nothing_happened()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_it_refuses_a_body_that_is_no_event(paypal: PayPalServer, body: bytes) -> None:
    assert answer_of(deliver(paypal, body)) == (400, "invalid_request")


def test_it_refuses_a_body_that_is_too_large(paypal: PayPalServer) -> None:
    assert answer_of(deliver(paypal, b" " * (256 * 1024 + 1), {})) == (413, "too_large")


def test_it_takes_posts_only(paypal: PayPalServer) -> None:
    response = APIClient().get("/webhooks/paypal/")

    assert answer_of(response) == (405, "method_not_allowed")


# PayPal away, or a fault of ours ----------------------------------------------------------------------


def test_it_asks_for_another_try_while_paypal_is_away(paypal: PayPalServer, course: Course) -> None:
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])
    headers = paypal.sign(body)
    paypal.down = True
    response = deliver(paypal, body, headers)
    assert answer_of(response) == (503, "provider_unreachable")
    assert response["Retry-After"]

    paypal.down = False
    deliver(paypal, b"", paypal.sign(b""))  # the certificate is known now, the payment is not
    paypal.down = True
    assert answer_of(deliver(paypal, body, headers)) == (503, "provider_unreachable")
    assert nothing_happened()

    paypal.down = False
    assert deliver(paypal, body, headers).status_code == 200
    assert Issuance.objects.count() == 1


def test_it_asks_for_another_try_where_its_token_was_withdrawn(paypal: PayPalServer, course: Course) -> None:
    paid(paypal)
    paypal.token = "token-2"
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])

    assert answer_of(deliver(paypal, body)) == (503, "provider_unreachable")
    assert deliver(paypal, body).status_code == 200


@pytest.mark.parametrize("secret", ["", "a wrong one"])
def test_it_asks_for_another_try_where_it_cannot_ask(
    paypal: PayPalServer, course: Course, settings: Settings, secret: str
) -> None:
    settings.PAYPAL_CLIENT_SECRET = secret
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])

    assert answer_of(deliver(paypal, body)) == (503, "provider_unreachable")
    assert nothing_happened()


def test_it_leaves_nothing_half_done_where_the_desk_is_at_fault(
    paypal: PayPalServer, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = paypal.event(COMPLETED, paypal.captures[paypal.pay(paypal.add_order("JS101"))])
    monkeypatch.setattr(settling, "_serve", lambda *args, **options: 1 / 0)

    assert answer_of(deliver(paypal, body)) == (500, "server_error")
    assert nothing_happened()


def test_it_knows_the_account_it_is_paid_to(paypal: PayPalServer, course: Course) -> None:
    capture = paypal.pay(paypal.add_order("JS101", payee={"merchant_id": OWN_ACCOUNT, "email_address": "x@y.example"}))
    tell(paypal, COMPLETED, paypal.captures[capture])

    assert Purchase.objects.get().review == ""
