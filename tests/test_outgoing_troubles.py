"""Receivers that are slow, broken or hostile: they get what they deserve, and nobody else waits for it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from tests.webhook_receiver import FLOOD, Receiver, reachable_receiver
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing import addresses, sending
from vouchers.outgoing.sending import replay, send_due

pytestmark = pytest.mark.django_db


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with reachable_receiver(tmp_path, monkeypatch) as receiver:
        yield receiver


def queue(receiver: Receiver, number: int = 1, name: str = "Platform") -> list[WebhookMessage]:
    told = WebhookReceiver.objects.create(name=name, url=receiver.url, events=["voucher.issued"])
    messages = [WebhookMessage(receiver=told, type="voucher.issued", payload={"n": n}) for n in range(number)]
    return WebhookMessage.objects.bulk_create(messages)


def statuses(name: str = "Platform") -> list[str]:
    return [*WebhookMessage.objects.filter(receiver__name=name).order_by("id").values_list("status", flat=True)]


def test_it_hangs_up_on_an_answer_that_drips(bad: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "ANSWER_SECONDS", 0.5)
    bad.drip = 0.1  # each line in time, and nine seconds for all of them
    queue(bad)
    began = time.monotonic()
    assert send_due() == 1  # the status came first
    assert time.monotonic() - began < 5


def test_it_hangs_up_on_an_answer_that_never_comes(bad: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "ANSWER_SECONDS", 0.3)
    bad.slow = 2
    (message,) = queue(bad)
    began = time.monotonic()
    assert send_due() == 0
    assert time.monotonic() - began < 1.5
    message.refresh_from_db()
    assert (message.status, message.attempts, message.last_status) == ("queued", 1, None)
    assert message.last_error.startswith("No answer: ")


@pytest.mark.parametrize(("status", "became"), [(200, "sent"), (302, "queued"), (500, "queued")])
def test_it_does_not_read_what_is_said_beside_the_status(bad: Receiver, status: int, became: str) -> None:
    bad.answers, bad.flood = [status], True
    queue(bad)
    send_due()
    assert statuses() == [became]
    assert bad.flooded < FLOOD / 2  # what fits into the buffers between us


@pytest.mark.parametrize(
    "location", ["https://[", "https://" + "a" * 70 + ".example/", "//", "\\\\", "http://x:99999999"]
)
def test_a_senseless_redirect_stops_nobody_else(bad: Receiver, location: str) -> None:
    bad.answers, bad.location = [302, 204], location
    queue(bad)
    queue(bad, name="Other")
    send_due()
    assert sorted(statuses() + statuses("Other")) == ["queued", "sent"]


def test_an_address_that_makes_no_sense_stops_nobody_else(bad: Receiver) -> None:
    (message,) = queue(bad)
    WebhookReceiver.objects.update(url="https://" + "a" * 70 + ".example/")
    queue(bad, name="Other")
    assert send_due() == 1
    message.refresh_from_db()
    assert (message.status, message.attempts) == ("queued", 1)
    assert message.last_error.startswith("No answer: ")


def test_a_receiver_that_fails_is_left_alone_for_the_rest_of_the_round(bad: Receiver) -> None:
    away = WebhookReceiver.objects.create(name="Away", url="https://127.0.0.1:9/", events=["voucher.issued"])
    WebhookMessage.objects.bulk_create(
        WebhookMessage(receiver=away, type="voucher.issued", payload={}) for _ in range(30)
    )
    queue(bad, 3)
    assert send_due() == 3
    assert sorted(WebhookMessage.objects.filter(receiver=away).values_list("attempts", flat=True)) == [0] * 29 + [1]


def test_a_slow_receiver_with_a_long_queue_delays_nobody_else(
    bad: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TURN_SECONDS", 0.1)
    folder = tmp_path / "quick"
    folder.mkdir()
    queue(bad, 30)
    bad.slow = 0.3
    with reachable_receiver(folder, monkeypatch) as quick:
        queue(quick, name="Quick")  # the newest of all
        send_due(limit_seconds=2)
    assert statuses("Quick") == ["sent"]
    assert set(statuses()) == {"sent", "queued"}


def test_a_long_queue_is_sent_in_one_round_where_all_is_well(bad: Receiver) -> None:
    queue(bad, sending.TURN * 2 + 1)
    assert send_due() == sending.TURN * 2 + 1


def test_what_waits_for_a_receiver_that_is_not_active_fails_and_can_be_sent_again(bad: Receiver) -> None:
    messages = queue(bad, 30)
    WebhookMessage.objects.filter(pk=messages[0].pk).update(due_at=timezone.now() + dt.timedelta(hours=1))
    WebhookReceiver.objects.update(active=False)
    assert send_due() == 0
    assert set(statuses()) == {"failed"}
    WebhookReceiver.objects.update(active=True)
    replay(messages[0])
    assert send_due() == len(bad.calls) == 1
