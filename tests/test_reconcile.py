"""python manage.py reconcile, and every ten minutes: what a lost webhook never told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from courses.models import Course, PaymentFact, Purchase
from tests.factories import make_pool
from tests.stripe_events import KEY, Payment, tell
from tests.stripe_server import StripeServer, running_stripe_server
from vouchers.models import Issuance, Voucher
from vouchers.tasks import reconcile_payments

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stripe(settings: Settings, priced: Course) -> Iterator[StripeServer]:
    make_pool(priced, 3)
    with running_stripe_server() as server:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_HOST = KEY, server.url
        settings.DEMO_PAYMENTS = False
        yield server


def recently(thing: dict[str, Any]) -> dict[str, Any]:
    return thing | {"created": int(time.time()) - 60}


def reconcile(capsys: pytest.CaptureFixture[str]) -> str:
    call_command("reconcile")
    return capsys.readouterr().out.splitlines()[-1]


def test_it_fills_in_a_payment_and_only_once(stripe: StripeServer, capsys: pytest.CaptureFixture[str]) -> None:
    payment = Payment()
    stripe.sessions = [recently(payment.session())]
    stripe.intents = [recently(payment.intent())]
    assert reconcile(capsys) == "Looked at 2 payments; filled in 2 missing facts."
    assert Issuance.objects.get().status == "issued"
    assert {*PaymentFact.objects.values_list("source", flat=True)} == {"reconciliation"}
    assert reconcile(capsys) == "Looked at 2 payments; filled in 0 missing facts."
    tell(payment.completed())  # the webhook comes after all
    assert Purchase.objects.count() == Issuance.objects.count() == 1


def test_it_leaves_alone_what_is_not_paid(stripe: StripeServer, capsys: pytest.CaptureFixture[str]) -> None:
    stripe.sessions = [
        recently(Payment().session(payment_status="unpaid", status="open")),
        recently(Payment().session(payment_status="unpaid", status="complete")),
        recently(Payment().session(payment_status="unpaid", status="expired")),
    ]
    stripe.intents = [recently(Payment().intent(status="requires_payment_method"))]
    reconcile(capsys)
    assert not Issuance.objects.exists()


def test_it_fills_in_refunds_and_disputes_of_older_payments_too(
    stripe: StripeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    refunded, disputed, won = Payment(), Payment(), Payment()
    tell(refunded.completed(), disputed.completed(), won.completed(), won.disputed())
    stripe.events = [refunded.refunded(4900), disputed.disputed(), won.dispute_ended("won")]
    reconcile(capsys)

    def voucher(payment: Payment) -> Voucher:
        return Voucher.objects.get(issuances__purchase__reference=payment.intent_id)

    assert voucher(refunded).status == "revoked"
    assert voucher(disputed).held_since is not None
    assert voucher(won).held_since is None


def test_it_fills_in_a_refund_that_its_payment_knows(stripe: StripeServer, capsys: pytest.CaptureFixture[str]) -> None:
    payment = Payment()
    tell(payment.completed())
    stripe.intents = [recently(payment.intent(latest_charge=payment.charge(4900)))]
    stripe.no_events = True  # by a restricted key
    reconcile(capsys)
    assert Voucher.objects.get(issuances__purchase__reference=payment.intent_id).status == "revoked"


def test_it_says_when_a_provider_is_away(stripe: StripeServer) -> None:
    stripe.down = True
    with pytest.raises(CommandError, match="Stripe does not answer"):
        call_command("reconcile")
    reconcile_payments(timestamp=0)  # by the clock it goes on the next time


def test_it_says_when_there_is_nobody_to_ask(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.STRIPE_SECRET_KEY = ""
    assert reconcile(capsys) == "No payment provider is set up, so there is nobody to ask."


@pytest.mark.parametrize("days", ["0", "366"])
def test_it_refuses_a_time_that_is_none(days: str) -> None:
    with pytest.raises(CommandError, match="from 1 to 365"):
        call_command("reconcile", "--days", days)
