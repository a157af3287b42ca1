"""Everything a buyer may be shown or sent, in German: no English is left, of the catalogue or beside it."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from courses.models import Course, Purchase
from tests.catalogue import MARKUP, PLACEHOLDER, entries
from tests.factories import CourseFactory, issue_to, make_pool
from tests.shop import CHECKOUT, CODE, begun, get, page_of, pay, send
from tests.stripe_events import Payment, tell
from vouchers.delivery.messages import message_of
from vouchers.guesses import Guesser
from vouchers.languages import speaking
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.deeds import return_voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.revealing import reveal_url
from vouchers.revoking import revoke_voucher

pytest_plugins = ["tests.shop"]
pytestmark = pytest.mark.django_db
READ = {"aria-label", "title", "placeholder", "alt", "data-lost", "data-ended", "data-copied"}
ENGLISH = re.compile(r"(?i)\b(the|your|you|is|are|of|to|with|and|it|this|has|not|from|page|voucher|course)\b")


@pytest.fixture(autouse=True)
def german_shop(settings: Settings) -> None:
    settings.SHOP_LANGUAGE = "de"
    settings.DEMO_PAYMENTS = True
    settings.TIME_ZONE = "Europe/Berlin"


class Reader(HTMLParser):
    """What of a page is read, seen or not."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.read += [text for name, text in attrs if name in READ and text]
        if dict(attrs).get("lang") == "en":
            self.tag = "lang"  # the way to the English pages is in English

    def handle_data(self, data: str) -> None:
        if self.tag not in ("style", "script", "lang"):
            self.read.append(data)


@cache
def fragments() -> list[str]:
    """What stands between that which is put into the texts of the catalogue, where it is longer than a word or two."""
    texts = [text for entry in entries() for text in (entry.msgid, entry.plural)]
    pieces = (piece.strip() for text in texts for piece in re.split(f"{PLACEHOLDER.pattern}|{MARKUP.pattern}", text))
    return [piece for piece in pieces if len(piece) > 12]


def check(content: str) -> None:
    reader = Reader()
    reader.feed(content)
    read = " ".join(" ".join(reader.read).split())
    assert [fragment for fragment in fragments() if fragment in html.unescape(read)] == []
    assert ENGLISH.findall(read.replace("JavaScript Basics", "")) == []


def check_page(response: Any, status: int = 200) -> None:
    assert response.status_code == status
    assert '<html lang="de">' in response.content.decode()
    check(response.content.decode())


@pytest.mark.parametrize(
    "fields", [{}, {"on_sale": False}, {"price": None}, {"stop_when_empty": True}], ids=lambda fields: str(fields)
)
@pytest.mark.parametrize("codes", [0, 1])
def test_the_courses_and_the_way_to_buy_one(client: Client, fields: dict[str, Any], codes: int) -> None:
    check_page(get(client, "/"))
    make_pool(CourseFactory.create(**({"id": "JS101", "price": 49} | fields)), codes)
    for path in ("/", "/courses/JS101", CHECKOUT):
        check_page(get(client, path))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"email": ""}, 200),
        ({"email": "ann"}, 200),
        ({"quantity": "101"}, 200),
        ({"quantity": "2", "code": CODE}, 200),
        ({"provider": "redeem"}, 200),
        ({"code": "?"}, 400),
        ({"code": "NONE-0001"}, 404),
        ({"provider": "paypal"}, 409),
    ],
)
def test_what_a_checkout_refuses(client: Client, pool: Course, fields: dict[str, str], status: int) -> None:
    check_page(send(client, **fields), status)


def redeemed(voucher: Voucher) -> None:
    redeem_voucher(RedeemRequest(code=voucher.code, email="ann@example.com", guesser=Guesser("tests", 10)))


def revoked(voucher: Voucher) -> None:
    revoke_voucher(voucher, reason="tests")


def returned(voucher: Voucher) -> None:
    revoked(voucher)
    return_voucher(Issuance.objects.get(voucher=voucher))


def expired(voucher: Voucher) -> None:
    Voucher.objects.filter(pk=voucher.pk).update(expires_on=dt.date(2020, 1, 1), valid_until=dt.date(2020, 1, 1))


def on_hold(voucher: Voucher) -> None:
    Voucher.objects.filter(pk=voucher.pk).update(held_since=timezone.now())


@pytest.mark.parametrize(("fate", "status"), [(redeemed, 409), (revoked, 410), (expired, 410), (on_hold, 409)])
def test_the_checkout_and_a_voucher_of_no_use(
    client: Client, pool: Course, fate: Callable[[Voucher], None], status: int
) -> None:
    issue_to(pool)
    fate(Voucher.objects.get(code=CODE))
    check_page(send(client, code=CODE), status)


def test_too_many_guesses(client: Client, pool: Course) -> None:
    for number in range(10):
        assert send(client, code=f"NONE-{number:04}").status_code == 404
    check_page(send(client, code="NONE-0010"), 429)


def test_no_payments(client: Client, pool: Course, settings: Settings) -> None:
    settings.DEMO_PAYMENTS = False
    for path in ("/courses/JS101", CHECKOUT):
        check_page(get(client, path))
    check_page(send(client), 409)


def _sent(purchase: Purchase) -> None:
    Delivery.objects.update(status="sent", sent_at=timezone.now())


def _unsent(purchase: Purchase) -> None:
    Delivery.objects.update(status="failed", last_error="550 No such user")


def _on_its_way(purchase: Purchase) -> None:
    assert Issuance.objects.exists()


@pytest.mark.parametrize(
    ("codes", "quantity", "fate"),
    [
        (0, 1, _on_its_way),
        (0, 3, _on_its_way),
        (2, 3, _sent),
        (1, 1, _on_its_way),
        (3, 3, _on_its_way),
        (1, 1, _sent),
        (3, 3, _sent),
        (1, 1, _unsent),
        (3, 3, _unsent),
    ],
)
@pytest.mark.parametrize("reveal", Course.Reveal.values)
def test_the_page_of_a_purchase(
    client: Client,
    priced: Course,
    webhook: None,
    reveal: str,
    codes: int,
    quantity: int,
    fate: Callable[[Purchase], None],
) -> None:
    Course.objects.update(reveal=reveal)
    make_pool(priced, codes)
    purchase = begun(priced, quantity)
    check_page(get(client, page_of(purchase)))
    check_page(get(client, f"/test-payment/{purchase.checkout}"))
    pay(client, purchase)
    fate(purchase)
    check_page(get(client, page_of(purchase)))
    check(get(client, page_of(purchase), headers={"HX-Request": "true"}).content.decode())


@pytest.mark.parametrize(
    "fields",
    [
        {"failed_at": timezone.now()},
        {"paid_at": timezone.now()},
        {"paid_at": timezone.now(), "completed_at": timezone.now()},
        {"paid_at": timezone.now(), "completed_at": timezone.now(), "disputed_at": timezone.now()},
        {"paid_at": timezone.now(), "refunded_amount": 49},
        {"paid_at": timezone.now(), "provider": "voucher", "checkout": ""},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_the_page_of_a_purchase_that_came_to_something_else(
    client: Client, pool: Course, fields: dict[str, Any]
) -> None:
    purchase = begun(pool)
    Purchase.objects.update(**fields)
    check_page(get(client, page_of(purchase)))


@pytest.mark.parametrize("path", ["/courses/NONE", "/purchases/none", "/vouchers/1/none"])
def test_nothing_there(client: Client, path: str) -> None:
    check_page(get(client, path), 404)


@pytest.mark.parametrize("template", ["404.html", "403_csrf.html", "500.html"])
def test_what_is_shown_beside_the_views(template: str) -> None:
    with speaking("de"):
        check(render_to_string(template))


def test_send_me_my_codes_again(client: Client) -> None:
    check_page(get(client, "/codes"))
    check_page(client.post("/codes", {"email": "ann"}))
    for _ in range(10):
        check_page(client.post("/codes", {"email": "ann@example.com"}))
    check_page(client.post("/codes", {"email": "ann@example.com"}), 429)


@pytest.mark.parametrize("rule", [Course.Redemption.BEARER, Course.Redemption.HOLDER])
@pytest.mark.parametrize("reveal", Course.Reveal.values)
class TestVoucher:
    @pytest.fixture
    def issuance(self, course: Course, reveal: str, rule: str) -> Issuance:
        Course.objects.update(reveal=reveal, redemption=rule)
        make_pool(course, 2, expires_on=timezone.localdate() + dt.timedelta(days=30))
        return issue_to(Course.objects.get())

    @pytest.mark.parametrize("kind", ["voucher", "reminder", "expiry"])
    def test_its_emails(self, issuance: Issuance, kind: str) -> None:
        delivery = issuance.deliveries.get()
        delivery.kind = kind
        check_message(delivery)

    def test_its_page(self, client: Client, issuance: Issuance) -> None:
        check_page(get(client, reveal_url(issuance)))
        check_page(client.post(reveal_url(issuance)))


@pytest.mark.parametrize("fate", [redeemed, revoked, returned, expired, on_hold])
def test_the_page_of_a_voucher_of_no_use(client: Client, course: Course, fate: Callable[[Voucher], None]) -> None:
    Course.objects.update(reveal=Course.Reveal.LINK)
    (voucher,) = make_pool(course, 1)
    issuance = issue_to(Course.objects.get())
    voucher.refresh_from_db()
    fate(voucher)
    check_page(get(client, reveal_url(issuance)))
    check_page(client.post(reveal_url(issuance)), 409)


def test_the_page_of_a_voucher_in_the_place_of_another(client: Client, course: Course) -> None:
    make_pool(course, 2)
    issuance = issue_to(course)
    replace_voucher(issuance, reason="tests", actor="tests")
    check_page(get(client, reveal_url(issuance)))
    check_page(client.post(reveal_url(issuance)))


@pytest.mark.parametrize(("codes", "quantity"), [(0, 1), (0, 2), (1, 2), (2, 4)])
def test_the_email_of_a_place_in_the_queue(priced: Course, codes: int, quantity: int) -> None:
    make_pool(priced, codes)
    tell(Payment(amount=4900 * quantity, quantity=quantity).completed())
    check_message(Delivery.objects.get(kind="waiting"))


def test_the_email_of_a_free_purchase(client: Client, pool: Course) -> None:
    send(client, code=CODE, provider="redeem")
    check_message(Delivery.objects.get(kind="confirmation"))


def check_message(delivery: Delivery) -> None:
    message = message_of(delivery)
    page = str(message.alternatives[0][0])
    assert '<html lang="de">' in page
    for content in (str(message.subject), str(message.body), page):
        check(content)
