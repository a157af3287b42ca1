"""Locks on things that have no row yet: a request, a queue, a caller. Held until the transaction ends."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection
from psycopg.errors import DeadlockDetected, LockNotAvailable


class LockTimeout(Exception):
    """Somebody else held a lock for longer than this transaction was prepared to wait, or waited for it in turn."""


@contextmanager
def lock_timeout_as_error() -> Iterator[None]:
    """Tells a lock that did not come in time from the database's other troubles."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
            raise LockTimeout from error
        raise


def limit_lock_wait(seconds: int) -> None:
    """Bounds every wait for a lock from here to the end of the transaction (or of the savepoint)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{seconds}s"])


def lock_names(*names: str, shared: Iterable[str] = (), seconds: float = math.inf) -> None:
    """Takes the advisory locks of all names, in one order everywhere, waiting up to `seconds` for all of them.

    Those of `shared` are taken together with others who share them, and first: nobody who waits for one of them has
    anything that its holders wait for.

    Raises `django.db.OperationalError` (see `lock_timeout_as_error`) when one does not come in time. The
    time limit stays in force for the rest of the transaction.
    """
    deadline = time.monotonic() + seconds
    wanted = [("pg_advisory_xact_lock_shared", number) for number in numbers_of(shared)]
    wanted += [("pg_advisory_xact_lock", number) for number in numbers_of(names)]
    with connection.cursor() as cursor:
        for lock, number in wanted:
            left = deadline - time.monotonic()
            limit = "0" if math.isinf(left) else f"{max(1, round(left * 1000))}ms"  # 0 is no limit
            cursor.execute(f"SELECT set_config('lock_timeout', %s, true), {lock}(%s)", [limit, number])


def numbers_of(names: Iterable[str]) -> list[int]:
    """The advisory locks of names, in the order in which everybody takes them."""
    return sorted({_number(name) for name in names})


def try_lock_name(name: str) -> bool:
    """Takes the advisory lock of a name if nobody has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_number(name)])
        return bool(cursor.fetchone()[0])


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
