"""The limits on guessing: exact across processes and parallel calls, over a sliding window.

Only redemptions answered with `voucher_not_found` count, and apart from them every time somebody asks for the codes of
an address to be sent to it again, which is a guess at an address. A caller near its limit is served one call at a
time, so that a burst of parallel guesses cannot slip past a count that none of them has reached yet; far
from the limit nothing is locked.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
from dataclasses import dataclass

from django.db.models import Min, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from vouchers.errors import TooManyGuesses
from vouchers.locks import lock_names
from vouchers.models import Guess

WINDOW = dt.timedelta(minutes=10)
ANONYMOUS_LIMIT = 10
ASKER_LIMIT = 10
KEY_LIMIT = 1000
# More calls than this cannot be under way at once: each needs a connection to the database.
PARALLEL_CALLS = 500
LOCK_SECONDS = 10


@dataclass(frozen=True)
class Guesser:
    """Who is guessing, and how many guesses they may make within the window."""

    name: str
    limit: int

    @classmethod
    def of_address(cls, address: str) -> Guesser:
        """An anonymous caller: its IPv4 address, or the /64 its IPv6 address lies in."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:  # a server behind a Unix socket gives none
            return cls("address:unknown", ANONYMOUS_LIMIT)
        if isinstance(ip, ipaddress.IPv6Address):
            ip = ip.ipv4_mapped or ip
        prefix = 64 if ip.version == 6 else 32
        return cls(f"address:{ipaddress.ip_network((ip, prefix), strict=False)}", ANONYMOUS_LIMIT)

    @classmethod
    def of_asker(cls, address: str) -> Guesser:
        """The same caller where it asks for codes to be sent again; counted apart from the codes it tries."""
        return cls(f"again {cls.of_address(address).name}", ASKER_LIMIT)

    @classmethod
    def of_key(cls, caller: str) -> Guesser:
        return cls(caller, KEY_LIMIT)

    @property
    def free_guesses(self) -> int:
        """With fewer behind it, so many calls at once cannot reach the limit, and need not wait for each other."""
        return max(0, self.limit - PARALLEL_CALLS)

    def check(self) -> None:
        """Raises `TooManyGuesses` at the limit. Near it, holds other calls of this guesser until this
        transaction ends, so call it inside the transaction that looks the code up."""
        if not self.free_guesses or self._count() >= self.free_guesses:
            lock_names(f"guesser {self.name}", seconds=LOCK_SECONDS)
            if self._count() >= self.limit:
                raise TooManyGuesses(self._seconds_until_next())

    def record(self) -> None:
        Guess.objects.create(caller=self.name)

    def _count(self) -> int:
        return self._recent().count()

    def _recent(self) -> QuerySet[Guess]:
        return Guess.objects.filter(caller=self.name, at__gt=Now() - WINDOW)

    def _seconds_until_next(self) -> int:
        oldest = self._recent().aggregate(oldest=Min("at"))["oldest"] or timezone.now()
        return max(1, math.ceil((oldest + WINDOW - timezone.now()).total_seconds()))


def forget_old_guesses() -> int:
    """Deletes the guesses that no limit looks at any more; returns how many."""
    return Guess.objects.filter(at__lte=Now() - WINDOW).delete()[0]
