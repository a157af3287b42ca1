"""The race of sending webhooks, and once more with the guard taken away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction
from django.db.models.functions import Now

from tests.racing import DEADLINE, in_thread, together
from tests.webhook_receiver import Receiver, reachable_receiver
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing import sending
from vouchers.outgoing.sending import send_due

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with reachable_receiver(tmp_path, monkeypatch) as receiver:
        yield receiver


def queue(platform: Receiver, number: int) -> WebhookReceiver:
    told = WebhookReceiver.objects.create(name="Platform", url=platform.url, events=["voucher.issued"])
    WebhookMessage.objects.bulk_create(
        WebhookMessage(receiver=told, type="voucher.issued", payload={"n": n}) for n in range(number)
    )
    return told


def test_a_sender_passes_by_what_another_is_just_taking(platform: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TURN", 1)
    told = queue(platform, 2)
    with transaction.atomic():
        (first,) = sending._claim(told.pk)
        (other,) = in_thread(lambda: sending._claim(told.pk))()
    assert (first.payload, other.payload) == ({"n": 0}, {"n": 1})


def test_control_without_the_lock_two_senders_send_the_same_message(
    platform: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_read = threading.Barrier(2, timeout=DEADLINE)

    def claim_without_lock(receiver: int) -> list[WebhookMessage]:
        due = list(WebhookMessage.objects.due().filter(receiver=receiver).select_related("receiver"))
        both_have_read.wait()
        keys = [message.pk for message in due]
        WebhookMessage.objects.filter(pk__in=keys).update(status="sending", attempts=1, due_at=Now() + sending.LEASE)
        return list(WebhookMessage.objects.filter(pk__in=keys).select_related("receiver"))

    monkeypatch.setattr(sending, "_claim", claim_without_lock)
    queue(platform, 1)
    together(2, lambda n: send_due())
    first, second = (headers["webhook-id"] for headers, _ in platform.calls)
    assert first == second
