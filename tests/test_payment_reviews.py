"""Payments that are not good: kept, shown to staff, and nothing issued until these accept them."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from courses.models import Course, Purchase
from tests.factories import PurchaseFactory, make_pool
from tests.stripe_events import KEY, Payment, event, tell
from vouchers.errors import NotReviewable
from vouchers.models import Issuance, Voucher
from vouchers.payments.deeds import accept_purchase, close_review
from vouchers.payments.progress import progress_of
from vouchers.payments.settling import settle

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced")]


def purchase() -> Purchase:
    return Purchase.objects.get()


def issued() -> int:
    return Issuance.objects.filter(status="issued").count()


def for_review(*events: dict[str, Any]) -> str:
    """Why what these events tell must be looked at; nothing may have been issued."""
    tell(*events)
    found = purchase()
    assert found.paid_at is not None
    assert found.completed_at is None
    assert not Issuance.objects.exists()
    assert progress_of(found).status == "review"
    assert list(Purchase.objects.for_review()) == [found]
    return found.review


class TestReview:
    @pytest.fixture(autouse=True)
    def pool(self, course: Course) -> None:
        make_pool(course, 3)

    def test_too_little(self) -> None:
        assert "48.99 USD were paid" in for_review(Payment(amount=4899).completed())

    def test_too_little_for_so_many(self) -> None:
        assert "98.00 USD are asked" in for_review(Payment(quantity=2).completed())

    def test_wholly_discounted(self) -> None:
        free = {"amount_total": 0, "payment_status": "no_payment_required", "payment_intent": None}
        discount = {"total_details": {"amount_discount": 4900, "amount_tax": 0}}
        assert "discounted wholly" in for_review(Payment().completed(**free, **discount))

    def test_wholly_discounted_is_for_review_without_a_price_too(self) -> None:
        Course.objects.update(price=None)
        assert "Nothing was paid" in for_review(Payment(amount=0).completed(payment_status="no_payment_required"))

    def test_another_currency(self) -> None:
        assert "sold in USD" in for_review(Payment(amount=490000, currency="jpy").completed())

    @pytest.mark.parametrize("name", ["JS999", "js101", "JS101 OR 1=1", "x" * 300])
    def test_an_unknown_course(self, name: str) -> None:
        assert "There is no course" in for_review(Payment(course=name).completed())

    def test_a_subscription(self) -> None:
        assert "subscription" in for_review(Payment().completed(mode="subscription"))

    def test_a_checkout_without_a_course(self) -> None:
        assert "does not say which course" in for_review(Payment(course=None).completed())

    @pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "two", "1001", "\uff19", "9" * 200])
    def test_a_quantity_that_is_none(self, quantity: str) -> None:
        metadata = Payment().metadata | {"quantity": quantity}
        assert "no number from 1 to 1000" in for_review(Payment(amount=10**9).completed(metadata=metadata))

    @pytest.mark.parametrize("email", ["ann", "ann@example.com, bob@example.com", "a" * 250 + "@example.com"])
    def test_an_email_that_is_none(self, email: str) -> None:
        assert "email" in for_review(Payment(email=email).completed())

    def test_no_email(self) -> None:
        assert "no email" in for_review(Payment(email=None).completed(customer_details=None))

    def test_another_account(self) -> None:
        assert "another account, acct_other" in for_review(Payment().completed() | {"account": "acct_other"})

    def test_a_test_payment_where_real_ones_are_taken(self, settings: Settings) -> None:
        settings.STRIPE_SECRET_KEY = KEY.replace("test", "live")
        assert "test payment" in for_review(Payment().completed())

    def test_a_real_payment_where_test_ones_are_taken(self, settings: Settings) -> None:
        settings.STRIPE_SECRET_KEY = KEY
        assert "real payment" in for_review(Payment().completed() | {"livemode": True})

    def test_staff_accept_it_and_it_is_issued(self, course: Course) -> None:
        tell(Payment(course="JS999", amount=100).completed())
        accepted = accept_purchase(purchase(), course=course, email="bob@example.com", quantity=1)
        assert progress_of(accepted).status == "issued"
        assert Voucher.objects.get(status="issued").issued_to == "bob@example.com"
        assert not Purchase.objects.for_review().exists()
        settle(accepted)
        assert issued() == 1
        with pytest.raises(NotReviewable):
            accept_purchase(purchase(), course=course, email="bob@example.com", quantity=1)

    def test_staff_say_how_many_seats_there_are(self, course: Course) -> None:
        metadata = Payment().metadata | {"quantity": "two"}
        tell(Payment(amount=9800).completed(metadata=metadata))
        accept_purchase(purchase(), course=course, email="ann@example.com", quantity=2)
        assert issued() == 2

    def test_what_was_issued_is_not_accepted_once_more(self, course: Course) -> None:
        payment = Payment()
        tell(payment.completed(), event("refund.failed", payment.refund(100, status="failed")))
        with pytest.raises(NotReviewable):
            accept_purchase(purchase(), course=course, email="bob@example.com", quantity=2)
        assert purchase().quantity == 1

    def test_what_staff_closed_is_not_issued_when_it_would_be_good_later(self, course: Course) -> None:
        payment = Payment(amount=100)
        tell(payment.completed())
        close_review(purchase())
        Course.objects.update(price=1)
        tell(event("payment_intent.succeeded", payment.intent()), payment.dispute_ended("won"))
        assert not Issuance.objects.exists()
        assert purchase().reviewed_at is not None

    def test_what_staff_closed_comes_back_once_for_another_reason(self) -> None:
        payment = Payment(amount=100)
        tell(payment.completed())
        close_review(purchase())
        tell(event("refund.failed", payment.refund(100, status="failed")))
        assert purchase().review.count("A refund failed") == 1
        close_review(purchase())
        tell(payment.disputed(), payment.dispute_ended("won"))
        assert not Purchase.objects.for_review().exists()
        assert purchase().review.count("A refund failed") == 1

    def test_a_refund_that_failed_before_its_payment_came_keeps_nothing_back(self, course: Course) -> None:
        payment = Payment()
        failed = event("refund.failed", payment.refund(100, status="failed"))
        PurchaseFactory.create(
            reference=payment.session_id, checkout=payment.session_id, course=course, unit_price=49,
            agreed_currency="usd", began_here=True,
        )  # fmt: skip
        tell(payment.completed_unpaid(), failed)
        assert not Purchase.objects.for_review().exists()
        tell(payment.paid_later())
        assert issued() == 1

    def test_staff_close_it_and_it_stays_closed(self) -> None:
        payment = Payment(amount=100)
        tell(payment.completed())
        close_review(purchase())
        tell(event("payment_intent.succeeded", payment.intent()))
        assert not Purchase.objects.for_review().exists()
        assert not Issuance.objects.exists()
        with pytest.raises(NotReviewable):
            close_review(purchase())
