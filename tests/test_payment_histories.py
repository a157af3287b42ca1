"""Whatever the order, however often, and at the same time: a purchase ends in the state that its facts imply.

The expected state is worked out by `implied`, from the facts alone and by no code of the desk's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from courses.models import Course, Purchase
from tests.factories import CourseFactory, make_pool
from tests.racing import failures, together
from tests.stripe_events import Payment, event, post, tell
from vouchers.filling import sweep_waiting
from vouchers.models import Issuance, Voucher
from vouchers.payments import settling
from vouchers.payments.progress import progress_of

SEATS = 3
PRICE = 1000


@dataclass(frozen=True)
class Story:
    """What happened to one payment, beside that somebody began a checkout."""

    payment: Payment
    events: list[dict[str, Any]]

    def happened(self, kind: str) -> list[dict[str, Any]]:
        return [told["data"]["object"] for told in self.events if told["type"] == kind]

    @property
    def is_paid(self) -> bool:
        completed = self.happened("checkout.session.completed")
        paid = any(session["payment_status"] == "paid" for session in completed)
        later = self.happened("checkout.session.async_payment_succeeded") + self.happened("payment_intent.succeeded")
        return paid or bool(later)

    @property
    def is_disputed(self) -> bool:
        return bool(self.happened("charge.dispute.created")) and not self.happened("charge.dispute.closed")

    @property
    def seats_taken_back(self) -> int:
        lost = sum(d["amount"] for d in self.happened("charge.dispute.closed") if d["status"] == "lost")
        refunded = max((charge["amount_refunded"] for charge in self.happened("charge.refunded")), default=0)
        return min(SEATS, int(lost + refunded) // PRICE)


def implied(story: Story) -> tuple[int, int]:
    """How many valid codes the buyer has in the end, and how many of them can be redeemed."""
    codes = SEATS - story.seats_taken_back if story.is_paid else 0
    return codes, 0 if story.is_disputed else codes


def seen(payment: Payment) -> tuple[int, int]:
    """The same as the desk has it. A seat of a disputed payment that was not issued yet is a code to come."""
    seats = Issuance.objects.filter(purchase__reference=payment.intent_id)
    held = seats.filter(status="waiting", held_since__isnull=False).count()
    vouchers = Voucher.objects.filter(issuances__in=seats, status="issued")
    return vouchers.count() + held, vouchers.filter(held_since=None).count()


def possible(payment: Payment) -> dict[str, dict[str, Any]]:
    return {
        "completed": payment.completed(),
        "completed, unpaid": payment.completed_unpaid(),
        "paid later": payment.paid_later(),
        "failed later": payment.failed_later(),
        "intent": event("payment_intent.succeeded", payment.intent()),
        "a part refunded": payment.refunded(PRICE + PRICE // 2),
        "two refunded": payment.refunded(2 * PRICE),
        "all refunded": payment.refunded(SEATS * PRICE),
        "disputed": payment.disputed(),
        "won": payment.dispute_ended("won"),
        "lost": payment.dispute_ended("lost"),
    }


NAMES = sorted(possible(Payment()))


def told_in_order(names: list[str]) -> Story:
    """The events of these names; a dispute that is both won and lost ends as it ended first."""
    payment = Payment(amount=SEATS * PRICE, quantity=SEATS)
    ends = [name for name in names if name in ("won", "lost")]
    # Each is an event of its own: dj-stripe itself passes over one that it knows by its id.
    return Story(payment, [possible(payment)[name] for name in names if name not in ends or name == ends[0]])


def answer_to(events: list[dict[str, Any]], n: int) -> int:
    return int(post(events[n]).status_code)


@pytest.fixture
def sold(transactional_db: None) -> Course:
    course = CourseFactory.create(id="JS101", price=PRICE // 100)
    make_pool(course, 5)
    return course


def assert_books(story: Story) -> None:
    assert seen(story.payment) == implied(story)
    assert Issuance.objects.filter(purchase__reference=story.payment.intent_id).count() <= SEATS
    assert Purchase.objects.filter(reference=story.payment.intent_id).count() == int(story.is_paid)
    holders = Counter(
        Issuance.objects.exclude(voucher=None).exclude(status="returned").values_list("voucher", flat=True)
    )
    assert not [voucher for voucher, times in holders.items() if times > 1]


@pytest.mark.django_db
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=9), pool=st.integers(0, 4))
def test_any_order_and_repetition_ends_in_what_the_facts_imply(db: None, names: list[str], pool: int) -> None:
    with transaction.atomic():
        course = CourseFactory.create(id="JS101", price=PRICE // 100)
        if pool:
            make_pool(course, pool)
        story = told_in_order(names)
        for told in story.events:
            assert post(told).status_code == 200
        make_pool(course, SEATS)
        sweep_waiting()
        assert_books(story)
        connection.check_constraints()  # as a commit would
        transaction.set_rollback(True)  # the next history begins with nothing


@pytest.mark.parametrize("seed", range(12))
def test_at_the_same_time_too(sold: Course, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    names = dice.sample(NAMES, k=dice.randint(3, 6))
    story = told_in_order([*names, "completed"])
    answers = together(2 * len(story.events), lambda n: post(story.events[n // 2]).status_code)
    assert not failures(answers)
    # A fault of the moment (two at one lock for too long) is answered 5xx, and Stripe tries again.
    for told, answer in zip(story.events, answers[::2], strict=True):
        if answer != 200:
            tell(told)
    sweep_waiting()
    assert_books(story)
    assert progress_of(Purchase.objects.get()).status != "pending"


def test_one_payment_told_in_parallel_is_one_purchase(sold: Course) -> None:
    payment = Payment(amount=PRICE)
    events = [payment.completed(), event("payment_intent.succeeded", payment.intent()), payment.paid_later()] * 4
    assert together(len(events), partial(answer_to, events)) == [200] * len(events)
    assert Purchase.objects.count() == Issuance.objects.count() == 1
    assert Voucher.objects.exclude(status="available").count() == 1


def test_without_the_lock_it_would_not_be(sold: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same race, with the lock on the payment taken away."""
    monkeypatch.setattr(settling, "lock_names", lambda *names, seconds: None)
    for _ in range(10):
        payment = Payment(amount=PRICE)
        events = [payment.completed(), event("payment_intent.succeeded", payment.intent()), payment.paid_later()] * 2
        answers = together(len(events), partial(answer_to, events))
        if answers != [200] * len(events):
            return
    pytest.fail("ten races without the lock ended well: this test shows nothing")
