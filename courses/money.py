"""Amounts between major units (49.00) and the smallest coins that providers count in (4900)."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

# https://docs.stripe.com/currencies#zero-decimal and #three-decimal. ISK and UGX have no coins, and two places there.
WITHOUT_COINS = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THOUSANDTHS = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def places(currency: str) -> int:
    """How many decimals a currency (in lower case) has."""
    return 0 if currency in WITHOUT_COINS else 3 if currency in THOUSANDTHS else 2


def is_whole_coins(amount: Decimal, currency: str) -> bool:
    return amount.scaleb(places(currency)) % 1 == 0


def to_coins(amount: Decimal, currency: str) -> int:
    return int(amount.scaleb(places(currency)).to_integral_value())


def from_coins(coins: int, currency: str) -> Decimal:
    """In major units, to two places: the third of a dinar is always zero with the providers."""
    return Decimal(coins).scaleb(-places(currency)).quantize(Decimal("0.01"))


def seats_for(taken_back: Decimal, paid: Decimal, quantity: int, currency: str) -> int:
    """How many whole seats an amount that went back stands for (promises: rounded down).

    The price of a seat is what was paid, by the number of seats, rounded down to a coin: of three seats for 100.00 each
    third of it is a seat.
    """
    if taken_back <= 0:
        return 0
    if taken_back >= paid:
        return quantity
    coins = to_coins(paid, currency) // quantity
    return min(quantity, to_coins(taken_back, currency) // coins) if coins else 0


def in_words(amount: Decimal, currency: str) -> str:
    """Such as `49.00 USD`."""
    shown = amount.quantize(Decimal(1).scaleb(-min(places(currency), 2)), rounding=ROUND_DOWN)
    return f"{shown} {currency.upper()}"
