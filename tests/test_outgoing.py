"""Webhooks to others: what they say, that they are signed, tried again, replayed, and never go to this house."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.racing import together
from tests.stripe_events import Payment, tell
from tests.webhook_receiver import Receiver, running_receiver
from vouchers.errors import NotResendable
from vouchers.guesses import Guesser
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing import addresses, sending
from vouchers.outgoing.announcing import forget_receivers
from vouchers.outgoing.sending import BACKOFF, forget_sent, replay, send_due
from vouchers.redeeming import RedeemRequest, redeem_voucher

EVERYTHING = ["purchase.completed", "voucher.issued", "voucher.redeemed"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A learning platform on this machine: the only seam is the question whether an address is public."""
    original = addresses.public_session

    def session() -> requests.Session:
        made = original()
        made.verify = str(receiver.authority)
        return made

    with running_receiver(tmp_path) as receiver:
        monkeypatch.setattr(addresses, "is_public", lambda ip: True)
        monkeypatch.setattr(sending, "public_session", session)
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

    def test_it_tells_a_redemption_and_its_free_purchase(
        self, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        (voucher,) = make_pool(course, 1)
        request = RedeemRequest(code=voucher.code, email="bob@example.com", guesser=Guesser("tests", 10))
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
        make_pool(course, 3)
        issue_to(course, "warm@example.com")
        with django_assert_num_queries(9):  # as without webhooks: tests/test_issue.py
            issue_to(course, "ann@example.com")

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

    def test_a_receiver_that_fails_does_not_delay_the_others(
        self, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        WebhookReceiver.objects.create(name="Away", url="https://127.0.0.1:9/", events=["voucher.issued"])
        forget_receivers()
        for n in range(3):
            issue(course, f"buyer{n}@example.com")
        assert send_due() == 3
        assert {*WebhookMessage.objects.filter(receiver__name="Away").values_list("attempts", flat=True)} == {0, 1}

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

    def test_what_was_sent_is_forgotten_after_a_month(
        self, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        issue(course)
        send_due()
        assert forget_sent() == 0
        WebhookMessage.objects.update(sent_at=timezone.now() - dt.timedelta(days=31))
        assert forget_sent() == 1

    @pytest.mark.django_db(transaction=True)
    def test_two_senders_send_once_and_outside_of_transactions(
        self, course: Course, platform: Receiver, told: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(10):
            issue(course, f"buyer{n}@example.com")
        inside = []
        original = sending._post

        def post(*args: Any) -> sending.Answer:
            inside.append(connection.in_atomic_block)
            return original(*args)

        monkeypatch.setattr(sending, "_post", post)
        sent: list[Any] = together(2, lambda n: send_due())
        assert sum(sent) == 10
        assert len({headers["webhook-id"] for headers, _ in platform.calls}) == len(platform.calls) == 10
        assert not any(inside)


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "ff02::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_it_knows_private_ones_in_every_disguise(self, address: str) -> None:
        assert not addresses.is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e", "::ffff:1.1.1.1"])
    def test_it_lets_public_ones_pass(self, address: str) -> None:
        assert addresses.is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
    )
    def test_it_sends_nothing_there(self, course: Course, tmp_path: Path, host: str) -> None:
        with running_receiver(tmp_path) as receiver:
            port = receiver.url.split(":")[2]
            WebhookReceiver.objects.create(name="In", url=f"https://{host}:{port}", events=["voucher.issued"])
            message = issue(course)
            assert send_due() == 0
            assert not receiver.calls
        message.refresh_from_db()
        assert message.status == "queued"
        assert "not public" in message.last_error

    def test_one_private_address_among_public_ones_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.215.14", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        with pytest.raises(addresses.PrivateAddress):
            addresses.public_addresses("rebinding.example", 443)

    def test_it_connects_to_the_very_address_it_looked_at(
        self, course: Course, platform: Receiver, told: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        original = socket.getaddrinfo

        def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
            asked.append(str(host))
            return original(host, *args, **kwargs)

        WebhookReceiver.objects.update(url=platform.url.replace("127.0.0.1", "localhost"))
        issue(course)
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        send_due()
        # The name once; what follows is the address itself. The certificate is for the address, so TLS says no.
        assert asked.count("localhost") == 1
        assert "SSLError" in WebhookMessage.objects.get().last_error

    def test_it_knows_no_http(self) -> None:
        with addresses.public_session() as session, pytest.raises(requests.exceptions.InvalidSchema):
            session.post("http://example.com/")


class TestAdmin:
    ADD = "/admin/vouchers/webhookreceiver/add/"

    def test_a_receiver_is_made_and_its_secret_shown(self, admin_client: Client) -> None:
        form = {"name": "Platform", "url": "https://lms.example/hooks", "events": EVERYTHING, "active": "on"}
        assert admin_client.post(self.ADD, form).status_code == 302
        receiver = WebhookReceiver.objects.get()
        assert (
            receiver.secret
            in admin_client.get(f"/admin/vouchers/webhookreceiver/{receiver.pk}/change/").content.decode()
        )

    @pytest.mark.parametrize(
        ("field", "value"), [("url", "http://lms.example"), ("url", "ftp://lms.example"), ("events", []), ("name", "")]
    )
    def test_it_refuses_what_cannot_be(self, admin_client: Client, field: str, value: Any) -> None:
        form = {"name": "Platform", "url": "https://lms.example", "events": EVERYTHING} | {field: value}
        answer = admin_client.post(self.ADD, form)
        assert (
            [*answer.context["errors"].data] if hasattr(answer.context["errors"], "data") else answer.context["errors"]
        )
        assert not WebhookReceiver.objects.exists()

    def test_messages_are_replayed(
        self, admin_client: Client, course: Course, platform: Receiver, told: WebhookReceiver
    ) -> None:
        message = issue(course)
        send_due()
        page = admin_client.get("/admin/vouchers/webhookmessage/").content.decode()
        assert message.message_id in page
        form = {"action": "send_again", "_selected_action": [str(message.pk)]}
        answer = admin_client.post("/admin/vouchers/webhookmessage/", form, follow=True)
        assert "1 message queued to be sent again." in str([str(said) for said in answer.context["messages"]])
        assert send_due() == 1
        assert LogEntry.objects.get().get_change_message() == "Sent again."
        shown = admin_client.get(f"/admin/vouchers/webhookmessage/{message.pk}/change/").content.decode()
        assert "voucher.issued" in shown
