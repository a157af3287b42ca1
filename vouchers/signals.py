"""dj-stripe's signals, the only ones here: a proved event becomes facts, in the transaction that keeps the event."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from djstripe import event_handlers
from djstripe.models import Event
from djstripe.signals import WEBHOOK_SIGNALS

from vouchers.payments import settling
from vouchers.payments.stripe.endpoint import is_own_account
from vouchers.payments.stripe.events import CONCERNS, Told, facts_of


def record_event(sender: type[Event], event: Event, **kwargs: Any) -> None:
    facts = facts_of(event.type, event.data["object"], told_by(event))
    if facts:
        settling.record(facts)


def told_by(event: Event) -> Told:
    account = str(event.stripe_data.get("account") or "")
    return Told(
        source=event.id,
        at=event.created or timezone.now(),
        live=event.livemode,
        account="" if is_own_account(account) else account,
    )


def connect() -> None:
    """dj-stripe's own handlers ask Stripe for each object again, so events could not be handled while it is away."""
    own = [handler for name, handler in vars(event_handlers).items() if name.startswith("handle_")]
    for signal in WEBHOOK_SIGNALS.values():
        for handler in own:
            signal.disconnect(handler, sender=Event)
    for name in CONCERNS:
        WEBHOOK_SIGNALS[name].connect(record_event, sender=Event)
