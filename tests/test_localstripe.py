"""An independent Stripe, which signs its own webhooks: what it tells becomes a voucher here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from courses.models import Course, Purchase
from tests.factories import CourseFactory, make_pool
from tests.racing import wait_until
from tests.running import free_port
from tests.stripe_events import KEY, SECRET, webhook_path
from vouchers.models import Issuance, Voucher
from vouchers.payments.deeds import refund_purchase
from vouchers.payments.stripe.api import client


@pytest.fixture
def localstripe(tmp_path: Path, live_server: LiveServer, settings: Settings) -> Iterator[stripe.StripeClient]:
    """A client of a server of its own, which posts what happens to the desk's webhook."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_HOST = KEY, address
    settings.DEMO_PAYMENTS = False
    script = Path(sys.executable).parent / "localstripe"
    running = subprocess.Popen(
        [script, "--port", str(port), "--from-scratch"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def is_up() -> bool:
        try:
            return bool(requests.get(f"{address}/js.stripe.com/v3/", timeout=5).status_code)
        except requests.ConnectionError:
            return False

    try:
        wait_until(is_up)
        hook = {"url": live_server.url + webhook_path(), "secret": SECRET}
        requests.post(f"{address}/_config/webhooks/desk", json=hook, timeout=5).raise_for_status()
        yield client()
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture
def sold(transactional_db: None) -> Course:
    course = CourseFactory.create(id="JS101", price=Decimal("49.00"))
    make_pool(course, 2)
    return course


def pay(localstripe: stripe.StripeClient, amount: int = 4900) -> str:
    """A payment that a shop makes by itself, confirmed; its id."""
    card: Any = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2030, "cvc": "123"}
    method = localstripe.v1.payment_methods.create({"type": "card", "card": card})
    intent = localstripe.v1.payment_intents.create(
        {
            "amount": amount,
            "currency": "usd",
            "payment_method": method.id,
            "metadata": {"courseId": "JS101", "email": "ann@example.com"},
        }
    )
    localstripe.v1.payment_intents.confirm(intent.id)
    return str(intent.id)


def test_a_confirmed_payment_becomes_a_voucher(sold: Course, localstripe: stripe.StripeClient) -> None:
    reference = pay(localstripe)
    wait_until(lambda: Issuance.objects.filter(status="issued").exists())
    assert Purchase.objects.get().reference == reference
    assert Voucher.objects.get(status="issued").issued_to == "ann@example.com"


def test_too_little_becomes_a_review(sold: Course, localstripe: stripe.StripeClient) -> None:
    pay(localstripe, amount=4800)
    wait_until(lambda: Purchase.objects.for_review().exists())
    assert not Issuance.objects.exists()


def test_staff_give_the_money_back_there(sold: Course, localstripe: stripe.StripeClient) -> None:
    reference = pay(localstripe)
    wait_until(lambda: Issuance.objects.filter(status="issued").exists())
    refund_purchase(Purchase.objects.get(), Decimal("49.00"))
    refunds = localstripe.v1.refunds.list({"payment_intent": reference}).data
    assert [refund.amount for refund in refunds] == [4900]
