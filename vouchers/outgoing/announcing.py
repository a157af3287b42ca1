"""What happened, for those who are to be told of it: written into their outboxes where and when it happens.

Thin: who and what, and never a code. A message goes out only if the transaction of the deed commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.cache import cache
from django.utils import timezone

from courses.models import Purchase
from vouchers.models import Issuance, Redemption, WebhookMessage, WebhookReceiver

Event = WebhookReceiver.Event
KNOWN = "webhook-receivers"
# Issuing is not to pay a question to the database in shops that tell nobody.
REMEMBERED_SECONDS = 5


def announce_purchase(purchase: Purchase) -> None:
    data = {
        "purchaseId": str(purchase.pk),
        "provider": purchase.provider,
        "courseId": purchase.course_id,
        "email": purchase.email,
        "quantity": purchase.quantity,
        "amount": f"{purchase.amount:.2f}",
        "currency": purchase.currency,
    }
    _announce(Event.PURCHASE_COMPLETED, [data])


def announce_issued(issuances: Iterable[Issuance]) -> None:
    _announce(
        Event.VOUCHER_ISSUED,
        (
            {
                "issuanceId": issuance.pk,
                "courseId": issuance.course_id,
                "email": issuance.email,
                "orderId": issuance.order_id or None,
                "purchaseId": str(issuance.purchase_id) if issuance.purchase_id else None,
                "issuedOn": issuance.issued_at.isoformat() if issuance.issued_at else None,
            }
            for issuance in issuances
        ),
    )


def announce_redeemed(redemption: Redemption) -> None:
    data = {
        "purchaseId": str(redemption.purchase_id),
        "courseId": redemption.purchase.course_id,
        "email": redemption.purchase.email,
        "usedOn": timezone.localdate(redemption.redeemed_at).isoformat(),
    }
    _announce(Event.VOUCHER_REDEEMED, [data])


def is_anybody_told(kind: WebhookReceiver.Event) -> bool:
    """Whether an event of this kind writes anything, and so needs the transaction of its deed."""
    return bool(_receivers().get(kind.value))


def forget_receivers() -> None:
    """Looks anew at the next event who is to be told; other processes do within 5 s."""
    cache.delete(KNOWN)


def _announce(kind: WebhookReceiver.Event, events: Iterable[dict[str, Any]]) -> None:
    receivers = _receivers().get(kind.value, [])
    if not receivers:
        return
    timestamp = timezone.now().isoformat()
    WebhookMessage.objects.bulk_create(
        WebhookMessage(
            receiver_id=receiver, type=kind, payload={"type": kind.value, "timestamp": timestamp, "data": data}
        )
        for data in events
        for receiver in receivers
    )


def _receivers() -> dict[str, list[int]]:
    """The keys of those who are to be told of each event."""
    known: dict[str, list[int]] | None = cache.get(KNOWN)
    if known is None:
        known = {}
        for key, events in WebhookReceiver.objects.filter(active=True).values_list("pk", "events"):
            for event in events:
                known.setdefault(event, []).append(key)
        cache.set(KNOWN, known, REMEMBERED_SECONDS)
    return known
