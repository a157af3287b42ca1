"""Refunds and disputes: what is taken back, held and released, by the rules at the end of the promises."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.utils import timezone

from courses.models import Course, Purchase
from courses.money import seats_for
from tests.conftest import Caller
from tests.factories import make_pool
from tests.stripe_events import Payment, event, tell
from vouchers.delivery.outbox import claim_due, record_sent, resend_voucher
from vouchers.delivery.sending import send_due
from vouchers.errors import NotResendable, NotReturnable
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.deeds import refundable, return_voucher
from vouchers.payments.progress import progress_of
from vouchers.payments.settling import settle
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def course_for_sale(course: Course) -> Course:
    course.price = Decimal("10.00")
    course.save(update_fields=["price"])
    return course


def seats(number: int = 1) -> Payment:
    return Payment(amount=1000 * number, quantity=number)


def statuses() -> list[str]:
    """Of every seat in order: that of its voucher, its own where it has none."""
    return [
        seat.voucher.status if seat.voucher else seat.status
        for seat in Issuance.objects.select_related("voucher").order_by("unit")
    ]


def redeem(caller: Caller, voucher: Voucher | None = None) -> tuple[int, str]:
    found = voucher or Voucher.objects.exclude(status="available").get()
    answer = caller().post("/redeem-voucher", {"code": found.code}, format="json")
    return answer.status_code, answer.json().get("code", "")


def status() -> str:
    return progress_of(Purchase.objects.get()).status


class TestRefund:
    def test_refunded_before_it_was_issued_it_is_never_a_code(self, course: Course) -> None:
        make_pool(course, 2)
        payment = seats()
        tell(payment.refunded(1000), payment.completed())
        assert not Issuance.objects.exists()
        assert status() == "refunded"
        tell(event("payment_intent.succeeded", payment.intent()))
        assert not Issuance.objects.exists()

    def test_refunded_after_the_voucher_is_revoked(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.refunded(1000))
        assert statuses() == ["revoked"]
        assert status() == "refunded"
        assert redeem(caller) == (410, "voucher_revoked")
        assert claim_due(10)[0].issuance is not None  # its email is due, and the sender finds it pointless

    def test_a_waiting_buyer_who_is_refunded_leaves_the_queue(self, course: Course) -> None:
        first, second = seats(), seats()
        tell(first.completed(), second.completed(), first.refunded(1000))
        make_pool(course, 1)
        assert Issuance.objects.waiting(course).get().purchase == Purchase.objects.get(reference=second.intent_id)

    def test_a_redeemed_one_is_shown_to_staff(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed())
        assert redeem(caller)[0] == 200
        tell(payment.refunded(1000))
        assert statuses() == ["redeemed"]
        found = Purchase.objects.for_review().get()
        assert "after a voucher of it had been redeemed" in found.review

    @pytest.mark.parametrize(
        ("refunded", "expected"),
        [(999, ["issued"] * 3), (1000, ["issued", "issued", "revoked"]), (2999, ["issued", "revoked", "revoked"])],
    )
    def test_a_partial_refund_takes_whole_seats(self, course: Course, refunded: int, expected: list[str]) -> None:
        make_pool(course, 3)
        payment = seats(3)
        tell(payment.completed(), payment.refunded(refunded))
        assert statuses() == expected
        assert status() == "issued"

    def test_a_partial_refund_takes_waiting_seats_first(self, course: Course) -> None:
        make_pool(course, 2)
        payment = seats(3)
        tell(payment.completed(), payment.refunded(1000))
        assert statuses() == ["issued", "issued", "cancelled"]
        tell(payment.refunded(2000))
        assert statuses() == ["issued", "revoked", "cancelled"]

    def test_a_partial_refund_takes_unredeemed_seats_before_it_gives_up(self, course: Course, caller: Caller) -> None:
        make_pool(course, 2)
        payment = seats(2)
        tell(payment.completed())
        last = Issuance.objects.get(unit=2).voucher
        assert redeem(caller, last)[0] == 200
        tell(payment.refunded(1000))
        assert statuses() == ["revoked", "redeemed"]
        assert not Purchase.objects.for_review().exists()

    def test_a_refund_that_comes_first_leaves_the_other_seats(self, course: Course) -> None:
        make_pool(course, 3)
        payment = seats(3)
        tell(payment.refunded(1000), payment.completed())
        assert statuses() == ["issued", "issued"]

    def test_an_older_sum_does_not_undo_a_newer_one(self, course: Course) -> None:
        make_pool(course, 3)
        payment = seats(3)
        tell(payment.completed(), payment.refunded(2000), payment.refunded(1000))
        assert statuses().count("revoked") == 2

    def test_a_refund_that_is_told_twice_is_one(self, course: Course) -> None:
        make_pool(course, 3)
        payment = seats(3)
        tell(payment.completed(), event("refund.created", payment.refund(1000)), payment.refunded(1000))
        assert statuses().count("revoked") == 1
        tell(event("refund.created", payment.refund(1000, "re_2")))
        assert statuses().count("revoked") == 2

    def test_a_refund_that_fails_is_shown_to_staff(self, course: Course) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.refunded(1000))
        tell(event("refund.failed", payment.refund(1000, status="failed")))
        found = Purchase.objects.for_review().get()
        assert "A refund failed" in found.review
        assert (found.refunded_amount, refundable(found)) == (Decimal(0), Decimal(10))

    def test_a_refund_that_fails_and_is_made_again_is_one(self, course: Course) -> None:
        make_pool(course, 2)
        payment = seats(2)
        tell(
            payment.completed(),
            event("refund.created", payment.refund(1000, "re_1", status="pending")),
            event("refund.failed", payment.refund(1000, "re_1", status="failed")),
            event("refund.created", payment.refund(1000, "re_2")),
        )
        assert Purchase.objects.get().refunded_amount == Decimal(10)
        assert statuses() == ["issued", "revoked"]

    def test_a_voucher_that_staff_revoked_is_the_first_to_be_refunded(self, course: Course) -> None:
        make_pool(course, 2)
        payment = seats(2)
        tell(payment.completed())
        first = Issuance.objects.get(unit=1).voucher
        assert first is not None
        Voucher.objects.filter(pk=first.pk).update(status="revoked", revoked_at=first.issued_at)
        tell(payment.refunded(1000))
        assert statuses() == ["revoked", "issued"]

    def test_a_voucher_that_staff_revoke_later_brings_back_no_seat_that_was_refunded(self, course: Course) -> None:
        make_pool(course, 3)
        payment = seats(3)
        tell(payment.refunded(1000), payment.completed())
        assert statuses() == ["issued", "issued"]
        first = Issuance.objects.select_related("voucher").get(unit=1).voucher
        assert first is not None
        revoke_voucher(first, reason="Posted in a forum")

        tell(payment.paid_later())
        settle(Purchase.objects.get())

        assert statuses() == ["revoked", "issued"]

    @pytest.mark.parametrize(
        ("back", "paid", "quantity", "expected"),
        [
            ("33.33", "100.00", 3, 1),
            ("66.66", "100.00", 3, 2),
            ("99.99", "100.00", 3, 3),
            ("33.32", "100.00", 3, 0),
            ("100.00", "100.00", 3, 3),
            ("0", "100.00", 3, 0),
            ("0.01", "0.02", 3, 0),
        ],
    )
    def test_a_seat_costs_what_was_paid_by_the_number_of_seats(
        self, back: str, paid: str, quantity: int, expected: int
    ) -> None:
        assert seats_for(Decimal(back), Decimal(paid), quantity, "usd") == expected


class TestReturn:
    def test_a_code_nobody_saw_goes_back_by_a_deed_of_staff(self, course: Course) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.refunded(1000))
        seat = Issuance.objects.get()
        return_voucher(seat)
        seat.refresh_from_db()
        voucher = Voucher.objects.get()
        assert (seat.status, voucher.status, voucher.issued_to) == ("returned", "available", "")
        assert status() == "refunded"
        with pytest.raises(NotReturnable):
            return_voucher(seat)

    def test_a_code_that_was_emailed_does_not(self, course: Course) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed())
        (delivery,) = claim_due(1)
        record_sent({delivery: ""})
        tell(payment.refunded(1000))
        with pytest.raises(NotReturnable, match="may have been seen"):
            return_voucher(Issuance.objects.get())
        assert statuses() == ["revoked"]

    def test_a_code_that_is_still_held_does_not(self, course: Course) -> None:
        make_pool(course, 1)
        tell(seats().completed())
        with pytest.raises(NotReturnable, match="Refund or revoke it first"):
            return_voucher(Issuance.objects.get())

    def test_it_goes_to_whoever_waits(self, course: Course) -> None:
        make_pool(course, 1)
        first, second = seats(), seats()
        tell(first.completed(), second.completed(), first.refunded(1000))
        return_voucher(Issuance.objects.get(purchase__reference=first.intent_id))
        assert Issuance.objects.get(purchase__reference=second.intent_id).status == "issued"


class TestDispute:
    def test_it_puts_the_voucher_on_hold_and_winning_releases_it(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.disputed())
        assert redeem(caller) == (409, "voucher_on_hold")
        assert status() == "disputed"
        tell(payment.dispute_ended("won"))
        assert redeem(caller)[0] == 200

    def test_losing_is_as_a_refund(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.disputed(), payment.dispute_ended("lost"))
        assert redeem(caller) == (410, "voucher_revoked")
        assert status() == "refunded"

    @pytest.mark.parametrize("end", ["won", "warning_closed"])
    def test_an_end_that_comes_first_is_the_end(self, course: Course, caller: Caller, end: str) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.dispute_ended(end), payment.completed(), payment.disputed())
        assert redeem(caller)[0] == 200

    def test_a_payment_that_is_disputed_already_waits_for_the_end(self, course: Course) -> None:
        make_pool(course, 2)
        payment = seats(2)
        tell(payment.disputed(), payment.completed())
        assert statuses() == ["waiting", "waiting"]
        assert not Issuance.objects.waiting(course).exists()
        tell(payment.dispute_ended("won"))
        assert statuses() == ["issued", "issued"]

    def test_a_waiting_seat_is_not_filled_meanwhile(self, course: Course) -> None:
        payment = seats()
        tell(payment.completed(), payment.disputed())
        other = seats()
        tell(other.completed())
        assert progress_of(Purchase.objects.get(reference=other.intent_id)).position == 1
        make_pool(course, 2)
        tell(payment.dispute_ended("won"))
        assert statuses() == ["issued", "issued"]

    def test_lost_while_waiting_it_leaves_the_queue(self, course: Course) -> None:
        payment = seats()
        tell(payment.completed(), payment.disputed(), payment.dispute_ended("lost"))
        assert statuses() == ["cancelled"]

    def test_it_leaves_alone_a_code_that_is_somebody_elses_by_now(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        ann, bob = seats(), seats()
        tell(ann.completed(), ann.refunded(1000))
        return_voucher(Issuance.objects.get())
        tell(bob.completed(), ann.disputed())
        assert Voucher.objects.get().held_since is None
        tell(bob.disputed(), ann.dispute_ended("won"))
        assert redeem(caller) == (409, "voucher_on_hold")

    def test_one_that_was_lost_over_less_than_a_seat_is_shown_to_staff(self, course: Course) -> None:
        make_pool(course, 1)
        payment = seats()
        lost = event("charge.dispute.closed", payment.dispute("lost", amount=990))
        tell(payment.completed(), lost)
        assert "less than a seat" in Purchase.objects.for_review().get().review

    def test_two_disputes_hold_it_until_both_are_over(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = seats()
        second = event("charge.dispute.created", payment.dispute(name="dp_2"))
        tell(payment.completed(), payment.disputed(), second, payment.dispute_ended("won"))
        assert redeem(caller) == (409, "voucher_on_hold")
        tell(event("charge.dispute.closed", payment.dispute("won", name="dp_2")))
        assert redeem(caller)[0] == 200

    def test_what_was_not_emailed_meanwhile_is_emailed_after_it(self, course: Course) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.disputed())
        assert send_due() == 0
        assert not Delivery.objects.filter(due_at__lte=timezone.now()).exists()
        assert {*Delivery.objects.values_list("status", "attempts")} == {("queued", 0)}
        tell(payment.dispute_ended("won"))
        assert {*Delivery.objects.filter(due_at__lte=timezone.now()).values_list("status", flat=True)} == {"queued"}

    def test_a_voucher_on_hold_is_not_sent_again(self, course: Course) -> None:
        make_pool(course, 1)
        payment = seats()
        tell(payment.completed(), payment.disputed())
        with pytest.raises(NotResendable, match="on hold"):
            resend_voucher(Issuance.objects.get())
