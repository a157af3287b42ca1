"""Emails about a purchase as a whole: the place in the queue, the confirmation of a free purchase."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client
from pytest_django import Settings

from courses.models import Course, Purchase
from tests.factories import make_pool
from tests.stripe_events import Payment, tell
from vouchers.delivery.messages import Pointless, message_of
from vouchers.delivery.sending import send_due
from vouchers.filling import fill_waiting
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, KeptEmail
from vouchers.payments.progress import progress_of
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def course_for_sale(course: Course, settings: Settings) -> Course:
    settings.EMAIL_BACKEND = "vouchers.delivery.kept.KeptEmailBackend"
    settings.BASE_URL = "https://shop.example"
    Course.objects.filter(pk=course.pk).update(price=Decimal(49), name="JS & <b>Co")
    course.refresh_from_db()
    return course


def link() -> str:
    return f"https://shop.example/purchases/{Purchase.objects.latest('created_at').token}"


def test_a_waiting_buyer_is_told_at_once_and_again_with_the_code(course: Course) -> None:
    tell(Payment().completed())
    assert send_due() == 1
    first = KeptEmail.objects.get()
    assert (first.to, first.subject) == ("ann@example.com", "Your place in the queue for JS & <b>Co")
    assert link() in first.text
    assert link() in first.html
    assert "JS &amp; &lt;b&gt;Co" in first.html
    assert "your voucher waits" in first.text

    make_pool(course, 1)
    from_queue = Issuance.objects.get()
    assert fill_waiting(course) == 1
    assert send_due() == 1
    second = KeptEmail.objects.latest("id")
    from_queue.refresh_from_db()
    assert from_queue.voucher is not None
    assert from_queue.voucher.code in second.text
    assert link() in second.text  # the page of the purchase is reachable from the email


def test_a_buyer_who_got_some_is_told_of_the_rest(course: Course) -> None:
    make_pool(course, 2)
    tell(Payment(amount=3 * 4900, quantity=3).completed())
    text = message_of(Delivery.objects.get(kind="waiting")).body
    assert "2 of your 3 vouchers are on the way in emails of their own; for the other we are waiting" in text


def test_nobody_is_told_of_a_queue_that_is_over(course: Course) -> None:
    payment = Payment()
    tell(payment.completed(), payment.refunded(4900))
    with pytest.raises(Pointless, match="nobody waits"):
        message_of(Delivery.objects.get())
    assert send_due() == 0
    assert Delivery.objects.get().status == "failed"
    assert Delivery.objects.get().attempts == 0


def test_a_voucher_on_hold_is_not_sent_until_it_is_released(course: Course) -> None:
    make_pool(course, 1)
    payment = Payment()
    tell(payment.completed(), payment.disputed())
    assert send_due() == 0
    tell(payment.dispute_ended("won"))
    assert send_due() == 1
    assert KeptEmail.objects.count() == 1


@pytest.mark.parametrize("guesser", [Guesser.of_address("127.0.0.1"), Guesser.of_key("key:a")])
@pytest.mark.parametrize("confirm", [True, False])
def test_a_free_purchase_is_confirmed_where_the_desk_is_to_do_it(
    course: Course, confirm: bool, guesser: Guesser
) -> None:
    (voucher,) = make_pool(course, 1)
    redeem_voucher(RedeemRequest(code=voucher.code, email="ann@example.com", guesser=guesser, confirm=confirm))
    assert send_due() == int(confirm)
    if confirm:
        kept = KeptEmail.objects.get()
        assert kept.subject == "You have JS & <b>Co"
        assert link() in kept.text
        assert voucher.code not in kept.text + kept.html


def test_without_an_email_there_is_nobody_to_confirm_to(course: Course) -> None:
    (voucher,) = make_pool(course, 1)
    redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser("tests", 10), confirm=True))
    assert not Delivery.objects.exists()


def test_the_page_says_what_could_not_be_delivered(course: Course) -> None:
    make_pool(course, 1)
    tell(Payment().completed())
    Delivery.objects.update(status="failed", last_error="550 No such user")
    purchase = Purchase.objects.get()
    progress = progress_of(purchase)
    assert (progress.sent, progress.unsent, progress.is_over) == (0, 1, True)
    page = Client().get(f"/purchases/{purchase.token}").content.decode()
    assert "could not be delivered" in page
    assert "550" not in page
