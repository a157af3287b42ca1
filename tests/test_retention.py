"""What is kept for a time only: the bodies of webhooks and of emails, and refused redemptions"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import models
from django.utils import timezone
from djstripe.models import Event, WebhookEventTrigger

from courses.models import Course, PaymentFact, Purchase
from tests.factories import issue_to, make_pool
from tests.stripe_events import Payment, tell
from vouchers.guesses import Guesser
from vouchers.models import Delivery, DeliveryEvent, KeptEmail, RedeemAttempt, Voucher, WebhookMessage, WebhookReceiver
from vouchers.privacy import forgetting
from vouchers.privacy.erasing import erase_buyer
from vouchers.privacy.forgetting import OLD_BODY, forget_old_payloads

pytestmark = pytest.mark.django_db

EMAIL = "ann@example.com"


def grow_old(rows: models.QuerySet[Any], column: str, days: int) -> None:
    """As if written that many days ago, and a minute."""
    rows.update(**{column: timezone.now() - dt.timedelta(days=days, minutes=1)})


def a_message(status: str) -> WebhookMessage:
    receiver, _ = WebhookReceiver.objects.get_or_create(
        name="lms", defaults={"url": "https://lms.example/", "events": ["voucher.issued"]}
    )
    return WebhookMessage.objects.create(
        receiver=receiver,
        type="voucher.issued",
        payload={"data": {"email": EMAIL}},
        status=status,
        sent_at=timezone.now() if status == "sent" else None,
    )


def an_attempt(course: Course) -> RedeemAttempt:
    (voucher,) = make_pool(course, 1)
    return RedeemAttempt.objects.create(
        voucher=voucher, reason="revoked", caller=Guesser.of_address("10.0.0.1").name, email=EMAIL
    )


def a_reason(course: Course, text: str) -> DeliveryEvent:
    make_pool(course, 1)
    return DeliveryEvent.objects.create(
        delivery=issue_to(course, EMAIL).deliveries.get(),
        provider="mailgun",
        key="1",
        kind="bounced",
        at=timezone.now(),
        reason=text,
    )


class TestWebhooks:
    def test_it_forgets_requests_of_stripe_after_thirty_days(self, priced: Course) -> None:
        tell(Payment().completed(), Payment().completed())
        one = WebhookEventTrigger.objects.order_by("pk")[:1]
        grow_old(WebhookEventTrigger.objects.filter(pk__in=one.values("pk")), "created", 29)
        assert forget_old_payloads() == 0
        grow_old(WebhookEventTrigger.objects.filter(pk__in=one.values("pk")), "created", 30)
        assert forget_old_payloads() == 1
        assert WebhookEventTrigger.objects.count() == 1

    def test_an_event_stays_without_what_it_said_and_is_known_when_it_is_told_again(self, priced: Course) -> None:
        make_pool(priced, 2)
        event = Payment().completed()
        tell(event)
        grow_old(Event.objects.all(), "djstripe_created", 30)

        assert forget_old_payloads() == 1
        assert forget_old_payloads() == 0

        kept = Event.objects.get()
        assert (kept.id, kept.type, kept.data, kept.stripe_data) == (event["id"], event["type"], {"object": {}}, {})
        tell(event)
        assert Event.objects.get().stripe_data == {}
        assert Voucher.objects.filter(status="issued").count() == 1

    def test_what_it_came_to_stays(self, priced: Course) -> None:
        make_pool(priced, 2)
        payment = Payment()
        tell(payment.completed())
        grow_old(Event.objects.all(), "djstripe_created", 30)
        forget_old_payloads()
        assert PaymentFact.objects.get().claims["email"] == EMAIL
        tell(payment.refunded(4900))
        assert Purchase.objects.get().refunded_at is not None

    def test_messages_to_others_go_once_they_are_through(self, db: None) -> None:
        for status in ("sent", "failed", "queued", "sending"):
            a_message(status)
        grow_old(WebhookMessage.objects.all(), "created_at", 29)
        assert forget_old_payloads() == 0
        grow_old(WebhookMessage.objects.all(), "created_at", 30)
        assert forget_old_payloads() == 2
        assert {*WebhookMessage.objects.values_list("status", flat=True)} == {"queued", "sending"}


class TestEmails:
    def test_kept_ones_lose_their_bodies_after_ninety_days(self, db: None) -> None:
        KeptEmail.objects.create(message_id="<1@x>", to=EMAIL, subject="Your voucher", text="CODE-1", html="<p>CODE-1")
        grow_old(KeptEmail.objects.all(), "kept_at", 89)
        assert forget_old_payloads() == 0
        grow_old(KeptEmail.objects.all(), "kept_at", 90)
        assert forget_old_payloads() == 1
        assert forget_old_payloads() == 0
        kept = KeptEmail.objects.get()
        assert (kept.to, kept.subject, kept.text, kept.html) == (EMAIL, "Your voucher", OLD_BODY, "")

    def test_the_reason_of_an_event_goes_and_the_event_stays(self, course: Course) -> None:
        event = a_reason(course, f"550 <{EMAIL}>: unknown")
        grow_old(DeliveryEvent.objects.all(), "recorded_at", 89)
        assert forget_old_payloads() == 0
        grow_old(DeliveryEvent.objects.all(), "recorded_at", 90)
        assert forget_old_payloads() == 1
        event.refresh_from_db()
        assert (event.kind, event.reason) == ("bounced", "")

    def test_an_address_that_comes_back_with_a_bounce_goes_at_once(self, course: Course) -> None:
        event = a_reason(course, "mailbox full")
        issue_to(course, "bob@example.com")
        erase_buyer(email=EMAIL, actor="tests")
        said = f"550 <{EMAIL}>: unknown"
        DeliveryEvent.objects.create(
            delivery=event.delivery, provider="mailgun", key="2", kind="bounced", at=timezone.now(), reason=said
        )
        Delivery.objects.update(fate="bounced", fate_at=timezone.now(), fate_reason=said, last_error=said)

        assert forget_old_payloads() == 2

        erased = Delivery.objects.get(pk=event.delivery_id)
        assert (erased.fate, erased.fate_reason, erased.last_error) == ("bounced", "", "")
        assert [*DeliveryEvent.objects.values_list("key", "reason")] == [("1", "mailbox full"), ("2", "")]
        assert not Delivery.objects.exclude(pk=erased.pk).exclude(fate_reason=said).exists()


class TestAttempts:
    def test_they_go_after_a_year_without_another_one(self, course: Course) -> None:
        an_attempt(course)
        grow_old(RedeemAttempt.objects.all(), "first_at", 400)
        grow_old(RedeemAttempt.objects.all(), "last_at", 364)
        assert forget_old_payloads() == 0
        grow_old(RedeemAttempt.objects.all(), "last_at", 365)
        assert forget_old_payloads() == 1
        assert not RedeemAttempt.objects.exists()


class TestSettings:
    def test_zero_days_are_for_ever(self, priced: Course, settings: Any) -> None:
        settings.WEBHOOK_PAYLOAD_DAYS = 0
        settings.EMAIL_BODY_DAYS = 0
        a_reason(priced, "mailbox full")
        tell(Payment().completed())
        a_message("sent")
        KeptEmail.objects.create(message_id="<1@x>", to=EMAIL, subject="Your voucher", text="CODE-1")
        grow_old(Event.objects.all(), "djstripe_created", 4000)
        grow_old(WebhookEventTrigger.objects.all(), "created", 4000)
        grow_old(WebhookMessage.objects.all(), "created_at", 4000)
        grow_old(DeliveryEvent.objects.all(), "recorded_at", 4000)
        grow_old(KeptEmail.objects.all(), "kept_at", 4000)
        assert forget_old_payloads() == 0

    def test_other_days_are_counted_as_set(self, db: None, settings: Any) -> None:
        settings.WEBHOOK_PAYLOAD_DAYS = 3
        a_message("sent")
        grow_old(WebhookMessage.objects.all(), "created_at", 2)
        assert forget_old_payloads() == 0
        grow_old(WebhookMessage.objects.all(), "created_at", 3)
        assert forget_old_payloads() == 1


def test_it_takes_some_rows_at_a_time_and_all_of_them(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "ROWS_AT_ONCE", 2)
    for _ in range(5):
        a_message("sent")
        KeptEmail.objects.create(message_id="<1@x>", to=EMAIL, subject="Your voucher", text="CODE-1")
    grow_old(WebhookMessage.objects.all(), "created_at", 30)
    grow_old(KeptEmail.objects.all(), "kept_at", 90)
    assert forget_old_payloads() == 10
    assert not WebhookMessage.objects.exists()
    assert not KeptEmail.objects.exclude(text=OLD_BODY).exists()
