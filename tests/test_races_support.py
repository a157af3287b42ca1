"""What staff do to a voucher while its buyer redeems it, and once more with the guard taken away."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import IntegrityError

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.racing import DEADLINE, assert_books_are_right, failures, together
from vouchers import correcting, replacing
from vouchers.correcting import correct_address
from vouchers.errors import DeskError
from vouchers.filling import fill_waiting
from vouchers.guesses import Guesser
from vouchers.models import AddressChange, Delivery, Issuance, Redemption, Replacement, Voucher
from vouchers.models.voucher import VoucherQuerySet
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher

pytestmark = pytest.mark.django_db(transaction=True)


def redeem(code: str) -> Redemption:
    return redeem_voucher(RedeemRequest(code=code, guesser=Guesser.of_key("key:a"), email="ann@example.com"))


class TestCorrectAndRedeem:
    ROUNDS = 10

    def race(self, course: Course, code: str, issuance: Issuance) -> list[Any]:
        def deed(n: int) -> Any:
            return redeem(code) if n else correct_address(issuance, email="ann@example.com", actor="tests")

        return together(2, deed)

    def test_the_holder_changes_before_or_not_at_all(self, course: Course) -> None:
        for _ in range(self.ROUNDS):
            make_pool(course, 1)
            issuance = issue_to(course, "ann@exmaple.com")
            assert issuance.voucher is not None
            corrected, redeemed = self.race(course, issuance.voucher.code, issuance)
            assert isinstance(redeemed, Redemption)
            issuance.refresh_from_db()
            voucher = Voucher.objects.get(issuances=issuance)
            assert voucher.issued_to == issuance.email
            assert (issuance.email == "ann@example.com") == (not isinstance(corrected, Exception))
        assert AddressChange.objects.count() == Delivery.objects.filter(series=2).count()

    def test_control_without_the_condition_a_redeemed_voucher_changes_hands(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 1)
        issuance = issue_to(course, "ann@exmaple.com")
        redeem(Voucher.objects.get().code)
        monkeypatch.setattr(VoucherQuerySet, "shown_as", lambda self, status: self)

        correct_address(issuance, email="eve@example.com", actor="tests")

        assert Voucher.objects.get().issued_to == "eve@example.com"


class TestCorrectTogether:
    def test_two_corrections_follow_each_other(self, course: Course) -> None:
        make_pool(course, 1)
        issuance = issue_to(course, "ann@exmaple.com")

        results = together(4, lambda n: correct_address(issuance, email=f"ann{n}@example.com", actor="tests"))

        assert not failures(results)
        changes = list(AddressChange.objects.values_list("old_email", "new_email"))
        assert [old for old, _ in changes] == ["ann@exmaple.com", *(new for _, new in changes[:-1])]
        assert Voucher.objects.get().issued_to == Issuance.objects.get().email == changes[-1][1]

    def test_control_without_the_lock_they_start_from_the_same_address(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 1)
        issuance = issue_to(course, "ann@exmaple.com")
        both_read = threading.Barrier(2, timeout=DEADLINE)

        def read_and_wait(self: Any, pk: int) -> Issuance:
            found: Issuance = self.select_related("voucher", "course", "purchase").get(pk=pk)
            both_read.wait()
            return found

        monkeypatch.setattr(type(Issuance.objects.all()), "lock", read_and_wait)
        monkeypatch.setattr(correcting, "queue_again", lambda issuance: None)
        together(2, lambda n: correct_address(issuance, email=f"ann{n}@example.com", actor="tests"))

        assert set(AddressChange.objects.values_list("old_email", flat=True)) == {"ann@exmaple.com"}


class TestCorrectAndFill:
    def test_the_voucher_goes_to_the_holder_of_the_moment(self, course: Course) -> None:
        for n in range(10):
            issuance = issue_to(course, f"ann{n}@exmaple.com")
            make_pool(course, 1)

            def deed(which: int, issuance: Issuance = issuance, n: int = n) -> Any:
                if which:
                    return fill_waiting(course, wait=True)
                return correct_address(issuance, email=f"ann{n}@example.com", actor="tests")

            assert not failures(together(2, deed))
            issuance.refresh_from_db()
            assert issuance.email == f"ann{n}@example.com"
            assert Voucher.objects.get(issuances=issuance).issued_to == issuance.email


class TestReplace:
    def test_two_at_once_replace_twice_and_lose_nothing(self, course: Course) -> None:
        make_pool(course, 3)
        issuance = issue_to(course)

        results = together(2, lambda n: replace_voucher(issuance, reason="tests", actor="tests"))

        assert not failures(results)
        assert sorted(Voucher.objects.values_list("status", flat=True)) == ["issued", "revoked", "revoked"]
        assert Replacement.objects.count() == 2

    def test_a_code_is_redeemed_or_replaced(self, course: Course) -> None:
        for _ in range(10):
            make_pool(course, 2)
            issuance = issue_to(course)
            assert issuance.voucher is not None
            old = issuance.voucher

            def deed(n: int, issuance: Issuance = issuance, code: str = old.code) -> Any:
                return redeem(code) if n else replace_voucher(issuance, reason="tests", actor="tests")

            results = together(2, deed)
            (error,) = failures(results)
            assert isinstance(error, DeskError)
            old.refresh_from_db()
            assert old.status == ("redeemed" if isinstance(results[0], Exception) else "revoked")
            Voucher.objects.filter(status="available").delete()

    def test_control_without_the_lock_the_database_keeps_two_from_one_voucher(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both believe that the old voucher is theirs to replace."""
        make_pool(course, 3)
        issuance = issue_to(course)
        both_read = threading.Barrier(2, timeout=DEADLINE)

        def read_and_wait(self: Any, pk: int) -> Issuance:
            found: Issuance = self.select_related("voucher", "course", "purchase").get(pk=pk)
            both_read.wait()
            return found

        monkeypatch.setattr(type(Issuance.objects.all()), "lock", read_and_wait)
        monkeypatch.setattr(replacing, "_revoke", lambda issuance, old, reason: None)
        errors = failures(together(2, lambda n: replace_voucher(issuance, reason="tests", actor="tests")))
        assert [type(error) for error in errors] == [IntegrityError] * 2
        assert_books_are_right(course)
