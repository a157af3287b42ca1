"""Threads that start together, each on a database connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection

from courses.models import Course
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.summary import summary

T = TypeVar("T")
DEADLINE = 30  # seconds; reached only by a test that fails


def together(number: int, deed: Callable[[int], T]) -> list[T | Exception]:
    """What `deed(0)`, `deed(1)`, … gave, or the exception it ended with, started at the same time."""
    start = threading.Barrier(number, timeout=DEADLINE)

    def run(n: int) -> T | Exception:
        start.wait()
        try:
            return deed(n)
        except Exception as error:  # noqa: BLE001  # handed to the test, which judges it
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def in_thread(deed: Callable[[], T]) -> Callable[[], T]:
    """Starts a deed beside the test; calling what comes back waits for it and gives its result."""
    results: list[T | Exception] = []
    thread = threading.Thread(target=lambda: results.extend(together(1, lambda _: deed())))
    thread.start()

    def join() -> T:
        thread.join(DEADLINE)
        (result,) = results
        if isinstance(result, Exception):
            raise result
        return result

    return join


def wait_until(condition: Callable[[], bool], seconds: float = DEADLINE, said: Callable[[], str] = str) -> None:
    """Asks until it is so; a deadline, not a guess at how long things take. `said` is what to show if it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it never came to be in {seconds} s\n{said()}"
        threading.Event().wait(0.01)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # or a transaction sees its first look for ever
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


@contextmanager
def rewritten(function: str, *changes: tuple[str, str]) -> Iterator[None]:
    """A function of the database with pieces of it replaced, for as long as a control needs it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [function])
        source = changed = cursor.fetchone()[0]
        for before, after in changes:
            assert before in changed, before
            changed = changed.replace(before, after)
        cursor.execute(changed)
        try:
            yield
        finally:
            cursor.execute(source)


# A lock at which a rewritten function waits for the others.
GATE = 77
WAIT_AT_THE_GATE = f"PERFORM pg_advisory_xact_lock_shared({GATE});"


def together_at_the_gate(number: int, deed: Callable[[int], T]) -> list[T | Exception]:
    """The same as `together`; the gate opens once all wait at it."""
    with ThreadPoolExecutor(1) as pool, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [GATE])
        try:
            running = pool.submit(together, number, deed)
            wait_until(lambda: waiting_at_the_gate() == number)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [GATE])
        return running.result()


def waiting_at_the_gate() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", [GATE]
        )
        return int(cursor.fetchone()[0])


def failures(results: list[Any]) -> list[Exception]:
    return [result for result in results if isinstance(result, Exception)]


def assert_books_are_right(course: Course) -> None:
    """Every issued voucher is owed once, to its holder, and emailed once; the counts agree."""
    issued = list(Voucher.objects.filter(course=course, status="issued"))
    owed = {i.voucher_id: i.email for i in Issuance.objects.filter(course=course, status="issued")}
    assert {voucher.pk: voucher.issued_to for voucher in issued} == owed
    assert Delivery.objects.filter(issuance__course=course).count() == len(issued)
    row = next(row for row in summary() if row["courseId"] == course.pk)
    assert row["total"] == row["issued"] + row["remaining"] == Voucher.objects.filter(course=course).count()
    assert row["issued"] == len(issued)
