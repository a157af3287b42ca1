"""The language of the shop's pages, of what a purchase remembers, and of its emails. The German itself:
tests/test_catalogue.py."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from courses.models import Course, Purchase
from tests.factories import PurchaseFactory, issue_to, make_pool
from tests.shop import CHECKOUT, CODE, begun, get, page_of, pay, send, text_of
from tests.stripe_events import KEY, Payment, event, tell
from tests.stripe_server import StripeServer, running_stripe_server
from vouchers.delivery.messages import message_of
from vouchers.delivery.outbox import resend_voucher
from vouchers.errors import VoucherNotFound
from vouchers.languages import known_language
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.facts import Claims
from vouchers.payments.orders import Order
from vouchers.payments.paypal.api import _order_body

pytest_plugins = ["tests.shop"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("demo_payments")]
GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
ENGLISH = {"Accept-Language": "en-GB,en;q=0.9"}


@pytest.fixture
def german(client: Client) -> Client:
    """Somebody whose browser asks for German."""
    return Client(headers=GERMAN)


def language_of_page(response: Any) -> tuple[str, str]:
    """As the page says, and as its header does."""
    page = text_of(response)
    return page.partition('<html lang="')[2].partition('"')[0], response["Content-Language"]


def page_in(message: EmailMultiAlternatives) -> str:
    return str(message.alternatives[0][0])


class TestPages:
    def test_it_speaks_as_the_browser_asks(self, german: Client, pool: Course) -> None:
        response = get(german, "/courses/JS101")
        assert language_of_page(response) == ("de", "de")
        assert ">Kaufen<" in text_of(response)
        assert {"Accept-Language", "Cookie"} <= {name.strip() for name in response["Vary"].split(",")}

    @pytest.mark.parametrize(
        ("header", "language"),
        [
            ("", "en"),
            ("fr-FR,fr;q=0.9", "en"),
            ("fr,de;q=0.7,en;q=0.3", "de"),
            ("DE", "de"),
            ("de;q=0,fr", "en"),
            ("*", "en"),
            ("de" * 500, "en"),
            ("de;q=x, \x00", "en"),
        ],
    )
    def test_of_what_the_browser_asks_for_the_best_that_is_spoken_here(
        self, client: Client, header: str, language: str
    ) -> None:
        assert language_of_page(get(client, "/", headers={"Accept-Language": header})) == (language, language)

    @pytest.mark.parametrize("header", ["", "fr"])
    def test_where_none_is_spoken_here_it_is_the_shops_own(
        self, client: Client, settings: Settings, header: str
    ) -> None:
        settings.SHOP_LANGUAGE = "de"
        assert language_of_page(get(client, "/", headers={"Accept-Language": header})) == ("de", "de")
        assert language_of_page(get(client, "/", headers=ENGLISH)) == ("en", "en")

    def test_a_page_leaves_nothing_of_its_language_behind(self, german: Client) -> None:
        get(german, "/")
        assert VoucherNotFound().message.startswith("No voucher can be redeemed")

    def test_refusals_and_faults_of_a_form_are_in_it_too(self, german: Client, pool: Course) -> None:
        assert "Geben Sie Ihre E-Mail-Adresse an." in text_of(send(german, email=""))
        assert "Mit diesem Code lässt sich kein Gutschein einlösen." in text_of(send(german, code="NONE-0001"))
        assert "Es gibt keinen Kurs 'NONE'." in text_of(get(german, "/courses/NONE"))
        Course.objects.update(stop_when_empty=True)
        Voucher.objects.update(status="revoked", revoked_at=dt.datetime.now(dt.UTC), revoked_reason="tests")
        assert "JavaScript Basics ist im Moment ausverkauft." in text_of(send(german))

    def test_a_price_is_a_number_to_the_script_in_every_language(self, german: Client, pool: Course) -> None:
        assert 'data-price="49.00"' in text_of(get(german, CHECKOUT))


class TestChoosing:
    def test_a_choice_is_kept_and_goes_before_the_browser(self, german: Client, pool: Course) -> None:
        assert 'href="?language=en"' in text_of(get(german, CHECKOUT))
        response = get(german, f"{CHECKOUT}?language=en")
        assert (response.status_code, response["Location"]) == (302, CHECKOUT)
        assert language_of_page(get(german, "/")) == ("en", "en")

    @pytest.mark.parametrize("asked", ["fr", "", "//evil.example", "de%0d%0aX: y"])
    def test_what_is_not_spoken_here_is_no_choice(self, client: Client, asked: str) -> None:
        response = get(client, f"/?language={asked}")
        assert response.status_code == 200
        assert not response.cookies

    def test_a_form_is_carried_out_whatever_its_address_says(self, client: Client, pool: Course) -> None:
        assert client.post(f"{CHECKOUT}?language=de", {"email": "ann", "quantity": "1"}).status_code == 200

    def test_a_choice_goes_before_the_purchases_language(self, client: Client, course: Course) -> None:
        path = page_of(PurchaseFactory.create(course=course, language="de"))
        get(client, f"{path}?language=en")
        assert language_of_page(get(client, path)) == ("en", "en")


class TestPurchase:
    def test_it_remembers_the_language_of_its_checkout(self, german: Client, pool: Course) -> None:
        send(german)
        assert Purchase.objects.get().language == "de"

    def test_so_does_a_free_one_and_its_confirmation(self, german: Client, pool: Course) -> None:
        send(german, code=CODE, provider="redeem")
        assert Purchase.objects.get().language == "de"
        assert message_of(Delivery.objects.get()).subject == "JavaScript Basics gehört Ihnen"

    def test_its_page_follows_it_and_not_the_reader(self, client: Client, course: Course) -> None:
        path = page_of(PurchaseFactory.create(course=course, language="de"))
        response = get(client, path, headers=ENGLISH)
        assert language_of_page(response) == ("de", "de")
        assert "Wir warten auf Ihre Zahlung" in text_of(response)

    def test_so_does_the_part_that_changes(self, client: Client, course: Course) -> None:
        path = page_of(PurchaseFactory.create(course=course, language="de"))
        part = get(client, path, headers=ENGLISH | {"HX-Request": "true"})
        assert "Wir warten auf Ihre Zahlung" in text_of(part)
        assert part["Content-Language"] == "de"
        assert {"Accept-Language", "HX-Request"} <= {name.strip() for name in part["Vary"].split(",")}

    def test_where_it_knows_none_its_page_follows_the_reader(self, german: Client, course: Course) -> None:
        assert language_of_page(get(german, page_of(PurchaseFactory.create(course=course)))) == ("de", "de")

    def test_the_test_payment_speaks_it_and_keeps_it(self, client: Client, pool: Course, webhook: None) -> None:
        purchase = begun(pool)
        Purchase.objects.update(language="de")
        assert "Testzahlung" in text_of(get(client, f"/test-payment/{purchase.checkout}", headers=ENGLISH))
        pay(client, purchase)
        assert purchase.language == "de"


class TestEmails:
    @pytest.fixture
    def delivery(self, course: Course, settings: Settings) -> Delivery:
        settings.TIME_ZONE = "Europe/Berlin"
        make_pool(course, 1, code=CODE, expires_on=dt.date(2031, 3, 5))
        Course.objects.update(price=49)
        tell(Payment().completed())
        return Delivery.objects.get()

    def again(self) -> Delivery:
        """As one that is queued now."""
        return resend_voucher(Issuance.objects.get())

    def test_it_is_in_the_language_of_the_purchase(self, delivery: Delivery) -> None:
        Purchase.objects.update(language="de")
        message = message_of(self.again())
        assert message.subject == "Ihr Gutschein für JavaScript Basics"
        assert "hier ist Ihr Gutschein für JavaScript Basics:" in message.body
        assert '<html lang="de">' in page_in(message)

    def test_a_date_is_the_end_of_a_day_in_a_time_zone_that_is_named(self, delivery: Delivery) -> None:
        assert "It is valid until the end of 5 March 2031 (Europe/Berlin)." in message_of(delivery).body
        Purchase.objects.update(language="de")
        message = message_of(self.again())
        assert "Er gilt bis zum Ende des 5. März 2031 (Europe/Berlin)." in message.body
        assert "Ende des <strong>5. März 2031</strong> (Europe/Berlin)." in page_in(message)

    def test_what_was_asked_for_on_a_page_is_in_the_language_of_that_page(self, delivery: Delivery) -> None:
        delivery.language = "de"
        assert message_of(delivery).subject == "Ihr Gutschein für JavaScript Basics"

    def test_where_none_is_known_it_is_the_shops_own(self, delivery: Delivery, settings: Settings) -> None:
        settings.SHOP_LANGUAGE = "de"
        assert message_of(self.again()).subject == "Ihr Gutschein für JavaScript Basics"

    def test_a_link_instead_of_the_code_is_a_button(self, course: Course) -> None:
        Course.objects.update(reveal=Course.Reveal.LINK)
        make_pool(course, 1, code=CODE)
        issuance = issue_to(Course.objects.get())
        message = message_of(issuance.deliveries.get())
        page = page_in(message)
        for body in (message.body, page):
            assert CODE not in body
            assert f"/vouchers/{issuance.pk}/" in body
            assert "The link is for you alone: do not pass it on." in body
        assert ">Show my code</a>" in page

    @pytest.mark.parametrize(
        ("quantity", "codes", "said"),
        [
            (1, 0, "deshalb wartet Ihr Gutschein auf die nächste Lieferung"),
            (2, 0, "deshalb warten Ihre Gutscheine auf die nächste Lieferung"),
            (2, 1, "1 Ihrer 2 Gutscheine ist in einer eigenen E-Mail unterwegs; für den anderen warten wir"),
            (4, 2, "2 Ihrer 4 Gutscheine sind in eigenen E-Mails unterwegs; für die anderen warten wir"),
        ],
    )
    def test_it_counts_as_the_language_does(self, course: Course, quantity: int, codes: int, said: str) -> None:
        Course.objects.update(price=49)
        if codes:
            make_pool(course, codes)
        payment = Payment(amount=4900 * quantity, quantity=quantity)
        tell(payment.completed(locale="de"))
        message = message_of(Delivery.objects.get(kind="waiting"))
        assert said in message.body
        assert said in page_in(message)


class TestStripe:
    @pytest.mark.parametrize(
        ("metadata", "locale", "language"),
        [
            ({"language": "de"}, "en", "de"),
            ({"language": "de-CH"}, None, "de"),
            ({}, "de", "de"),
            ({}, "en-GB", "en"),
            ({"language": "fr"}, "de", "de"),
            ({}, "auto", ""),
            ({}, None, ""),
            ({"language": ["de"]}, 7, ""),
        ],
    )
    def test_a_purchase_takes_what_it_tells(
        self, priced: Course, metadata: dict[str, Any], locale: object, language: str
    ) -> None:
        payment = Payment()
        tell(event("checkout.session.completed", payment.session(metadata=payment.metadata | metadata, locale=locale)))
        assert Purchase.objects.get().language == language

    def test_what_is_known_is_not_written_over(self, pool: Course) -> None:
        purchase = begun(pool)
        Purchase.objects.update(language="de")
        tell(Payment().completed(id=purchase.checkout, locale="en"))
        purchase.refresh_from_db()
        assert (bool(purchase.completed_at), purchase.language) == (True, "de")

    def test_what_it_tells_later_fills_a_gap(self, priced: Course) -> None:
        payment = Payment()
        tell(event("payment_intent.succeeded", payment.intent()))
        assert Purchase.objects.get().language == ""
        tell(payment.completed(locale="de"))
        assert Purchase.objects.get().language == "de"

    def test_facts_of_before_there_were_languages_can_be_read(self) -> None:
        claims = Claims(course_id="JS101", email="ann@example.com", net="49", gross="49", currency="usd").as_json()
        del claims["language"]
        assert Claims(**claims).language == ""


class TestProviders:
    @pytest.fixture
    def stripe(self, settings: Settings) -> Iterator[StripeServer]:
        with running_stripe_server() as server:
            settings.STRIPE_SECRET_KEY, settings.STRIPE_API_HOST = KEY, server.url
            settings.DEMO_PAYMENTS = False
            yield server

    @pytest.mark.parametrize(
        ("body", "header", "language"),
        [
            ({"language": "de-AT"}, ENGLISH, "de"),
            ({}, GERMAN, "de"),
            ({"language": "fr"}, GERMAN, "de"),
            ({"language": None}, ENGLISH, "en"),
            ({"language": ""}, {"Accept-Language": "fr"}, ""),
            ({}, {}, ""),
        ],
    )
    def test_a_checkout_of_the_api_hands_the_language_on(
        self, stripe: StripeServer, priced: Course, body: dict[str, Any], header: dict[str, str], language: str
    ) -> None:
        asked = {"courseId": "JS101", "email": "ann@example.com"} | body
        assert APIClient().post("/api/checkout", asked, format="json", headers=header).status_code == 201
        assert Purchase.objects.get().language == language
        ((_, sent, _),) = stripe.asked
        assert sent.get("locale", "") == sent.get("metadata[language]", "") == language

    @pytest.mark.parametrize(("language", "locale"), [("de", "de-DE"), ("en", "en-US"), ("", None)])
    def test_paypal_is_asked_to_speak_it(self, priced: Course, language: str, locale: str | None) -> None:
        purchase = PurchaseFactory.build(course=priced)
        order = Order(
            purchase_id=purchase.pk,
            course=priced,
            email="ann@example.com",
            quantity=1,
            unit_price=Decimal(49),
            success_url="https://shop.example/paid",
            cancel_url="https://shop.example/cancelled",
            language=language,
        )
        experience = _order_body(order)["payment_source"]["paypal"]["experience_context"]
        assert experience.get("locale") == locale


class TestStaffAndPrograms:
    @pytest.mark.parametrize(
        ("path", "body", "sentence"),
        [
            ("/redeem-voucher", {"code": "NONE-0001"}, "No voucher can be redeemed with this code."),
            ("/redeem-voucher", {"code": "?"}, "This is not a voucher code."),
            ("/api/checkout", {"courseId": "NONE", "email": "ann@example.com"}, "There is no course 'NONE'."),
            ("/api/checkout", {"courseId": "JS101", "email": "ann"}, "email: Enter a valid email address."),
        ],
    )
    def test_the_api_answers_in_english(self, course: Course, path: str, body: dict[str, str], sentence: str) -> None:
        answer = APIClient().post(path, body, format="json", headers=GERMAN | {"Cookie": "django_language=de"})
        assert answer.json()["error"].startswith(sentence)

    def test_the_admin_is_english(self, german: Client) -> None:
        assert "Password" in text_of(get(german, "/admin/login/"))

    def test_a_choice_in_the_shop_does_not_change_the_admin(self, client: Client) -> None:
        get(client, "/?language=de")
        assert "Password" in text_of(get(client, "/admin/login/"))


@pytest.mark.parametrize(
    ("given", "known"), [("de", "de"), (" de_DE ", "de"), ("DE-at", "de"), ("deu", ""), ("", ""), ("-", "")]
)
def test_a_tag_is_known_by_its_language(given: str, known: str) -> None:
    assert known_language(given) == known


class TestPagesOutsideTheViews:
    def test_a_page_that_is_not_there_speaks_to_buyers_in_their_language(self, db: None) -> None:
        answer = Client(headers={"Accept-Language": "de"}).get("/nothing-here")
        assert answer.status_code == 404
        assert '<html lang="de">' in answer.content.decode()

    def test_an_expired_form_does_so_too(self, course: Course) -> None:
        answer = Client(enforce_csrf_checks=True, headers={"Accept-Language": "de"}).post("/courses/JS101/checkout")
        assert answer.status_code == 403
        assert '<html lang="de">' in answer.content.decode()

    def test_it_speaks_english_to_staff_and_programs(self, db: None) -> None:
        client = Client(headers={"Accept-Language": "de"})
        assert '<html lang="en"' in client.get("/admin/nothing-here/", follow=True).content.decode()
        assert "There is nothing at this address" in client.get("/api/nothing-here").json()["error"]
