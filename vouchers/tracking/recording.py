"""What was told becomes facts, and the facts the fate of each email; all of a post or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.db import transaction
from django.db.models import prefetch_related_objects

from vouchers.errors import BadSignature, NotRecordedYet
from vouchers.models import Delivery, DeliveryEvent
from vouchers.tracking.events import Told
from vouchers.tracking.fates import decisive
from vouchers.tracking.matching import known_for, may_be_unrecorded


@transaction.atomic
def record(provider: str, told: Sequence[Told], *, once_per_key: bool = False) -> int:
    """Returns how many of these concerned an email of ours; what was told before has no second effect.

    With `once_per_key` a key that was used for something else is a forgery: Mailgun signs it instead of the body, so
    that otherwise whoever saw one post could make others of it for as long as its time is good.

    Raises `NotRecordedYet` and `BadSignature`.
    """
    known = known_for(told)
    found = {one: delivery for one in told if (delivery := known.find(one))}
    if once_per_key:
        refuse_used_keys(provider, told, found)
    if may_be_unrecorded([one for one in told if one not in found]):
        raise NotRecordedYet
    deliveries = lock(found.values())
    DeliveryEvent.objects.bulk_create(
        [event_of(provider, one, delivery) for one, delivery in found.items()], ignore_conflicts=True
    )
    prefetch_related_objects(deliveries, "events")
    provider_ids = {delivery.pk: one.message_id for one, delivery in found.items()}
    for delivery in deliveries:
        settle(delivery, provider_ids[delivery.pk])
    return len(found)


def refuse_used_keys(provider: str, told: Sequence[Told], found: Mapping[Told, Delivery]) -> None:
    keys = {one.key for one in told}
    used = {event.key: event for event in DeliveryEvent.objects.filter(provider=provider, key__in=keys)}
    for one in told:
        event, delivery = used.get(one.key), found.get(one)
        if event and (delivery is None or (event.kind, event.delivery_id) != (one.kind, delivery.pk)):
            raise BadSignature("The token of this signature was used for something else before.")


def lock(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """In the order of their keys, so that two posts about the same emails do not wait for each other for ever."""
    keys = {delivery.pk for delivery in deliveries}
    return list(Delivery.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk"))


def event_of(provider: str, told: Told, delivery: Delivery) -> DeliveryEvent:
    return DeliveryEvent(
        delivery=delivery, provider=provider, key=told.key, kind=told.kind, at=told.at, reason=told.reason
    )


def settle(delivery: Delivery, provider_id: str) -> None:
    """Works the fate of a locked delivery out anew, and keeps the provider's id where its sender did not live to."""
    if event := decisive(delivery.events.all()):
        delivery.fate, delivery.fate_at, delivery.fate_reason = event.kind, event.at, event.reason
    delivery.provider_id = delivery.provider_id or provider_id[:255]
    delivery.save(update_fields=["fate", "fate_at", "fate_reason", "provider_id"])
