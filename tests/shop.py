"""What the tests of the shop share: a course with codes, a buyer, and the way of a test payment to our own webhook."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.test import Client

from courses.models import Course, Purchase
from tests.factories import make_pool
from vouchers.payments.checkout import start_checkout

CHECKOUT = "/courses/JS101/checkout"
CODE = "JS101-XZ4B7Q-001"
EMAIL = "ann@example.com"


@pytest.fixture
def demo_payments(settings: Any) -> None:
    settings.DEMO_PAYMENTS = True


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
