"""What a checkout asks of a provider, and what the provider answers; the same for all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from courses.models import Course, PaymentFact, Purchase


@dataclass(frozen=True, kw_only=True)
class Order:
    """Seats of a course, to be paid; amounts in major units. The addresses are where the provider sends the buyer.

    `language` is the buyer's, one of the desk's; empty where it is not known, and then the provider finds out itself.
    """

    purchase_id: UUID
    course: Course
    email: str
    quantity: int
    unit_price: Decimal
    success_url: str
    cancel_url: str
    language: str = ""

    @property
    def total(self) -> Decimal:
        return self.unit_price * self.quantity


@dataclass(frozen=True)
class Started:
    """The provider's id of the checkout, and where the buyer pays."""

    checkout: str
    redirect_url: str


class Provider(Protocol):
    """How the desk speaks with a payment provider. What a provider tells by itself comes by webhooks."""

    name: Purchase.Provider

    def is_ready(self) -> bool:
        """Whether a checkout can be started: the provider's keys are known."""

    def start(self, order: Order) -> Started:
        """Makes a checkout at the provider; no transaction may be open. Raises `ProviderUnreachable`, and
        `ProviderRefused` where the provider does not take the order."""

    def refund(self, purchase: Purchase, amount: Decimal, key: str) -> None:
        """Asks for a refund in major units; the same key again asks nothing new. Raises `ProviderUnreachable`, or
        `ProviderRefused`. The fact itself comes by webhook."""

    def missed(self, since: dt.datetime) -> Iterator[list[PaymentFact]]:
        """The facts of each payment since then, as the provider knows them now. Raises `ProviderUnreachable`."""
