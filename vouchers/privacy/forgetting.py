"""What is kept for a time only: the bodies of webhooks and of emails, and who tried which code in vain.

0 days is for ever. What is written in the books stays: what payments claim, and that an email was sent and arrived.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone
from djstripe.models import Event, WebhookEventTrigger

from vouchers.models import Delivery, DeliveryEvent, KeptEmail, RedeemAttempt, WebhookMessage
from vouchers.tombstones import TOMBSTONES

REDEEM_ATTEMPT_DAYS = 365
ROWS_AT_ONCE = 1000
OLD_BODY = "This text was kept for a time, and is forgotten now."
FORGOTTEN_EVENT: dict[str, Any] = {"data": {"object": {}}, "stripe_data": {}}


def forget_old_payloads() -> int:
    """Forgets what is older than the settings say, and what came late of erased buyers; returns of how many rows.

    A thousand rows at a time, each thousand in a transaction of its own, so that nothing else waits for them.
    """
    return (
        _forget_webhooks(settings.WEBHOOK_PAYLOAD_DAYS)
        + _forget_bodies(settings.EMAIL_BODY_DAYS)
        + _forget_attempts(REDEEM_ATTEMPT_DAYS)
        + _forget_late_reasons()
    )


def _forget_webhooks(days: int) -> int:
    """Requests and messages go as a whole. Events stay without what they said, so that one that is told again is known;
    what they came to stays as facts."""
    if not days:
        return 0
    requests = WebhookEventTrigger.objects.filter(created__lt=_ago(days))
    ended = (WebhookMessage.Status.SENT, WebhookMessage.Status.FAILED)
    messages = WebhookMessage.objects.filter(status__in=ended, created_at__lt=_ago(days))
    events = Event.objects.filter(djstripe_created__lt=_ago(days)).exclude(stripe_data={})
    return _delete(requests) + _delete(messages) + _update(events, **FORGOTTEN_EVENT)


def _forget_bodies(days: int) -> int:
    """What emails said, and why providers say they did not arrive; which emails there were, and their fate, stays."""
    if not days:
        return 0
    kept = KeptEmail.objects.filter(kept_at__lt=_ago(days)).exclude(text=OLD_BODY, html="")
    reasons = DeliveryEvent.objects.filter(recorded_at__lt=_ago(days)).exclude(reason="")
    said = Delivery.objects.filter(created_at__lt=_ago(days)).exclude(fate_reason="", last_error="")
    return (
        _update(kept, text=OLD_BODY, html="")
        + _update(reasons, reason="")
        + _update(said, fate_reason="", last_error="")
    )


def _forget_attempts(days: int) -> int:
    return _delete(RedeemAttempt.objects.filter(last_at__lt=_ago(days))) if days else 0


def _forget_late_reasons() -> int:
    """A mail server may refuse an email after its address was erased, and quote the address."""
    erased = Delivery.objects.filter(email__endswith=TOMBSTONES)
    late = erased.filter(Q(fate_reason__contains="@") | Q(last_error__contains="@"))
    events = DeliveryEvent.objects.filter(delivery__email__endswith=TOMBSTONES, reason__contains="@")
    return _update(late, fate_reason="", last_error="") + _update(events, reason="")


def _ago(days: int) -> dt.datetime:
    return timezone.now() - dt.timedelta(days=days)


def _delete(rows: QuerySet[Any]) -> int:
    return _each_thousand(rows, lambda some: some.delete()[0])


def _update(rows: QuerySet[Any], **forgotten: object) -> int:
    return _each_thousand(rows, lambda some: some.update(**forgotten))


def _each_thousand(rows: QuerySet[Any], forget: Callable[[QuerySet[Any]], int]) -> int:
    """What was forgotten is not among `rows` any more, or this would never end."""
    total = 0
    while keys := list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        total += forget(QuerySet(rows.model).filter(pk__in=keys))
    return total
