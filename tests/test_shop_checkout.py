"""The shop's checkout: by payment, and by voucher."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from courses.models import Course, Purchase
from tests.factories import CourseFactory, issue_to, make_pool
from tests.racing import together
from tests.shop import CHECKOUT, CODE, EMAIL, get, page_of, send, text_of
from vouchers.guesses import ANONYMOUS_LIMIT
from vouchers.models import Delivery, Voucher

pytest_plugins = ["tests.shop"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("demo_payments")]


class TestCheckout:
    def test_it_shows_what_is_to_be_paid_and_how(self, client: Client, pool: Course) -> None:
        page = text_of(get(client, CHECKOUT))
        assert "Test payment — no money moves" in page
        assert "Demo shop." in page
        assert "data-total>49.00 USD<" in page
        for attribute in ('autocomplete="email"', 'inputmode="numeric"', 'min="1"', 'max="100"'):
            assert attribute in page

    def test_it_has_a_button_for_each_provider(self, client: Client, pool: Course, settings: Any) -> None:
        settings.DEMO_PAYMENTS = False
        settings.STRIPE_SECRET_KEY = "sk_test_" + "a" * 24
        settings.STRIPE_WEBHOOK_SECRET = "whsec_long_enough"
        settings.PAYPAL_CLIENT_ID = settings.PAYPAL_CLIENT_SECRET = settings.PAYPAL_WEBHOOK_ID = "paypal"
        page = text_of(get(client, CHECKOUT))
        assert 'value="stripe">Pay <span data-total>49.00 USD</span> by card</button>' in page
        assert 'value="paypal">Pay with PayPal</button>' in page
        assert "no money moves" not in page

    def test_it_leads_to_the_payment(self, client: Client, pool: Course, settings: Any) -> None:
        response = send(client, quantity="3")
        purchase = Purchase.objects.get()
        assert (purchase.email, purchase.quantity, str(purchase.amount)) == (EMAIL, 3, "147.00")
        assert response.status_code == 302
        assert response["Location"] == f"{settings.BASE_URL}/test-payment/{purchase.checkout}"

    @pytest.mark.parametrize(
        ("field", "typed", "fault"),
        [
            ("email", "", "Enter your email address."),
            ("email", "ann", "Enter one email address, such as name@example.com."),
            ("email", "ann@example.com, bob@example.com", "Enter one email address, such as name@example.com."),
            ("quantity", "", "Choose from 1 to 100 seats."),
            ("quantity", "0", "Choose from 1 to 100 seats."),
            ("quantity", "101", "Choose from 1 to 100 seats."),
            ("quantity", "many", "Choose from 1 to 100 seats."),
            ("quantity", "9" * 5000, "Choose from 1 to 100 seats."),
            ("code", "\x00", "Null characters are not allowed."),
        ],
    )
    def test_it_names_the_field_at_fault(
        self, client: Client, pool: Course, field: str, typed: str, fault: str
    ) -> None:
        response = send(client, **{field: typed})
        page = text_of(response)
        assert response.status_code == 200
        assert "<title>Error: Checkout" in page
        assert 'role="alert" tabindex="-1" autofocus' in page
        assert f'<a href="#id_{field}">{fault}</a>' in page
        assert re.search(rf'id="id_{field}_error">{re.escape(fault)}', page)
        assert re.search(rf'<input[^>]* aria-describedby="id_{field}_helptext id_{field}_error"', page)
        assert not Purchase.objects.exists()

    def test_it_keeps_what_was_typed(self, client: Client, pool: Course) -> None:
        page = text_of(send(client, email="ann@", quantity="7", code="TYPED-0001"))
        for typed in ("ann@", "7", "TYPED-0001"):
            assert f'value="{typed}"' in page

    def test_it_counts_the_total_anew_without_javascript(self, client: Client, pool: Course) -> None:
        page = text_of(send(client, quantity="3", email="half@", update="total"))
        assert "data-total>147.00 USD<" in page
        assert 'value="half@"' in page
        assert "alert" not in page

    @pytest.mark.parametrize(
        ("fields", "status", "sentence"),
        [
            ({"on_sale": False}, 409, "JavaScript Basics is not on sale."),
            ({"stop_when_empty": True}, 409, "JavaScript Basics has fewer than 6 seats left just now"),
        ],
    )
    def test_it_refuses_what_cannot_be_bought(
        self, client: Client, pool: Course, fields: dict[str, Any], status: int, sentence: str
    ) -> None:
        Course.objects.update(**fields)
        response = send(client, quantity="6")
        assert response.status_code == status
        assert f"<li>{sentence}" in text_of(response)
        assert not Purchase.objects.exists()

    def test_it_refuses_a_provider_that_is_none(self, client: Client, pool: Course) -> None:
        response = send(client, provider="cash")
        assert response.status_code == 409
        assert "Payments by cash are not set up in this shop." in text_of(response)

    def test_it_only_redeems_where_no_payments_are_set_up(self, client: Client, pool: Course, settings: Any) -> None:
        settings.DEMO_PAYMENTS = False
        page = text_of(get(client, CHECKOUT))
        assert "It cannot be bought here just now" in page
        assert [*re.findall(r"<button[^>]*>(.*?)</button>", page)] == ["Redeem the voucher"]
        assert send(client, code=CODE, provider="redeem").status_code == 302

    def test_it_wants_a_token_against_forged_forms(self, pool: Course) -> None:
        assert send(Client(enforce_csrf_checks=True)).status_code == 403
        assert not Purchase.objects.exists()

    def test_nobody_may_keep_it(self, client: Client, pool: Course) -> None:
        for response in (get(client, CHECKOUT), send(client, email=""), send(client, code="NONE-0001"), send(client)):
            assert response["Cache-Control"] == "no-store"
            assert response["Referrer-Policy"] == "same-origin"
            assert response["X-Robots-Tag"] == "noindex"


class TestVoucherAtTheCheckout:
    @pytest.mark.parametrize("button", ["stripe", "redeem", ""])
    def test_it_is_a_free_purchase_whatever_the_button(self, client: Client, pool: Course, button: str) -> None:
        response = send(client, code=f" {CODE.lower()} ", provider=button)

        purchase = Purchase.objects.get()
        assert (response.status_code, response["Location"]) == (302, page_of(purchase))
        assert (purchase.provider, str(purchase.amount), purchase.email) == ("voucher", "0.00", EMAIL)
        assert Voucher.objects.get(code=CODE).status == "redeemed"
        assert Delivery.objects.get().kind == Delivery.Kind.CONFIRMATION

    def test_its_page_says_that_the_course_is_theirs(self, client: Client, pool: Course) -> None:
        page = text_of(get(client, send(client, code=CODE)["Location"]))
        assert "JavaScript Basics is yours." in page
        assert "there is nothing to pay" in page
        assert "following.js" not in page
        assert CODE not in page

    def test_a_second_click_gives_the_first_result_again(self, client: Client, pool: Course) -> None:
        key = re.search(r'name="request_key" value="([^"]{20,})"', text_of(get(client, CHECKOUT)))
        assert key
        first, again = (send(client, code=CODE, request_key=key[1]) for _ in range(2))
        assert first["Location"] == again["Location"]
        assert Purchase.objects.count() == Delivery.objects.count() == 1

    def test_another_form_is_another_request(self, client: Client, pool: Course) -> None:
        send(client, code=CODE, request_key="one")
        response = send(client, code=CODE, request_key="two")
        assert response.status_code == 409
        assert "This voucher has already been redeemed." in text_of(response)

    @pytest.mark.parametrize(
        ("code", "status", "sentence"),
        [
            ("NONE-0001", 404, "No voucher can be redeemed with this code."),
            ("no", 400, "This is not a voucher code."),
            ("OTHER-0001", 404, "No voucher can be redeemed with this code."),
        ],
    )
    def test_it_refuses_what_is_none_of_this_course(
        self, client: Client, pool: Course, code: str, status: int, sentence: str
    ) -> None:
        make_pool(CourseFactory.create(id="OTHER"), 1, code="OTHER-0001")
        response = send(client, code=code)
        assert response.status_code == status
        assert f'<a href="#id_code">{sentence}' in text_of(response)
        assert not Purchase.objects.exists()
        assert not Voucher.objects.exclude(status="available").exists()

    def test_it_is_for_one_seat(self, client: Client, pool: Course) -> None:
        response = send(client, code=CODE, quantity="2")
        assert "A voucher is for one seat." in text_of(response)
        assert "data-total>98.00 USD<" in text_of(response)
        assert Voucher.objects.get(code=CODE).status == "available"

    def test_the_button_for_it_wants_a_code(self, client: Client, pool: Course) -> None:
        assert '<a href="#id_code">Enter the code of your voucher.</a>' in text_of(send(client, provider="redeem"))
        assert not Purchase.objects.exists()

    def test_a_course_that_is_not_on_sale_still_takes_its_vouchers(self, client: Client, pool: Course) -> None:
        Course.objects.update(on_sale=False)
        assert send(client, code=CODE).status_code == 302

    def test_a_holders_voucher_wants_the_holders_email(self, client: Client, pool: Course) -> None:
        Course.objects.update(redemption=Course.Redemption.HOLDER)
        issued = issue_to(pool, EMAIL).voucher
        assert issued is not None
        assert send(client, code=issued.code, email="bob@example.com").status_code == 404
        assert send(client, code=issued.code).status_code == 302

    def test_it_stops_after_too_many_guesses(self, client: Client, pool: Course) -> None:
        statuses = [send(client, code=f"NONE-{n:04}").status_code for n in range(ANONYMOUS_LIMIT)]
        response = send(client, code=CODE)
        assert statuses == [404] * ANONYMOUS_LIMIT
        assert response.status_code == 429
        assert int(response["Retry-After"]) > 0
        assert "Too many codes that do not exist were tried." in text_of(response)
        assert Voucher.objects.get(code=CODE).status == "available"
        assert send(client).status_code == 302  # who pays is not kept from it

    @pytest.mark.django_db(transaction=True)
    def test_two_clicks_at_the_same_time_are_one(self, pool: Course) -> None:
        answers = together(4, lambda _: send(Client(), code=CODE, request_key="one")["Location"])
        assert set(answers) == {page_of(Purchase.objects.get())}
