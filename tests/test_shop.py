"""The shop's pages. In a browser: tests/test_browser_shop.py."""

from __future__ import annotations

import datetime as dt
import html
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course, Purchase
from tests.factories import CourseFactory, PurchaseFactory, issue_to, make_pool
from tests.racing import together
from vouchers.errors import ProviderUnreachable
from vouchers.guesses import ANONYMOUS_LIMIT
from vouchers.issuing import sweep_waiting
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.checkout import start_checkout

pytestmark = pytest.mark.django_db
CHECKOUT = "/courses/JS101/checkout"
CODE = "JS101-XZ4B7Q-001"
EMAIL = "ann@example.com"


@pytest.fixture(autouse=True)
def _test_payments(settings: Any) -> None:
    settings.DEMO_PAYMENTS = True


@pytest.fixture
def priced(course: Course) -> Course:
    Course.objects.update(price="49.00")
    course.refresh_from_db()
    return course


@pytest.fixture
def pool(priced: Course) -> Course:
    """A priced course with codes, one of them known."""
    make_pool(priced, 1, code=CODE)
    make_pool(priced, 4)
    return priced


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network between the test payment and our own webhook."""

    def post(address: str, body: str, *, headers: dict[str, str], timeout: float) -> requests.Response:
        answered = Client().post(urlsplit(address).path, body, content_type="application/json", headers=headers)
        response = requests.Response()
        response.status_code = answered.status_code
        return response

    monkeypatch.setattr(requests, "post", post)


def get(client: Client, path: str, **options: Any) -> Any:
    return client.get(path, **options)


def send(client: Client, **fields: str) -> Any:
    """The checkout as a buyer fills it in."""
    return client.post(CHECKOUT, {"email": EMAIL, "quantity": "1", "code": "", "provider": "stripe"} | fields)


def text_of(response: Any) -> str:
    return html.unescape(str(response.content.decode()))


def begun(course: Course, quantity: int = 1) -> Purchase:
    return start_checkout(course=course, email=EMAIL, quantity=quantity).purchase


def pay(client: Client, purchase: Purchase) -> None:
    assert client.post(f"/test-payment/{purchase.checkout}", {"pay": "yes"}).status_code == 302
    purchase.refresh_from_db()


def page_of(purchase: Purchase) -> str:
    return f"/purchases/{purchase.token}"


class TestCourses:
    def test_it_lists_courses_with_their_prices_and_ways_in(self, client: Client, pool: Course) -> None:
        page = text_of(get(client, "/"))
        assert "JavaScript Basics" in page
        assert "49.00 USD" in page
        assert 'href="/courses/JS101"' in page

    @pytest.mark.parametrize(
        ("fields", "tag"),
        [
            ({"on_sale": False}, "Not on sale"),
            ({"price": None}, "With a voucher"),
            ({"price": 0}, "With a voucher"),
            ({"stop_when_empty": True}, "Sold out"),
            ({}, "With a waiting list"),
        ],
    )
    def test_it_says_what_keeps_a_course_from_being_bought(
        self, client: Client, fields: dict[str, Any], tag: str
    ) -> None:
        CourseFactory.create(**({"price": 49} | fields))
        assert f'<p class="tag">{tag}</p>' in text_of(get(client, "/"))

    def test_a_course_sells_again_once_there_are_codes(self, client: Client) -> None:
        make_pool(CourseFactory.create(price=49, stop_when_empty=True), 1)
        assert "tag" not in text_of(get(client, "/"))

    def test_codes_that_are_valid_too_shortly_are_none(self, client: Client) -> None:
        course = CourseFactory.create(price=49, stop_when_empty=True, minimum_validity_days=10)
        make_pool(course, 1, expires_on=timezone.localdate() + dt.timedelta(days=9))
        assert "Sold out" in text_of(get(client, "/"))

    def test_it_lists_those_on_sale_first(self, client: Client) -> None:
        CourseFactory.create(name="A first", on_sale=False)
        CourseFactory.create(name="Z last")
        page = text_of(get(client, "/"))
        assert page.index("Z last") < page.index("A first")

    def test_it_says_that_there_is_nothing_yet(self, client: Client) -> None:
        assert "There are no courses here yet." in text_of(get(client, "/"))

    def test_it_asks_once_however_many_courses(
        self, client: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for _ in range(5):
            make_pool(CourseFactory.create(price=49, stop_when_empty=True), 2)
        with django_assert_num_queries(3):  # the courses; and, twice, whether a key is kept in the admin
            get(client, "/")

    def test_names_and_descriptions_are_text(self, client: Client) -> None:
        name = "<script>alert('&')</script>"
        course = CourseFactory.create(name=name, description=name, price=1)
        purchase = PurchaseFactory.create(course=course)
        paths = ["/", f"/courses/{course.pk}", f"/courses/{course.pk}/checkout", page_of(purchase)]
        for path in paths:
            page = get(client, path).content.decode()
            assert "<script>alert" not in page, path
            assert "&lt;script&gt;" in page, path


class TestCourse:
    def test_it_shows_the_course_and_the_way_to_buy_it(self, client: Client, pool: Course) -> None:
        Course.objects.update(description="All about closures.\n\nAnd promises.")
        page = text_of(get(client, "/courses/JS101"))
        assert "<title>JavaScript Basics · " in page
        assert "<p>And promises.</p>" in page
        assert "49.00 USD" in page
        assert f'<a class="button" href="{CHECKOUT}">Buy</a>' in page

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"on_sale": False}, "not on sale just now"),
            ({"price": None}, "to be had with a voucher"),
            ({"stop_when_empty": True}, "Sold out just now"),
        ],
    )
    def test_it_offers_only_to_redeem_where_it_cannot_be_bought(
        self, client: Client, priced: Course, fields: dict[str, Any], sentence: str
    ) -> None:
        Course.objects.update(**fields)
        page = text_of(get(client, "/courses/JS101"))
        assert sentence in page
        assert "Redeem a voucher" in page
        assert ">Buy<" not in page

    def test_it_says_so_where_no_payments_are_set_up(self, client: Client, pool: Course, settings: Any) -> None:
        settings.DEMO_PAYMENTS = False
        page = text_of(get(client, "/courses/JS101"))
        assert "It cannot be bought here just now" in page
        assert ">Buy<" not in page

    def test_it_tells_of_the_queue_before_anybody_pays(self, client: Client, priced: Course) -> None:
        assert "No codes are left just now." in text_of(get(client, "/courses/JS101"))
        assert "No codes are left just now." in text_of(get(client, CHECKOUT))

    def test_it_asks_a_fixed_number_of_questions(
        self, client: Client, pool: Course, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(4):  # the course, whether it has codes; twice, whether there is a key
            get(client, "/courses/JS101")
        Course.objects.update(stop_when_empty=True)
        with django_assert_num_queries(6):  # and whether there are more than wait
            get(client, "/courses/JS101")

    @pytest.mark.parametrize("path", ["/courses/NONE", "/courses/NONE/checkout", "/courses/js101", "/courses/%00"])
    def test_an_unknown_course_is_a_page_that_says_so(self, client: Client, course: Course, path: str) -> None:
        response = get(client, path)
        assert response.status_code == 404
        assert "There is no course" in text_of(response)
        assert "All courses" in text_of(response)

    @pytest.mark.parametrize("path", ["/nowhere", "/courses", "/courses/", "/purchases/"])
    def test_an_unknown_address_is_a_page_in_the_shops_look(self, client: Client, path: str) -> None:
        response = get(client, path)
        assert response.status_code == 404
        assert "There is nothing at this address." in text_of(response)
        assert "shop/shop.css" in text_of(response)

    def test_pages_to_look_at_take_no_posts(self, client: Client, course: Course) -> None:
        assert [client.post(path).status_code for path in ("/", "/courses/JS101", "/purchases/x")] == [405] * 3


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


def test_no_address_holds_a_code_or_an_email(client: Client, pool: Course, webhook: None) -> None:
    purchase = begun(pool)
    pay(client, purchase)
    pages = [get(client, "/"), get(client, CHECKOUT), get(client, page_of(purchase)), send(client, code="NONE-0001")]
    redirects = [send(client), send(client, code=CODE)]
    addresses = [response["Location"] for response in redirects]
    addresses += [a for page in pages for a in re.findall(r'(?:href|action|src)="([^"]*)"', text_of(page))]
    for address in addresses:
        assert "@" not in address
        assert not re.search(r"(?i)(code|none)-", address)
        assert CODE not in address


def test_every_page_has_a_language_a_title_and_a_way_past_the_top(client: Client, pool: Course) -> None:
    purchase = PurchaseFactory.create(course=pool)
    paths = ["/", "/courses/JS101", CHECKOUT, page_of(purchase), f"/test-payment/{begun(pool).checkout}", "/nowhere"]
    titles = set()
    for path in paths:
        page = text_of(get(client, path))
        assert '<html lang="en">' in page
        assert page.count("<h1") == 1, path
        assert '<a class="skip" href="#main">' in page
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page), path
        title = re.search("<title>(.+?)</title>", page)
        assert title
        titles.add(title[1])
    assert len(titles) == len(paths)
