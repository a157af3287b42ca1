"""Who did it, in words: callers and actors are kept as `key:AbCd1234`, `user:7` or `address:192.0.2.1/32`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.contrib.auth import get_user_model

from courses.models import Purchase
from vouchers.models import ApiKey

OTHERS = {"clock": "the clock", "command": "the command line", "command line": "the command line"}
PROVIDERS = {str(value): str(label) for value, label in Purchase.Provider.choices}


@dataclass(frozen=True)
class People:
    """The names of API keys and of staff, by what is kept of them."""

    names: dict[str, str] = field(default_factory=dict)

    def name(self, kept: str) -> str:
        """Such as `API key shop`, `ann`, `the payment (Stripe)`; what is not known stays as it is kept."""
        if kept in self.names:
            return self.names[kept]
        kind, colon, rest = kept.partition(":")
        if kind == "address" and colon:
            return f"anonymous, {rest.removesuffix('/32')}"
        if kind == "payment" and colon:
            return f"the payment ({PROVIDERS.get(rest, rest)})"
        return OTHERS.get(kept, kept)


def people_of(kept: Iterable[str]) -> People:
    """In two statements, however many they are."""
    mentioned = set(kept)
    users = _numbers(mentioned, "user:")
    staff = get_user_model().objects.filter(pk__in=users)
    keys = ApiKey.objects.filter(prefix__in=_rests(mentioned, "key:"))
    names = {f"user:{user.pk}": user.get_username() for user in staff}
    return People(names | {f"key:{key.prefix}": f"API key {key.name}" for key in keys})


def _rests(mentioned: Iterable[str], kind: str) -> list[str]:
    return [kept.removeprefix(kind) for kept in mentioned if kept.startswith(kind)]


def _numbers(mentioned: Iterable[str], kind: str) -> list[int]:
    return [int(rest) for rest in _rests(mentioned, kind) if rest.isascii() and rest.isdigit()]
