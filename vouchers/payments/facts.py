"""What providers tell us, in the desk's words. The modules of the providers make these, `settling.py` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from courses.models import PaymentFact

LONGEST = 255
MOST_SEATS = 1000


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a payment says it is for, as the provider tells it and so unchecked; `judging.py` says what it is worth.

    Amounts are decimals in major units. `net` is before tax and after discounts, `gross` all that was paid.
    `checkout` is the provider's id of the checkout the payment came from, `account` the account it was made to where
    that is not the desk's own, `live` whether real money moved, None where the provider does not say. `language` is the
    buyer's, one of the desk's, empty where it is not known.
    """

    course_id: str
    email: str
    quantity: str = "1"
    net: str
    gross: str
    currency: str
    checkout: str = ""
    account: str = ""
    live: bool | None = None
    recurring: bool = False
    # Of two facts of one payment the more precise one speaks: a checkout knows tax and discounts.
    precise: bool = False
    language: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, fact: PaymentFact) -> Claims:
        return cls(**fact.claims)

    @property
    def seats(self) -> int | None:
        """None where the quantity is none."""
        if not self.quantity.isascii() or not self.quantity.isdigit() or len(self.quantity) > 6:
            return None
        return int(self.quantity) if 1 <= int(self.quantity) <= MOST_SEATS else None

    @property
    def net_amount(self) -> Decimal:
        return amount_of(self.net)

    @property
    def gross_amount(self) -> Decimal:
        return amount_of(self.gross)


def amount_of(given: str) -> Decimal:
    """A decimal with two places, zero for what is none."""
    try:
        amount = Decimal(given).quantize(Decimal("0.01"))
        return amount if 0 <= amount < Decimal(10) ** 10 else Decimal(0)
    except InvalidOperation:  # no number, or none that can be compared
        return Decimal(0)


def text_of(tree: Mapping[str, Any], *path: str) -> str:
    """The text at a path of a provider's object, trimmed and cut; empty where there is none."""
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, str | int):
        return ""
    return str(found).replace("\x00", "").strip()[:LONGEST]
