"""Which delivery a provider speaks of. Another desk may send by the same account, and number its emails as we do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vouchers.models import Delivery
from vouchers.tombstones import tombstone_of
from vouchers.tracking.events import Told


@dataclass(frozen=True)
class Known:
    """The deliveries that a post may speak of."""

    by_id: Mapping[int, Delivery]
    by_provider_id: Mapping[str, Delivery]
    by_message_id: Mapping[str, Delivery]  # without its angle brackets

    def find(self, told: Told) -> Delivery | None:
        """The one that was named to the provider, if it went to this recipient; else the one by the email's ids."""
        named = self.by_id.get(told.delivery) if told.delivery is not None else None
        if named and is_for(named.email, told.recipient):
            return named
        return self.by_provider_id.get(told.message_id) or self.by_message_id.get(bare(told.message_id))


def known_for(told: Collection[Told]) -> Known:
    """In three queries, each by its index, however much was told."""
    ids = {one.message_id for one in told if one.message_id}
    message_ids = {f"<{bare(given)}>" for given in ids}
    # Said twice, because the index holds only rows that have one.
    by_provider = Delivery.objects.filter(provider_id__in=ids).exclude(provider_id="").order_by("-id")
    return Known(
        by_id=Delivery.objects.in_bulk({one.delivery for one in told if one.delivery is not None}),
        by_provider_id={found.provider_id: found for found in by_provider},
        by_message_id={bare(found.message_id): found for found in Delivery.objects.filter(message_id__in=message_ids)},
    )


def is_for(email: str, recipient: str) -> bool:
    """Also where the address was erased since."""
    return bool(recipient) and (email.casefold() == recipient.casefold() or email == tombstone_of(recipient))


def may_be_unrecorded(told: Collection[Told]) -> bool:
    """Whether one of these may be of an email that is on its way out now: the provider's id for it is recorded only
    when the provider has answered, and it may tell of the email before."""
    if not told:
        return False
    sending = list(Delivery.objects.filter(status=Delivery.Status.SENDING).values_list("email", flat=True))
    return any(not one.recipient or is_for(email, one.recipient) for one in told for email in sending)


def bare(message_id: str) -> str:
    """Some providers take the angle brackets off."""
    return message_id.removeprefix("<").removesuffix(">")
