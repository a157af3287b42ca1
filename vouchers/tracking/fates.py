"""What became of an email, worked out from everything that was told of it, whenever it was told."""

from __future__ import annotations

from collections.abc import Iterable

from vouchers.models import DeliveryEvent

Kind = DeliveryEvent.Kind
# Of two ends in the same moment the worse one is believed.
WORSE = {Kind.FAILED: 1, Kind.BOUNCED: 2}
ENDS = (Kind.DELIVERED, Kind.FAILED, Kind.BOUNCED)


def decisive(events: Iterable[DeliveryEvent]) -> DeliveryEvent | None:
    """The one that says the email's fate; None where nothing is known but that it was accepted.

    The same for the same events in any order. A complaint is for good. Then the last end decides, and where that is no
    bounce and no failure, whoever opened it has it. A delay is only news until there is other news.
    """
    in_order = sorted(events, key=lambda event: (event.at, WORSE.get(Kind(event.kind), 0), event.reason))
    first = {event.kind: event for event in reversed(in_order)}
    last = {event.kind: event for event in in_order}
    ends = [event for event in in_order if event.kind in ENDS]
    if Kind.COMPLAINED in first:
        return first[Kind.COMPLAINED]
    if ends and ends[-1].kind != Kind.DELIVERED:
        return ends[-1]
    return first.get(Kind.OPENED) or last.get(Kind.DELIVERED) or last.get(Kind.DEFERRED)
