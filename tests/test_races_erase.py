"""A buyer is erased while something happens to them; each race with its control, in which the guard is taken away."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import IntegrityError, transaction

from courses.models import Course, PaymentFact
from tests.erasing import EMAIL, TOMBSTONE, erase, tables_with
from tests.factories import issue_to, make_pool
from tests.racing import in_thread, somebody_waits_for_a_lock, wait_until
from tests.stripe_events import Payment, tell
from vouchers.models import (
    Issuance,
    Voucher,
)
from vouchers.payments import settling
from vouchers.privacy import erasing
from vouchers.privacy.addresses import Address
from vouchers.privacy.places import Place

pytestmark = pytest.mark.django_db(transaction=True)


class TestRaces:
    def test_a_request_at_work_is_waited_for(self, course: Course) -> None:
        make_pool(course, 1)
        with transaction.atomic():
            issue_to(course, EMAIL)
            erasing_ = in_thread(erase)
            wait_until(somebody_waits_for_a_lock)
        assert erasing_().counts["issuances"] == 1
        assert tables_with(EMAIL) == set()

    def test_control_without_its_lock_the_request_is_missed(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(erasing, "_lock_requests", lambda address: None)
        make_pool(course, 1)
        with transaction.atomic():
            issue_to(course, EMAIL)
            assert in_thread(erase)().total == 0
        assert tables_with(EMAIL) != set()

    def issue_while_vouchers_are_read(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody's order for the address commits after the issuances were read, and before the vouchers are."""
        replace, courses = erasing._replace, iter([course])

        def replace_slowly(place: Place, address: Address) -> int:
            if place.model is Voucher:
                for late in courses:  # in the first round only
                    in_thread(partial(issue_to, late, EMAIL, order_id="late"))()
            return replace(place, address)

        monkeypatch.setattr(erasing, "_replace", replace_slowly)

    def test_what_commits_in_the_middle_is_erased_as_a_whole(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 1)
        self.issue_while_vouchers_are_read(course, monkeypatch)
        erase()
        assert tables_with(EMAIL) == set()
        assert Issuance.objects.get().email == Voucher.objects.get().issued_to == TOMBSTONE

    def test_control_in_one_round_it_is_half_erased_and_the_database_refuses(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 1)
        self.issue_while_vouchers_are_read(course, monkeypatch)
        monkeypatch.setattr(erasing, "_erase", erasing._erase_once)
        with pytest.raises(IntegrityError, match="no open issuance"):
            erase()

    def test_a_payment_told_meanwhile_does_not_bring_it_back(self, priced: Course) -> None:
        make_pool(priced, 1)
        payment = Payment(course=priced.pk, email=EMAIL)
        tell(payment.completed())
        with transaction.atomic():
            erase()
            telling = in_thread(lambda: tell(payment.paid_later()))
            wait_until(somebody_waits_for_a_lock)
        telling()
        assert {fact.claims["email"] for fact in PaymentFact.objects.all()} == {TOMBSTONE}

    def test_control_without_the_look_at_its_payment_it_comes_back(
        self, priced: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(priced, 1)
        payment = Payment(course=priced.pk, email=EMAIL)
        tell(payment.completed())
        erase()
        monkeypatch.setattr(settling, "claims_to_keep", lambda fact: fact.claims)
        tell({**payment.completed(), "type": "payment_intent.succeeded", "data": {"object": payment.intent()}})
        assert EMAIL in {fact.claims["email"] for fact in PaymentFact.objects.all()}
