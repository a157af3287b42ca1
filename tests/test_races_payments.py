"""Staff and a webhook at one payment; each race with its control, in which the guard is taken away."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import OperationalError

from courses.models import Course, PaymentFact, Purchase
from tests.factories import CourseFactory, make_pool
from tests.racing import failures, in_thread, somebody_waits_for_a_lock, together, wait_until
from tests.stripe_events import Payment, event, post, tell
from vouchers.filling import sweep_waiting
from vouchers.guesses import Guesser
from vouchers.models import Issuance, Voucher
from vouchers.payments import deeds, settling
from vouchers.payments.deeds import accept_purchase
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def course(transactional_db: None) -> Course:
    return CourseFactory.create(id="JS101", price=10)


def accept_while_a_webhook_is_at_it(course: Course, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The webhook has its lock, and goes on once staff wait for something."""
    make_pool(course, 1)
    payment = Payment(amount=500)
    tell(payment.completed())
    purchase = Purchase.objects.get()
    locked = threading.Event()
    keep = settling._keep

    def keep_slowly(fact: PaymentFact) -> None:
        keep(fact)
        locked.set()
        wait_until(somebody_waits_for_a_lock)

    monkeypatch.setattr(settling, "_keep", keep_slowly)

    def deed(n: int) -> Any:
        if n == 0:
            return post(event("payment_intent.succeeded", payment.intent())).status_code
        locked.wait(30)
        return accept_purchase(purchase, course=course, email="ann@example.com", quantity=1)

    return together(2, deed)


def test_staff_wait_for_the_webhook(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failures(accept_while_a_webhook_is_at_it(course, monkeypatch))
    assert Issuance.objects.get().status == "issued"


def test_without_the_lock_they_would_wait_for_each_other(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deeds, "lock_payment", lambda purchase: None)
    (failure,) = failures(accept_while_a_webhook_is_at_it(course, monkeypatch))
    assert isinstance(failure, OperationalError)
    assert "deadlock" in str(failure)


def test_a_voucher_is_redeemed_or_taken_back_and_never_both(course: Course) -> None:
    for _ in range(8):
        make_pool(course, 1)
        payment = Payment(amount=1000)
        tell(payment.completed())
        voucher = Voucher.objects.get(status="issued")
        request = RedeemRequest(code=voucher.code, guesser=Guesser("tests", 10))

        def deed(n: int, payment: Payment = payment, request: RedeemRequest = request) -> Any:
            return post(payment.refunded(1000)).status_code if n else redeem_voucher(request)

        together(2, deed)
        voucher.refresh_from_db()
        purchase = Purchase.objects.get(reference=payment.intent_id)
        assert (voucher.status, bool(purchase.review)) in {("revoked", False), ("redeemed", True)}


def test_a_queue_is_filled_beside_refunds_of_those_who_wait(course: Course) -> None:
    payments = [Payment(amount=1000) for _ in range(8)]
    tell(*(payment.completed() for payment in payments))
    make_pool(course, 8)

    def deed(n: int) -> Any:
        return sweep_waiting() if n % 2 else post(payments[n].refunded(1000)).status_code

    results = together(8, deed)
    assert not failures(results)
    assert [results[n] for n in (0, 2, 4, 6)] == [200] * 4
    join = in_thread(sweep_waiting)
    join()
    kept = [payments[n].intent_id for n in (1, 3, 5, 7)]
    holders = Issuance.objects.filter(status="issued", voucher__status="issued")
    assert sorted(holders.values_list("purchase__reference", flat=True)) == sorted(kept)
