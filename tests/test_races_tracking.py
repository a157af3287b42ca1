"""What is told of one email by several posts at once, and once more with the lock taken away."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from courses.models import Course
from tests.factories import queue_emails
from tests.racing import DEADLINE, failures, in_thread, somebody_waits_for_a_lock, together, wait_until
from vouchers.models import Delivery, DeliveryEvent
from vouchers.tracking import recording
from vouchers.tracking.events import Kind, Told
from vouchers.tracking.recording import record

pytestmark = pytest.mark.django_db(transaction=True)

AT = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


def told(delivery: Delivery, kind: Kind, minute: int = 0) -> Told:
    at = AT + dt.timedelta(minutes=minute)
    return Told(kind, f"{delivery.pk}-{kind}-{minute}", at, "", "theirs", delivery.email, delivery.pk)


@pytest.fixture
def sent(course: Course) -> Delivery:
    (delivery,) = queue_emails(course, "ann@example.com")
    return delivery


def fate_of(delivery: Delivery) -> str:
    delivery.refresh_from_db()
    return delivery.fate


class TestAtOnce:
    def test_the_same_event_has_one_effect(self, sent: Delivery) -> None:
        results = together(8, lambda n: record("sendgrid", [told(sent, Kind.BOUNCED)]))
        assert failures(results) == []
        assert [event.kind for event in DeliveryEvent.objects.all()] == ["bounced"]
        assert fate_of(sent) == "bounced"

    def test_different_events_end_as_one_after_the_other(self, sent: Delivery) -> None:
        kinds = [Kind.DELIVERED, Kind.OPENED, Kind.BOUNCED, Kind.DEFERRED, Kind.COMPLAINED]
        results = together(5, lambda n: record("sendgrid", [told(sent, kinds[n], n)]))
        assert failures(results) == []
        assert DeliveryEvent.objects.count() == 5
        assert fate_of(sent) == "complained"

    def race(self, course: Course) -> list[Any]:
        """Two posts about the same two emails, each beginning with the other's last."""
        emails = queue_emails(course, "ann@example.com", "bob@example.com")
        events = [[told(email, Kind.DELIVERED, n) for email in emails] for n in range(2)]
        return together(2, lambda n: record("sendgrid", events[n][:: 1 if n else -1]))

    def test_two_posts_about_the_same_emails_do_not_block_each_other(self, course: Course) -> None:
        assert failures(self.race(course)) == []
        assert not Delivery.objects.exclude(fate="delivered").exists()

    def test_control_locked_in_the_order_of_the_posts_they_do(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        both = threading.Barrier(2, timeout=DEADLINE)

        def one_by_one(deliveries: Iterable[Delivery]) -> list[Delivery]:
            first, second = deliveries
            locked = [Delivery.objects.select_for_update().get(pk=first.pk)]
            both.wait()
            return [*locked, Delivery.objects.select_for_update().get(pk=second.pk)]

        monkeypatch.setattr(recording, "lock", one_by_one)
        (failure,) = failures(self.race(course))
        assert "deadlock" in str(failure)


class TestTheLock:
    """Two posts that each see only their own event: the later writes the fate that its event alone would mean."""

    def race(self, sent: Delivery, monkeypatch: pytest.MonkeyPatch) -> str:
        """A bounce is recorded and not yet committed; then comes the delivery that happened before it."""
        settled, go_on = threading.Event(), threading.Event()
        settle = recording.settle

        def slowly(delivery: Delivery, provider_id: str) -> None:
            settle(delivery, provider_id)
            if threading.current_thread() is not main:
                settled.set()
                assert go_on.wait(DEADLINE)

        main = threading.current_thread()
        monkeypatch.setattr(recording, "settle", slowly)
        bounce = in_thread(lambda: record("sendgrid", [told(sent, Kind.BOUNCED, 1)]))
        assert settled.wait(DEADLINE)
        monkeypatch.setattr(recording, "settle", settle)
        delivered = in_thread(lambda: record("sendgrid", [told(sent, Kind.DELIVERED)]))
        wait_until(somebody_waits_for_a_lock)
        go_on.set()
        bounce()
        delivered()
        return fate_of(sent)

    def test_the_second_waits_and_sees_both(self, sent: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.race(sent, monkeypatch) == "bounced"

    def test_control_without_the_lock_a_bounce_is_forgotten(
        self, sent: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_only(deliveries: Iterable[Delivery]) -> list[Any]:
            return list(Delivery.objects.filter(pk__in={delivery.pk for delivery in deliveries}))

        monkeypatch.setattr(recording, "lock", read_only)
        assert self.race(sent, monkeypatch) == "delivered"
        assert sent.events.count() == 2
