"""POST /api/checkout and GET /api/purchases/:token"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from courses.models import Course, PaymentFact, Purchase
from tests.factories import PurchaseFactory, UserFactory, issue_to, make_pool
from tests.stripe_events import KEY, Payment, event, tell
from tests.stripe_server import StripeServer, running_stripe_server
from vouchers.models import Issuance
from vouchers.payments.deeds import refund_purchase
from vouchers.payments.facts import Claims
from vouchers.payments.settling import record

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced")]


@pytest.fixture
def stripe(settings: Settings) -> Iterator[StripeServer]:
    with running_stripe_server() as server:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_HOST = KEY, server.url
        settings.DEMO_PAYMENTS = False
        settings.BASE_URL = "https://shop.example"
        yield server


def start(**fields: Any) -> Any:
    body = {"courseId": "JS101", "email": "ann@example.com", "quantity": 2, "provider": "stripe"} | fields
    return APIClient().post("/api/checkout", {k: v for k, v in body.items() if v is not None}, format="json")


def follow(purchase: Purchase) -> Any:
    return APIClient().get(f"/api/purchases/{purchase.token}").json()


def paid_session(purchase: Purchase, **more: Any) -> dict[str, Any]:
    """What Stripe tells of a checkout of ours."""
    payment = Payment(amount=9800, quantity=2)
    return event("checkout.session.completed", payment.session(id=purchase.checkout, **more))


class TestStart:
    def test_it_sends_the_buyer_to_the_provider(self, stripe: StripeServer) -> None:
        answer = start()
        purchase = Purchase.objects.get()
        assert (answer.status_code, answer.json()) == (
            201,
            {
                "purchaseId": str(purchase.pk),
                "redirectUrl": "https://checkout.stripe.example/cs_test_1",
                "statusUrl": f"https://shop.example/api/purchases/{purchase.token}",
            },
        )
        ((path, asked, key),) = stripe.asked
        assert path == "/v1/checkout/sessions"
        assert key == f"checkout {purchase.pk}"
        assert asked == {
            "mode": "payment",
            "customer_email": "ann@example.com",
            "client_reference_id": str(purchase.pk),
            "line_items[0][quantity]": "2",
            "line_items[0][price_data][currency]": "usd",
            "line_items[0][price_data][unit_amount]": "4900",
            "line_items[0][price_data][product_data][name]": "JavaScript Basics",
            "metadata[courseId]": "JS101",
            "metadata[email]": "ann@example.com",
            "metadata[quantity]": "2",
            "metadata[purchaseId]": str(purchase.pk),
            "success_url": f"https://shop.example/purchases/{purchase.token}",
            "cancel_url": "https://shop.example/courses/JS101/checkout",
        }

    def test_a_quantity_and_a_provider_need_not_be_named(self, stripe: StripeServer) -> None:
        assert start(quantity=None, provider=None).status_code == 201
        assert Purchase.objects.get().quantity == 1

    def test_staff_who_shop_are_shoppers(self, stripe: StripeServer) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(UserFactory.create())
        body = {"courseId": "JS101", "email": "ann@example.com"}
        assert client.post("/api/checkout", body, content_type="application/json").status_code == 201

    @pytest.mark.parametrize(
        ("fields", "status", "code", "name"),
        [
            ({"courseId": None}, 400, "invalid_request", "courseId"),
            ({"email": "ann"}, 400, "invalid_request", "email"),
            ({"email": None}, 400, "invalid_request", "email"),
            ({"quantity": 0}, 400, "invalid_request", "quantity"),
            ({"quantity": 101}, 400, "invalid_request", "quantity"),
            ({"quantity": "two"}, 400, "invalid_request", "quantity"),
            ({"provider": "voucher"}, 400, "invalid_request", "provider"),
            ({"courseId": "js101"}, 404, "course_not_found", ""),
            ({"provider": "paypal"}, 409, "provider_not_ready", ""),
        ],
    )
    def test_it_refuses_what_cannot_be(
        self, stripe: StripeServer, fields: dict[str, Any], status: int, code: str, name: str
    ) -> None:
        answer = start(**fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert [*answer.json().get("fields", {})] == ([name] if name else [])
        assert not stripe.asked
        assert not Purchase.objects.exists()

    @pytest.mark.parametrize("change", [{"on_sale": False}, {"price": None}, {"price": 0}])
    def test_it_sells_nothing_that_is_not_on_sale(self, stripe: StripeServer, change: dict[str, Any]) -> None:
        Course.objects.update(**change)
        answer = start()
        assert (answer.status_code, answer.json()["code"]) == (409, "not_on_sale")
        assert not stripe.asked

    def test_it_refuses_more_money_than_there_is(self, stripe: StripeServer) -> None:
        Course.objects.update(price=Decimal("9999999999.00"))
        answer = start(quantity=2)
        assert (answer.status_code, [*answer.json()["fields"]]) == (400, ["quantity"])
        assert not stripe.asked

    def test_it_says_sold_out_before_anybody_pays(self, course: Course, stripe: StripeServer) -> None:
        Course.objects.update(stop_when_empty=True)
        course.refresh_from_db()
        make_pool(course, 2)
        assert start(quantity=2).status_code == 201
        assert start(quantity=3).json()["code"] == "sold_out"
        for n in range(3):
            issue_to(course, f"buyer{n}@example.com")
        make_pool(course, 1)  # it is for the third buyer, who waits
        assert (start(quantity=1).status_code, start(quantity=1).json()["code"]) == (409, "sold_out")

    def test_it_says_when_the_provider_is_away(self, stripe: StripeServer) -> None:
        stripe.down = True
        answer = start()
        assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "provider_unreachable", "10")
        assert not Purchase.objects.exists()

    def test_it_says_why_the_provider_refuses(self, stripe: StripeServer) -> None:
        stripe.refuse = "Amount must be at least 50 cents"
        answer = start()
        assert (answer.status_code, answer.json()["code"]) == (409, "provider_refused")
        assert "Amount must be at least 50 cents" in answer.json()["error"]
        assert not Purchase.objects.exists()

    def test_without_any_keys_there_is_nothing_to_start(self, settings: Settings) -> None:
        settings.DEMO_PAYMENTS = False
        settings.STRIPE_SECRET_KEY = settings.PAYPAL_CLIENT_ID = ""
        assert (start().status_code, start().json()["code"]) == (409, "provider_not_ready")

    def test_the_test_payment_is_there_on_a_desk_for_trying_out(self, settings: Settings) -> None:
        settings.DEMO_PAYMENTS = True
        settings.BASE_URL = "http://127.0.0.1:8000"
        answer = start()
        assert answer.json()["redirectUrl"].startswith("http://127.0.0.1:8000/test-payment/cs_test_")


class TestFollow:
    def test_it_goes_from_pending_to_issued(self, course: Course, stripe: StripeServer) -> None:
        make_pool(course, 2)
        start()
        purchase = Purchase.objects.get()
        expected = {"status": "pending", "courseId": "JS101", "quantity": 2, "issued": 0, "position": None}
        assert follow(purchase) == expected
        tell(paid_session(purchase))
        assert follow(purchase) == expected | {"status": "issued", "issued": 2}
        assert "ann@" not in str(follow(purchase))

    def test_it_knows_the_place_in_the_queue(self, course: Course, stripe: StripeServer) -> None:
        issue_to(course, "first@example.com")
        start()
        purchase = Purchase.objects.get()
        tell(paid_session(purchase))
        assert follow(purchase) | {} == {
            "status": "waiting",
            "courseId": "JS101",
            "quantity": 2,
            "issued": 0,
            "position": 2,
        }

    def test_the_price_at_the_beginning_is_the_price(self, course: Course, stripe: StripeServer) -> None:
        make_pool(course, 2)
        start()
        Course.objects.update(price=99, on_sale=False)
        tell(paid_session(Purchase.objects.get()))
        assert Issuance.objects.filter(status="issued").count() == 2

    def test_the_buyer_and_the_seats_are_those_of_the_beginning(self, course: Course, stripe: StripeServer) -> None:
        make_pool(course, 5)
        start()
        purchase = Purchase.objects.get()
        tell(paid_session(purchase, metadata={"courseId": "JS101", "email": "other@example.com", "quantity": "5"}))
        assert {*Issuance.objects.values_list("email", "status")} == {("ann@example.com", "issued")}
        assert Issuance.objects.count() == 2

    def test_a_second_payment_of_one_checkout_is_for_staff_to_see(self, course: Course, stripe: StripeServer) -> None:
        make_pool(course, 5)
        start()
        tell(paid_session(Purchase.objects.get()))
        claims = Claims(course_id="", email="", net="98", gross="98", currency="usd", checkout="cs_test_1")
        again = {"provider": "stripe", "reference": "pi_again", "kind": "paid", "key": "pi_again", "source": "tests"}
        record([PaymentFact(**again, at=timezone.now(), claims=claims.as_json())])
        assert "does not say which course" in Purchase.objects.for_review().get().review
        assert Issuance.objects.count() == 2

    def test_a_checkout_that_is_told_of_twice_is_paid_once(self, course: Course, stripe: StripeServer) -> None:
        make_pool(course, 5)
        start()
        purchase = Purchase.objects.get()
        tell(
            paid_session(purchase),
            event("checkout.session.async_payment_succeeded", paid_session(purchase)["data"]["object"]),
        )
        assert Purchase.objects.count() == 1
        assert Issuance.objects.count() == 2

    def test_an_expired_checkout_has_failed(self, stripe: StripeServer) -> None:
        start()
        purchase = Purchase.objects.get()
        expired = Payment().session(
            id=purchase.checkout, payment_intent=None, payment_status="unpaid", status="expired"
        )
        tell(event("checkout.session.expired", expired))
        assert follow(purchase)["status"] == "failed"

    @pytest.mark.parametrize("token", ["x", "x" * 43, "' OR 1=1", "%00"])
    def test_it_tells_nothing_of_other_tokens(self, token: str) -> None:
        answer = APIClient().get(f"/api/purchases/{token}")
        assert answer.status_code == 404

    def test_a_token_cannot_be_guessed(self) -> None:
        tokens = {PurchaseFactory.create().token for _ in range(20)}
        assert len(tokens) == 20
        assert {len(token) for token in tokens} == {43}


def test_a_refund_asks_the_provider_once(course: Course, stripe: StripeServer) -> None:
    start()
    tell(paid_session(Purchase.objects.get()))
    purchase = Purchase.objects.get()
    for _ in range(2):
        refund_purchase(purchase, Decimal("49.00"))
    first, second = stripe.asked[1:]
    assert first == second
    assert first[:2] == ("/v1/refunds", {"payment_intent": purchase.reference, "amount": "4900"})
