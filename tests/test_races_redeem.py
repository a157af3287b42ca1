"""The races of redeeming, of guessing and of a code that goes back; and each once more with its guard taken away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.racing import (
    DEADLINE,
    GATE,
    WAIT_AT_THE_GATE,
    failures,
    in_thread,
    rewritten,
    somebody_waits_for_a_lock,
    together,
    together_at_the_gate,
    wait_until,
    waiting_at_the_gate,
)
from vouchers import guesses
from vouchers.delivery.outbox import claim_due
from vouchers.errors import AlreadyRedeemed, VoucherNotFound
from vouchers.guesses import Guesser
from vouchers.models import Issuance, Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db(transaction=True)


# Every call has looked at the voucher before the first updates it.
ALL_LOOK_FIRST = ("UPDATE vouchers_voucher v", f"{WAIT_AT_THE_GATE} UPDATE vouchers_voucher v")
NO_CONDITION = (
    """AND (v.status, v.valid_until, v.issued_to, v.issued_at, v.held_since)
                IS NOT DISTINCT FROM (it.status, it.valid_until, it.issued_to, it.issued_at, it.held_since)""",
    "",
)


@contextmanager
def closed_gate() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [GATE])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [GATE])


class TestRedeemStorm:
    def storm(self, course: Course, *changes: tuple[str, str]) -> list[Any]:
        code = make_pool(course, 1)[0].code
        issue_to(course)
        with rewritten("vouchers_redeem", ALL_LOOK_FIRST, *changes):
            return together_at_the_gate(
                32, lambda n: redeem_voucher(RedeemRequest(code=code, guesser=Guesser.of_key(f"key:{n}")))
            )

    def test_one_call_spends_the_voucher(self, course: Course) -> None:
        results = self.storm(course)
        assert Counter(type(result) for result in results) == {Redemption: 1, AlreadyRedeemed: 31}
        assert Redemption.objects.count() == 1

    def test_control_without_the_condition_many_believe_they_spent_it(self, course: Course) -> None:
        errors = failures(self.storm(course, NO_CONDITION))
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

    def spend_while_it_moves(self, course: Course, *changes: tuple[str, str]) -> Redemption:
        """Ann's checkout, begun while the code is hers and ended when it is Bob's."""
        Course.objects.update(redemption="holder")
        code = make_pool(course, 1, code="JS101-XZ4B7Q-001")[0].code
        issuance = issue_to(course, "ann@example.com")
        request = RedeemRequest(code=code, email="ann@example.com", guesser=Guesser.of_key("key:a"))
        with rewritten("vouchers_redeem", ALL_LOOK_FIRST, *changes), closed_gate():
            checkout = in_thread(lambda: redeem_voucher(request))
            wait_until(lambda: waiting_at_the_gate() == 1)
            self.take_back(issuance)
            issue_to(course, "bob@example.com")
        return checkout()

    def test_a_checkout_never_spends_the_voucher_of_the_next_holder(self, course: Course) -> None:
        with pytest.raises(VoucherNotFound):
            self.spend_while_it_moves(course)
        guesser = Guesser.of_key("key:b")
        assert redeem_voucher(RedeemRequest(code="JS101-XZ4B7Q-001", email="bob@example.com", guesser=guesser))

    def test_control_without_the_condition_it_would(self, course: Course) -> None:
        assert self.spend_while_it_moves(course, NO_CONDITION).email == "ann@example.com"
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
