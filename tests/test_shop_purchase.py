"""The test payment, and the page that follows a purchase."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course, Purchase
from tests.factories import PurchaseFactory, issue_to, make_pool
from tests.shop import CHECKOUT, CODE, EMAIL, begun, get, page_of, pay, text_of
from vouchers.errors import ProviderUnreachable
from vouchers.filling import sweep_waiting
from vouchers.models import Delivery, Issuance

pytest_plugins = ["tests.shop"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("demo_payments")]


class TestTestPayment:
    def test_it_looks_like_a_test(self, client: Client, pool: Course) -> None:
        page = text_of(get(client, f"/test-payment/{begun(pool, 2).checkout}"))
        for words in ("Test payment.", "No money moves.", "JavaScript Basics", "98.00 USD", ">Pay<", ">Cancel<"):
            assert words in page
        assert EMAIL not in page

    def test_it_pays(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool)
        response = client.post(f"/test-payment/{purchase.checkout}", {"pay": "yes"})
        assert response["Location"] == page_of(purchase)
        assert Issuance.objects.get().purchase == purchase
        assert client.get(f"/test-payment/{purchase.checkout}")["Location"] == page_of(purchase)

    def test_it_cancels(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool)
        response = client.post(f"/test-payment/{purchase.checkout}", {"cancel": "yes"})
        page = text_of(get(client, response["Location"]))
        assert "The payment did not go through" in page
        assert f'href="{CHECKOUT}">Try again' in page

    def test_once_paid_it_cannot_be_cancelled(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool)
        pay(client, purchase)
        client.post(f"/test-payment/{purchase.checkout}", {"cancel": "yes"})
        purchase.refresh_from_db()
        assert (bool(purchase.paid_at), purchase.failed_at) == (True, None)

    def test_it_says_so_where_the_desk_does_not_answer(
        self, client: Client, pool: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*_: object, **__: object) -> None:
            raise requests.ConnectionError

        monkeypatch.setattr(requests, "post", unreachable)
        purchase = begun(pool)
        response = client.post(f"/test-payment/{purchase.checkout}", {"pay": "yes"})
        assert response.status_code == 503
        assert ProviderUnreachable("The test payment").message in text_of(response)

    def test_it_is_not_there_in_production(self, client: Client, pool: Course, settings: Any) -> None:
        purchase = begun(pool)
        settings.DEMO_PAYMENTS = False
        path = f"/test-payment/{purchase.checkout}"
        assert [get(client, path).status_code, client.post(path, {"pay": "yes"}).status_code] == [404, 404]
        purchase.refresh_from_db()
        assert purchase.paid_at is None

    def test_an_unknown_checkout_is_a_page_that_says_so(self, client: Client) -> None:
        assert get(client, "/test-payment/cs_test_none").status_code == 404


class TestPurchase:
    def test_it_follows_from_paid_to_sent(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool)
        page = text_of(get(client, page_of(purchase)))
        assert "Waiting for your payment" in page
        assert '<noscript><meta http-equiv="refresh"' in page

        pay(client, purchase)
        page = text_of(get(client, page_of(purchase)))
        assert "Your voucher is on its way." in page
        assert 'class="step-current" aria-current="step"><span class="hidden">Now: </span>Voucher on its way' in page

        Delivery.objects.update(status=Delivery.Status.SENT, sent_at=timezone.now())
        page = text_of(get(client, page_of(purchase)))
        assert "Your voucher is sent." in page
        assert page.count('class="step-done"') == 3
        assert "refresh" not in page
        assert "following.js" not in page

    def test_it_shows_the_place_in_the_queue(self, client: Client, priced: Course, webhook: None) -> None:
        issue_to(priced, "first@example.com")
        purchase = begun(priced)
        pay(client, purchase)
        page = text_of(get(client, page_of(purchase)))
        assert '<span class="place-number">2</span> <span>Your place in the queue</span>' in page
        assert "Paid. Your voucher waits for new codes." in page

        make_pool(priced, 2)
        sweep_waiting()
        assert "Your voucher is on its way." in text_of(get(client, page_of(purchase)))

    def test_it_counts_several_seats(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool, 7)
        pay(client, purchase)
        Delivery.objects.filter(issuance__unit__lte=2).update(status=Delivery.Status.SENT, sent_at=timezone.now())
        page = text_of(get(client, page_of(purchase)))
        assert "2 vouchers wait for new codes." in page
        assert '<dd id="issued">5 of 7</dd>' in page
        assert '<dd id="sent">2 of 7</dd>' in page

    @pytest.mark.parametrize(
        ("fields", "headline"),
        [
            ({}, "Waiting for your payment"),
            ({"failed_at": timezone.now()}, "The payment did not go through"),
            ({"paid_at": timezone.now()}, "is being looked at by a person"),
            ({"paid_at": timezone.now(), "completed_at": timezone.now()}, "Paid"),
            (
                {"paid_at": timezone.now(), "completed_at": timezone.now(), "disputed_at": timezone.now()},
                "On hold: the payment is disputed",
            ),
            ({"paid_at": timezone.now(), "refunded_amount": 49}, "49.00 USD goes back the way you paid."),
        ],
    )
    def test_it_says_where_a_purchase_stands(self, client: Client, fields: dict[str, Any], headline: str) -> None:
        assert headline in text_of(get(client, page_of(PurchaseFactory.create(**fields))))

    def test_a_payment_without_a_course_has_a_page_too(self, client: Client) -> None:
        purchase = PurchaseFactory.create(course=None, paid_at=timezone.now())
        assert "is being looked at by a person" in text_of(get(client, page_of(purchase)))

    def test_it_answers_the_changing_part_alone(self, client: Client, course: Course) -> None:
        path = page_of(PurchaseFactory.create(course=course))
        part = get(client, path, headers={"HX-Request": "true"})
        assert "<html" not in text_of(part)
        assert text_of(part) in text_of(get(client, path))
        assert "HX-Request" in part["Vary"]

    def test_it_shows_no_code_and_the_email_only_in_outline(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool)
        pay(client, purchase)
        page = text_of(get(client, page_of(purchase)))
        assert CODE not in page
        assert EMAIL not in page
        assert "a***@example.com" in page

    def test_nobody_may_keep_it_or_learn_its_address(self, client: Client, course: Course) -> None:
        path = page_of(PurchaseFactory.create(course=course))
        for response in (get(client, path), get(client, path, headers={"HX-Request": "true"})):
            assert response["Cache-Control"] == "no-store"
            assert response["Referrer-Policy"] == "no-referrer"
            assert response["X-Robots-Tag"] == "noindex"

    def test_an_unknown_token_is_a_page_that_says_so(self, client: Client, course: Course) -> None:
        purchase = PurchaseFactory.create(course=course)
        for token in ("none", str(purchase.pk), purchase.reference):
            response = get(client, f"/purchases/{token}")
            assert response.status_code == 404
            assert "Use the link as it stands in your email." in text_of(response)
            assert response["Cache-Control"] == "no-store"

    def test_it_asks_a_fixed_number_of_questions(
        self, client: Client, pool: Course, webhook: None, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        one, many = begun(pool), begun(pool, 3)
        for purchase in (one, many):
            pay(client, purchase)
            with django_assert_num_queries(3):  # the purchase, its seats, their emails
                get(client, page_of(purchase))
        waits = begun(pool)
        pay(client, waits)
        waits = begun(pool, 3)
        pay(client, waits)
        with django_assert_num_queries(3):  # the purchase, its seats, the place
            get(client, page_of(waits))

    def test_a_buyer_who_comes_back_from_paypal_is_captured_and_led_to_the_clean_page(
        self, client: Client, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        captured: list[Purchase] = []
        monkeypatch.setattr("vouchers.shop.views.capture_returning", captured.append)
        purchase = PurchaseFactory.create(course=course, provider="paypal", checkout="ORDER")
        response = get(client, f"{page_of(purchase)}?token=ORDER&PayerID=X")
        assert (captured, response["Location"]) == ([purchase], page_of(purchase))

        for query in ("", "?token=ANOTHER&PayerID=X"):
            assert get(client, page_of(purchase) + query).status_code == 200
        Purchase.objects.update(paid_at=timezone.now())
        assert get(client, f"{page_of(purchase)}?token=ORDER").status_code == 200
        assert captured == [purchase]

    def test_a_paypal_that_does_not_answer_is_asked_again_by_the_buyer(
        self, client: Client, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(_: Purchase) -> None:
            raise ProviderUnreachable("PayPal")

        monkeypatch.setattr("vouchers.shop.views.capture_returning", unreachable)
        purchase = PurchaseFactory.create(course=course, provider="paypal", checkout="ORDER")
        response = get(client, f"{page_of(purchase)}?token=ORDER&PayerID=X")
        assert response.status_code == 503
        assert "PayPal does not answer just now." in text_of(response)
        assert 'href="">Try again' in text_of(response)
