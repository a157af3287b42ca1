"""The races of redeeming, of guessing and of a code that goes back; and each once more with its guard taken away."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.racing import (
    DEADLINE,
    failures,
    in_thread,
    somebody_waits_for_a_lock,
    together,
    wait_until,
    waiting_for_locks,
)
from vouchers import guesses
from vouchers.delivery.outbox import claim_due
from vouchers.errors import AlreadyRedeemed, VoucherNotFound
from vouchers.guesses import Guesser
from vouchers.models import Issuance, Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db(transaction=True)


LOOKED = "UPDATE vouchers_voucher v"
UNCHANGED = re.compile(r"AND \(v\.status, .*?it\.held_since\)", re.DOTALL)


@contextmanager
def everybody_looks_first(number: int, *, guarded: bool = True) -> Iterator[None]:
    """Holds so many calls between their look at a voucher and their update of it, lets them go when this ends, and
    keeps them from asking whether it is still as it was where they are not `guarded`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('vouchers_redeem'::regproc)")
        (right,) = cursor.fetchone()
        held = right.replace(LOOKED, f"PERFORM pg_advisory_xact_lock_shared(42); {LOOKED}")
        try:
            cursor.execute(held if guarded else UNCHANGED.sub("", held))
            cursor.execute("SELECT pg_advisory_lock(42)")
            yield
            wait_until(lambda: waiting_for_locks() == number)
        finally:
            cursor.execute("SELECT pg_advisory_unlock_all()")
            cursor.execute(right)


class TestRedeemStorm:
    def storm(self, course: Course, *, guarded: bool) -> list[Any]:
        code = make_pool(course, 1)[0].code
        issue_to(course)
        with everybody_looks_first(32, guarded=guarded):
            calls = in_thread(
                lambda: together(
                    32, lambda n: redeem_voucher(RedeemRequest(code=code, guesser=Guesser.of_key(f"key:{n}")))
                )
            )
        return calls()

    def test_one_call_spends_the_voucher(self, course: Course) -> None:
        results = self.storm(course, guarded=True)
        assert Counter(type(result) for result in results) == {Redemption: 1, AlreadyRedeemed: 31}
        assert Redemption.objects.count() == 1

    def test_control_without_the_condition_many_believe_they_spent_it(self, course: Course) -> None:
        errors = failures(self.storm(course, guarded=False))
        # 32 passed the look and the update; the database refused 31.
        assert [type(error) for error in errors] == [IntegrityError] * 31

    def test_a_retry_with_the_same_key_gets_the_one_answer(self, course: Course) -> None:
        code = make_pool(course, 1)[0].code
        request = RedeemRequest(code=code, guesser=Guesser.of_key("key:a"), idempotency_key="k-1")
        results = together(16, lambda n: redeem_voucher(request))
        assert not failures(results)
        assert len({result.purchase_id for result in results if isinstance(result, Redemption)}) == 1


class TestReturn:
    """A code goes back to the pool while something else happens to it."""

    def take_back(self, issuance: Issuance) -> None:
        with transaction.atomic():
            Issuance.objects.filter(pk=issuance.pk).update(status="returned")
            Voucher.objects.filter(issuances=issuance).update(status="available", issued_at=None, issued_to="")

    def test_it_waits_for_a_sender_that_has_just_taken_its_email(self, course: Course) -> None:
        make_pool(course, 1)
        issuance = issue_to(course)
        with transaction.atomic():
            claim_due(1)
            taken_back = in_thread(lambda: self.take_back(issuance))
            wait_until(somebody_waits_for_a_lock)
        with pytest.raises(IntegrityError, match="may not go back"):
            taken_back()
        assert Voucher.objects.get().status == "issued"

    def spend_while_it_moves(self, course: Course, *, guarded: bool) -> Callable[[], Redemption]:
        """Ann's checkout, begun while the code was hers and ended when it is Bob's."""
        Course.objects.update(redemption="holder")
        code = make_pool(course, 1, code="JS101-XZ4B7Q-001")[0].code
        issuance = issue_to(course, "ann@example.com")
        request = RedeemRequest(code=code, email="ann@example.com", guesser=Guesser.of_key("key:a"))
        with everybody_looks_first(1, guarded=guarded):
            checkout = in_thread(lambda: redeem_voucher(request))
            wait_until(somebody_waits_for_a_lock)
            self.take_back(issuance)
            issue_to(course, "bob@example.com")
        return checkout

    def test_a_checkout_never_spends_the_voucher_of_the_next_holder(self, course: Course) -> None:
        checkout = self.spend_while_it_moves(course, guarded=True)
        with pytest.raises(VoucherNotFound):
            checkout()
        guesser = Guesser.of_key("key:b")
        assert redeem_voucher(RedeemRequest(code="JS101-XZ4B7Q-001", email="bob@example.com", guesser=guesser))

    def test_control_without_the_condition_it_would(self, course: Course) -> None:
        checkout = self.spend_while_it_moves(course, guarded=False)
        assert checkout().email == "ann@example.com"
        assert Voucher.objects.get().issued_to == "bob@example.com"


class TestLimiter:
    def guess(self, n: int) -> int:
        return APIClient().post("/redeem-voucher", {"code": f"GUESS-{n}"}, format="json").status_code

    def test_it_is_exact_at_sixty_four_parallel_calls(self, course: Course) -> None:
        assert Counter(together(64, self.guess)) == {404: 10, 429: 54}

    def test_it_lets_no_right_code_through_a_burst_of_guesses(self, course: Course) -> None:
        """The eleventh call is refused even if its code is right: a burst buys no extra guesses."""
        codes = [voucher.code for voucher in make_pool(course, 32)]
        wrong_first = together(10, self.guess)
        assert wrong_first == [404] * 10
        calls = together(32, lambda n: APIClient().post("/redeem-voucher", {"code": codes[n]}, format="json"))
        assert {call.status_code for call in calls if not isinstance(call, Exception)} == {429}

    def test_control_without_the_lock_more_get_through(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        all_counted = threading.Barrier(16, timeout=DEADLINE)
        count = Guesser._count

        def count_and_wait(self: Guesser) -> int:
            counted = count(self)
            all_counted.wait()
            return counted

        monkeypatch.setattr(guesses, "lock_names", lambda *names, seconds: None)
        monkeypatch.setattr(Guesser, "_count", count_and_wait)
        assert Counter(together(16, self.guess)) == {404: 16}

    def test_it_never_stops_buyers_who_know_their_codes(self, course: Course) -> None:
        codes = [voucher.code for voucher in make_pool(course, 32)]
        calls = together(32, lambda n: APIClient().post("/redeem-voucher", {"code": codes[n]}, format="json"))
        assert {call.status_code for call in calls if not isinstance(call, Exception)} == {200}
