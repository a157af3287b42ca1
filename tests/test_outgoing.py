"""Webhooks to others: what they say, that they are signed, tried again, replayed and, once taken, not repeated."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.racing import together
from tests.stripe_events import Payment, tell
from tests.webhook_receiver import Receiver, reachable_receiver
from vouchers.errors import NotResendable
from vouchers.guesses import Guesser
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing import sending
from vouchers.outgoing.announcing import announce_issued, forget_receivers
from vouchers.outgoing.sending import BACKOFF, replay, send_due
from vouchers.redeeming import RedeemRequest, redeem_voucher

EVERYTHING = ["purchase.completed", "voucher.issued", "voucher.redeemed"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A learning platform on this machine."""
    with reachable_receiver(tmp_path, monkeypatch) as receiver:
        yield receiver


@pytest.fixture
def told(platform: Receiver) -> WebhookReceiver:
    return WebhookReceiver.objects.create(name="Platform", url=platform.url, events=EVERYTHING)


def due_again() -> None:
    WebhookMessage.objects.filter(status="queued").update(due_at=timezone.now() - dt.timedelta(seconds=1))


def issue(course: Course, email: str = "ann@example.com") -> WebhookMessage:
    make_pool(course, 1)
    issue_to(course, email)
    return WebhookMessage.objects.latest("id")


class TestWhatItSays:
    def test_it_tells_a_purchase_and_its_voucher_without_the_code(
        self, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        Course.objects.update(price=Decimal(49))
        (voucher,) = make_pool(course, 1)
        payment = Payment()
        tell(payment.completed(), payment.completed())
        assert send_due() == 2
        by_type = {payload["type"]: payload["data"] for payload in platform.payloads()}
        purchase = WebhookMessage.objects.get(type="purchase.completed").payload["data"]["purchaseId"]
        assert by_type["purchase.completed"] == {
            "purchaseId": purchase,
            "provider": "stripe",
            "courseId": "JS101",
            "email": "ann@example.com",
            "quantity": 1,
            "amount": "49.00",
            "currency": "usd",
        }
        assert by_type["voucher.issued"] | {"issuanceId": 0, "issuedOn": ""} == {
            "issuanceId": 0,
            "courseId": "JS101",
            "email": "ann@example.com",
            "orderId": payment.intent_id,
            "purchaseId": purchase,
            "issuedOn": "",
        }
        assert voucher.code not in str(platform.calls)

    @pytest.mark.parametrize("guesser", [Guesser.of_address("127.0.0.1"), Guesser.of_key("key:a")])
    def test_it_tells_a_redemption_and_its_free_purchase(
        self, course: Course, platform: Receiver, told: WebhookReceiver, guesser: Guesser
    ) -> None:
        (voucher,) = make_pool(course, 1)
        request = RedeemRequest(code=voucher.code, email="bob@example.com", guesser=guesser)
        redemption = redeem_voucher(request)
        send_due()
        by_type = {payload["type"]: payload["data"] for payload in platform.payloads()}
        assert by_type["voucher.redeemed"] == {
            "purchaseId": str(redemption.purchase_id),
            "courseId": "JS101",
            "email": "bob@example.com",
            "usedOn": timezone.localdate().isoformat(),
        }
        assert (by_type["purchase.completed"]["amount"], by_type["purchase.completed"]["provider"]) == (
            "0.00",
            "voucher",
        )
        assert voucher.code not in str(platform.calls)

    def test_it_tells_of_a_queue_that_was_filled(self, course: Course, told: WebhookReceiver) -> None:
        issue_to(course)
        assert not WebhookMessage.objects.exists()
        issue(course, "bob@example.com")  # the pool's one code goes to ann, who waits
        assert WebhookMessage.objects.get().payload["data"]["email"] == "ann@example.com"

    def test_it_tells_nothing_of_what_was_rolled_back(self, course: Course, told: WebhookReceiver) -> None:
        make_pool(course, 1)
        with transaction.atomic():
            issue_to(course)
            transaction.set_rollback(True)
        assert not WebhookMessage.objects.exists()

    def test_it_tells_only_those_who_asked_for_it(self, course: Course, told: WebhookReceiver) -> None:
        told.events = ["voucher.redeemed"]
        told.save(update_fields=["events"])
        make_pool(course, 1)
        issue_to(course)
        assert not WebhookMessage.objects.exists()

    def test_shops_that_tell_nobody_pay_one_question_in_five_seconds(
        self, course: Course, django_assert_num_queries: Any
    ) -> None:
        make_pool(course, 1)
        issuance = issue_to(course)
        forget_receivers()
        with django_assert_num_queries(1):
            announce_issued([issuance])
        with django_assert_num_queries(0):
            announce_issued([issuance])

    def test_a_receiver_can_verify_it(self, course: Course, platform: Receiver, told: WebhookReceiver) -> None:
        message = issue(course)
        send_due()
        ((headers, body),) = platform.calls
        assert headers["webhook-id"] == message.message_id
        assert Webhook(told.secret).verify(body, headers) == message.payload
        with pytest.raises(WebhookVerificationError):
            Webhook(told.secret).verify(body.replace("ann", "bob"), headers)


class TestSending:
    @pytest.mark.parametrize("answer", [500, 404, 302, 0])
    def test_what_is_not_taken_is_tried_again_for_days(
        self, course: Course, platform: Receiver, told: WebhookReceiver, answer: int
    ) -> None:
        platform.answers = [answer]
        message = issue(course)
        for attempt, wait in enumerate(BACKOFF, 1):
            assert send_due() == 0
            message.refresh_from_db()
            assert (message.status, message.attempts, message.last_status) == ("queued", attempt, answer or None)
            assert abs(message.due_at - timezone.now() - wait) < dt.timedelta(seconds=30)
            due_again()
        send_due()
        message.refresh_from_db()
        assert message.status == "failed"
        assert len(platform.calls) == len(BACKOFF) + 1  # and no redirect was followed
        assert {headers["webhook-id"] for headers, _ in platform.calls} == {message.message_id}
        assert sum(BACKOFF, dt.timedelta()) > dt.timedelta(days=3)

    def test_it_is_taken_at_the_second_attempt(self, course: Course, platform: Receiver, told: WebhookReceiver) -> None:
        platform.answers = [503, 200]
        message = issue(course)
        send_due()
        due_again()
        assert send_due() == 1
        message.refresh_from_db()
        assert (message.status, message.attempts, message.last_error) == ("sent", 2, "")

    def test_gone_is_the_end(self, course: Course, platform: Receiver, told: WebhookReceiver) -> None:
        platform.answers = [410]
        first, second = issue(course), issue(course, "bob@example.com")
        send_due()
        told.refresh_from_db()
        assert (told.active, "410" in told.disabled_reason) == (False, True)
        assert first.__class__.objects.get(pk=first.pk).status == "failed"
        send_due()
        second.refresh_from_db()
        assert (second.status, second.last_error) == ("failed", "Its receiver is not active.")
        issue(course, "eve@example.com")
        assert WebhookMessage.objects.count() == 2
        assert len(platform.calls) == 1

    def test_a_message_is_replayed_under_its_own_id(
        self, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        message = issue(course)
        with pytest.raises(NotResendable):
            replay(message)
        send_due()
        replay(message)
        assert send_due() == 1
        assert [headers["webhook-id"] for headers, _ in platform.calls] == [message.message_id] * 2

    def test_what_a_killed_sender_took_is_sent_when_its_lease_ends(
        self, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        message = issue(course)
        WebhookMessage.objects.update(status="sending", attempts=1, due_at=timezone.now() + dt.timedelta(minutes=1))
        assert send_due() == 0
        WebhookMessage.objects.update(due_at=timezone.now() - dt.timedelta(seconds=1))
        assert send_due() == 1
        assert platform.calls[0][0]["webhook-id"] == message.message_id

    @pytest.mark.django_db(transaction=True)
    def test_two_senders_send_once_and_outside_of_transactions(
        self, course: Course, platform: Receiver, told: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(30):
            issue(course, f"buyer{n}@example.com")
        inside = []
        original = sending._post

        def post(*args: Any) -> sending.Answer:
            inside.append(connection.in_atomic_block)
            return original(*args)

        monkeypatch.setattr(sending, "_post", post)
        sent: list[Any] = together(2, lambda n: send_due())
        assert sum(sent) == 30
        assert len({headers["webhook-id"] for headers, _ in platform.calls}) == len(platform.calls) == 30
        assert not any(inside)
