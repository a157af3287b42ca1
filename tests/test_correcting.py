"""Correct the address: the holder changes, the code and everything else stays."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail
from django.test import Client

from courses.models import Course, PaymentFact, Purchase
from tests.conftest import Caller
from tests.factories import PurchaseFactory, issue_to, make_pool, voucher_of
from tests.racing import assert_books_are_right
from tests.stripe_events import Payment, tell
from vouchers.correcting import correct_address
from vouchers.delivery.outbox import claim_due, record_failure, resend_voucher
from vouchers.delivery.sending import send_due
from vouchers.errors import NotCorrectable, VoucherNotFound
from vouchers.filling import fill_waiting
from vouchers.guesses import Guesser
from vouchers.models import AddressChange, Delivery, Issuance, Voucher
from vouchers.payments.settling import settle
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db

OLD, NEW = "ann@exmaple.com", "ann@example.com"


def correct(issuance: Issuance, email: str = NEW) -> Delivery | None:
    return correct_address(issuance, email=email, actor="user:7")


@pytest.fixture
def issuance(course: Course) -> Issuance:
    make_pool(course, 1)
    return issue_to(course, OLD, order_id="A-1")


class TestIssued:
    def test_it_changes_the_holder_and_sends_the_same_code_there(self, issuance: Issuance, settings: Any) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
        send_due()

        delivery = correct(issuance)
        send_due()

        assert delivery is not None
        assert (delivery.email, delivery.series) == (NEW, 2)
        assert [message.to for message in mail.outbox] == [[OLD], [NEW]]
        assert voucher_of(delivery).code in mail.outbox[1].body
        assert Voucher.objects.get().issued_to == Issuance.objects.get().email == NEW

    def test_it_keeps_the_address_before_in_the_history(self, issuance: Issuance) -> None:
        correct(issuance)
        correct(issuance, "third@example.com")

        changes = AddressChange.objects.values_list("old_email", "new_email", "actor")
        assert list(changes) == [(OLD, NEW, "user:7"), (NEW, "third@example.com", "user:7")]

    def test_it_withdraws_what_was_still_to_be_sent_to_the_address_before(
        self, issuance: Issuance, settings: Any
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

        correct(issuance)

        assert send_due() == 1
        assert [message.to for message in mail.outbox] == [[NEW]]
        first = issuance.deliveries.get(series=1)
        assert (first.status, first.attempts) == ("failed", 0)
        assert first.last_error == "Not sent: the address was corrected."
        assert not Delivery.objects.undelivered().exists()

    @pytest.mark.parametrize("email", [OLD, NEW, OLD.upper()])
    def test_it_leaves_the_request_and_its_retries_alone(self, issuance: Issuance, caller: Caller, email: str) -> None:
        client = caller("issue")
        correct(issuance)

        answer = client.post("/issue-voucher", {"courseId": "JS101", "email": email, "orderId": "A-1"}, format="json")

        assert answer.status_code == 200
        assert answer.json()["voucher"]["issuedTo"] == NEW
        assert Issuance.objects.count() == 1

    def test_it_leaves_a_retry_by_key_alone(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        client = caller("issue")
        body = {"courseId": "JS101", "email": OLD}
        client.post("/issue-voucher", body, format="json", HTTP_IDEMPOTENCY_KEY="k-1")
        correct(Issuance.objects.get())

        answer = client.post("/issue-voucher", body, format="json", HTTP_IDEMPOTENCY_KEY="k-1")

        assert (answer.status_code, answer.json()["voucher"]["issuedTo"]) == (200, NEW)

    def test_it_makes_the_new_holder_the_one_who_may_redeem(self, issuance: Issuance, course: Course) -> None:
        Course.objects.update(redemption="holder")
        code = Voucher.objects.get().code
        correct(issuance)

        guesser = Guesser.of_address("127.0.0.1")
        with pytest.raises(VoucherNotFound):
            redeem_voucher(RedeemRequest(code=code, email=OLD, guesser=guesser))
        assert redeem_voucher(RedeemRequest(code=code, email=NEW, guesser=guesser))

    def test_it_may_correct_upper_and_lower_case(self, issuance: Issuance) -> None:
        correct(issuance, OLD.title())
        assert Voucher.objects.get().issued_to == OLD.title()

    def test_it_works_while_the_voucher_is_on_hold_and_sends_afterwards(
        self, issuance: Issuance, settings: Any
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
        Voucher.objects.update(held_since=issuance.issued_at)
        delivery = correct(issuance)
        assert send_due() == 0

        Voucher.objects.update(held_since=None)
        Delivery.objects.update(due_at=issuance.created_at)
        send_due()
        assert delivery is not None
        delivery.refresh_from_db()
        assert (delivery.status, mail.outbox[0].to) == ("sent", [NEW])


class TestRefused:
    def refused(self, issuance: Issuance, why: str, email: str = NEW) -> None:
        before = list(Issuance.objects.values()), list(Voucher.objects.values()), Delivery.objects.count()
        with pytest.raises(NotCorrectable, match=why):
            correct(issuance, email)
        assert before == (list(Issuance.objects.values()), list(Voucher.objects.values()), Delivery.objects.count())
        assert not AddressChange.objects.exists()

    def test_it_refuses_the_address_that_it_is(self, issuance: Issuance) -> None:
        self.refused(issuance, "owed to this address already", OLD)

    def test_it_refuses_a_redeemed_voucher(self, issuance: Issuance) -> None:
        redeem_voucher(RedeemRequest(code=Voucher.objects.get().code, guesser=Guesser.of_address("127.0.0.1")))
        self.refused(issuance, "is redeemed")

    def test_it_refuses_a_revoked_voucher(self, issuance: Issuance) -> None:
        revoke_voucher(Voucher.objects.get(), reason="tests")
        self.refused(issuance, "is revoked")

    def test_it_refuses_an_expired_voucher(self, issuance: Issuance) -> None:
        Voucher.objects.update(expires_on="2020-01-01")
        self.refused(issuance, "is expired")

    def test_it_refuses_what_is_closed(self, course: Course) -> None:
        waiting = issue_to(course, OLD)
        Issuance.objects.update(status="cancelled")
        self.refused(waiting, "is cancelled")


class TestWaiting:
    def test_it_corrects_a_waiting_buyer_whose_voucher_then_goes_to_the_new_address(self, course: Course) -> None:
        issuance = issue_to(course, OLD)
        assert correct(issuance) is None

        make_pool(course, 1)
        fill_waiting(course)

        assert Voucher.objects.get().issued_to == Delivery.objects.get().email == NEW
        assert_books_are_right(course)

    def test_it_tells_a_waiting_buyer_of_a_payment_their_place_again(self, priced: Course) -> None:
        tell(Payment(email=OLD).completed())
        (told,) = Delivery.objects.all()
        assert (told.kind, told.email) == ("waiting", OLD)

        again = correct(Issuance.objects.get())

        assert again is not None
        assert (again.kind, again.email, again.series) == ("waiting", NEW, 2)

    def test_it_shows_the_buyer_where_the_emails_go_now(self, priced: Course, client: Client) -> None:
        tell(Payment(email=OLD).completed())
        correct(Issuance.objects.get())
        page = client.get(f"/purchases/{Purchase.objects.get().token}").content.decode()
        assert "a***@example.com" in page
        assert "a***@exmaple.com" not in page

    def test_it_tells_the_place_once_for_several_seats(self, priced: Course) -> None:
        tell(Payment(email=OLD, quantity=3, amount=14700).completed())
        for seat in Issuance.objects.all():
            correct(seat)
        assert list(Delivery.objects.filter(email=NEW).values_list("kind", "series")) == [("waiting", 2)]


class TestPayment:
    def test_it_leaves_a_payment_as_good_as_it_was(self, priced: Course) -> None:
        """A shop that issued by the payment's reference, and a buyer whose address was then corrected."""
        make_pool(priced, 2)
        payment = Payment(email=OLD)
        issue_to(priced, OLD, order_id=payment.intent_id)
        tell(payment.completed())
        correct(Issuance.objects.get())

        purchase = settle(Purchase.objects.get())

        assert (purchase.review, purchase.email) == ("", OLD)
        assert Issuance.objects.get().email == NEW
        assert PaymentFact.objects.count() == 1


class TestUndelivered:
    """What counts as not having reached its buyer, and what settles it."""

    def fail(self) -> None:
        for delivery in claim_due(10):
            record_failure(delivery, "550 no such user", permanent=True)

    def test_it_counts_a_failed_email_until_a_later_one_goes_out(self, issuance: Issuance, course: Course) -> None:
        self.fail()
        assert Delivery.objects.undelivered().of_course(course).count() == 1
        correct(issuance)
        assert not Delivery.objects.undelivered().exists()
        self.fail()
        (second,) = Delivery.objects.undelivered()
        assert second.email == NEW

    @pytest.mark.parametrize("fate", ["bounced", "failed"])
    def test_it_counts_what_the_provider_could_not_deliver(self, issuance: Issuance, fate: str) -> None:
        Delivery.objects.update(status="sent", sent_at=issuance.issued_at, fate=fate, fate_at=issuance.issued_at)
        assert Delivery.objects.undelivered().count() == 1
        resend_voucher(issuance)
        assert not Delivery.objects.undelivered().exists()

    @pytest.mark.parametrize("fate", ["deferred", "delivered", "opened", "complained"])
    def test_it_leaves_out_what_arrived_or_may_yet_arrive(self, issuance: Issuance, fate: str) -> None:
        Delivery.objects.update(status="sent", sent_at=issuance.issued_at, fate=fate, fate_at=issuance.issued_at)
        assert not Delivery.objects.undelivered().exists()

    def test_it_leaves_out_what_nobody_needs_any_more(self, issuance: Issuance) -> None:
        self.fail()
        Issuance.objects.update(seen_at=issuance.issued_at)
        assert not Delivery.objects.undelivered().exists()
        Issuance.objects.update(seen_at=None)
        assert Delivery.objects.undelivered().exists()
        revoke_voucher(Voucher.objects.get(), reason="tests")
        assert not Delivery.objects.undelivered().exists()

    def test_it_counts_the_news_of_a_waiting_buyer(self, priced: Course) -> None:
        tell(Payment(email=OLD).completed())
        self.fail()
        assert Delivery.objects.undelivered().of_course(priced).get().kind == "waiting"
        correct(Issuance.objects.get())
        assert not Delivery.objects.undelivered().exists()

    def test_it_leaves_out_other_courses(self, issuance: Issuance) -> None:
        self.fail()
        other = PurchaseFactory.create().course
        assert other is not None
        assert not Delivery.objects.undelivered().of_course(other).exists()
