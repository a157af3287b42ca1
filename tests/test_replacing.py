"""Replace: the old code is worth nothing any more, and the same debt is paid with another one."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from courses.models import Course
from tests.conftest import Caller
from tests.factories import issue_to, make_pool
from tests.stripe_events import Payment, tell
from vouchers.delivery.sending import send_due
from vouchers.errors import NotReplaceable, VoucherRevoked
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, Replacement, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.revoking import revoke_voucher
from vouchers.summary import summary

pytestmark = pytest.mark.django_db


def replace(issuance: Issuance) -> Voucher:
    return replace_voucher(issuance, reason="Stolen", actor="user:7")


def redeem(voucher: Voucher) -> object:
    return redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))


@pytest.fixture
def issuance(course: Course) -> Issuance:
    make_pool(course, 2)
    return issue_to(course, order_id="A-1")


def held(issuance: Issuance) -> Voucher:
    issuance.refresh_from_db()
    assert issuance.voucher is not None
    return issuance.voucher


def test_it_revokes_the_old_code_and_gives_the_next_one(issuance: Issuance) -> None:
    old = held(issuance)

    new = replace(issuance)

    assert held(issuance) == new != old
    assert (new.status, new.issued_to) == ("issued", "ann@example.com")
    with pytest.raises(VoucherRevoked):
        redeem(old)
    assert redeem(new)
    old.refresh_from_db()
    assert (old.status, old.revoked_reason) == ("revoked", "Replaced: Stolen")
    kept = Replacement.objects.get()
    assert (kept.voucher, kept.issuance, kept.reason, kept.actor) == (old, issuance, "Stolen", "user:7")


def test_it_emails_the_new_code(issuance: Issuance, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    old = held(issuance)
    send_due()

    new = replace(issuance)
    send_due()

    first, second = mail.outbox
    assert old.code in first.body
    assert new.code in second.body
    assert old.code not in second.body
    assert first.extra_headers["Message-ID"] != second.extra_headers["Message-ID"]


def test_it_answers_a_retry_of_the_order_with_the_new_code(issuance: Issuance, caller: Caller) -> None:
    new = replace(issuance)

    body = {"courseId": "JS101", "email": "ann@example.com", "orderId": "A-1"}
    answer = caller("issue").post("/issue-voucher", body, format="json")

    assert (answer.status_code, answer.json()["voucher"]["_id"]) == (200, new.code)


def test_it_counts_both_as_issued(issuance: Issuance) -> None:
    replace(issuance)
    (row,) = summary()
    assert (row["total"], row["issued"], row["remaining"], row["revoked"]) == (2, 2, 0, 1)


def test_it_starts_the_evidence_anew(issuance: Issuance) -> None:
    seen = timezone.now()
    Issuance.objects.update(seen_at=seen, told_at=seen)

    replace(issuance)

    issuance.refresh_from_db()
    assert (issuance.seen_at, issuance.told_at) == (None, None)
    kept = Replacement.objects.get()
    assert (kept.seen_at, kept.told_at) == (seen, seen)


def test_it_may_be_done_again(issuance: Issuance, course: Course) -> None:
    first, second = held(issuance), replace(issuance)
    make_pool(course, 1)

    third = replace(issuance)

    assert [kept.voucher for kept in Replacement.objects.all()] == [first, second]
    assert held(issuance) == third


def test_it_replaces_an_expired_code(issuance: Issuance) -> None:
    Voucher.objects.filter(pk=held(issuance).pk).update(expires_on=dt.date(2020, 1, 1))
    assert replace(issuance).shown_status == "issued"


def test_it_replaces_the_code_of_a_payment_whose_refund_takes_back_the_new_one(priced: Course) -> None:
    make_pool(priced, 2)
    payment = Payment()
    tell(payment.completed())
    new = replace(Issuance.objects.get())

    tell(payment.refunded(4900))

    new.refresh_from_db()
    assert (new.status, new.revoked_reason) == ("revoked", "Refunded")
    assert Issuance.objects.count() == 1


class TestRefused:
    def refused(self, issuance: Issuance, why: str) -> None:
        def books() -> list[Any]:
            return [*Issuance.objects.values(), *Voucher.objects.order_by("pk").values(), Delivery.objects.count()]

        before = books()
        with pytest.raises(NotReplaceable, match=why):
            replace(issuance)
        assert books() == before
        assert not Replacement.objects.exists()

    def test_it_refuses_while_the_pool_is_empty(self, course: Course) -> None:
        make_pool(course, 1)
        self.refused(issue_to(course), "pool of JS101 is empty")

    def test_it_refuses_a_redeemed_voucher(self, issuance: Issuance) -> None:
        redeem(held(issuance))
        self.refused(issuance, "is redeemed")

    def test_it_refuses_a_revoked_voucher(self, issuance: Issuance) -> None:
        revoke_voucher(held(issuance), reason="tests")
        self.refused(issuance, "is revoked")

    def test_it_refuses_a_voucher_on_hold(self, issuance: Issuance) -> None:
        Voucher.objects.filter(pk=held(issuance).pk).update(held_since=timezone.now())
        self.refused(issuance, "on hold")

    def test_it_refuses_what_only_waits(self, course: Course) -> None:
        self.refused(issue_to(course), "is waiting")
