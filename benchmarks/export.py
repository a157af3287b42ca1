"""The CSV of a course of 1,000,000 vouchers over HTTP, beside `COPY … TO STDOUT` of the same columns, in turn.

Ours shows the status of today and days in the shop's time zone, and no cell that a spreadsheet would run; it comes page
by page, so that no transaction is held open, and through the web server. COPY writes what is stored, in one statement,
from the database to its client. Both clients throw away what they get. Then how long the first vouchers take, and how
much memory a web process came to need, beside what it needed for 10,000 vouchers.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.desk import Desk, running_desk
from benchmarks.figures import Figure, in_turn, record
from benchmarks.sold import COURSE, fill_course, issue_some

VOUCHERS = 1_000_000
FEW = 10_000
FEW_TIMES = 10
FIRST_BYTE = 200.0  # milliseconds allowed
PART = 1 << 20
COPY = """
COPY (
    SELECT code, course_id, status, issued_to, redeemed_at, issued_at, expires_on FROM vouchers_voucher
    WHERE course_id = 'JS101' ORDER BY id
) TO STDOUT (FORMAT csv)
"""


def exported(desk: Desk, key: str, course: str) -> tuple[float, float]:
    """Seconds until the first vouchers, and until the last."""
    connection = desk.connect()
    started = time.perf_counter()
    connection.request("GET", f"/admin/vouchers/{course}?format=csv", headers={"Authorization": f"Api-Key {key}"})
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        raise SystemExit(f"The export was answered {response.status}.")
    response.read(200)  # the line of names is shorter
    first = time.perf_counter() - started
    while response.read(PART):
        pass
    connection.close()
    return first, time.perf_counter() - started


def copied(desk: Desk) -> float:
    """Seconds."""
    with psycopg.connect(desk.environment["DATABASE_URL"]) as connection:
        started = time.perf_counter()
        with connection.cursor().copy(COPY) as copy:
            for _ in copy:
                pass
        return time.perf_counter() - started


def children_of(pid: int) -> Iterator[int]:
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from children_of(child)


def memory() -> float:
    """The most MiB that any process of the web server has needed so far."""
    web = [pid for pid in children_of(os.getpid()) if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    peaks = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in web]
    return max(int(peak[1]) for peak in peaks if peak) / 1024


def measure(desk: Desk) -> None:
    key = desk.manage("create_api_key", "bench", "--scope", "manage")
    for course, number in ((COURSE, VOUCHERS), ("PY201", FEW)):
        fill_course(desk, number, course)
        issue_some(desk, 3, course)
    for _ in range(FEW_TIMES):
        exported(desk, key, "PY201")
    with_few = memory()
    firsts: list[float] = []

    def ours() -> float:
        first, last = exported(desk, key, COURSE)
        firsts.append(1000 * first)
        return VOUCHERS / last

    pairs = in_turn(ours, lambda: VOUCHERS / copied(desk))
    record(
        Figure(
            name="export",
            what="CSV of 1,000,000 vouchers over HTTP beside COPY TO STDOUT",
            ours="vouchers/s by HTTP",
            theirs="vouchers/s by COPY",
            pairs=pairs,
            goal=0.3,
        )
    )
    record(
        Figure(
            name="export_first_byte",
            what="First vouchers of the CSV of 1,000,000",
            ours="milliseconds",
            theirs="milliseconds allowed",
            pairs=[(first, FIRST_BYTE) for first in firsts[1:]],
            goal=1.0,
            at_most=True,
        )
    )
    record(
        Figure(
            name="export_memory",
            what="Memory of a web process after CSVs of 1,000,000 vouchers, and after CSVs of 10,000",
            ours="MiB, 1,000,000",
            theirs="MiB, 10,000",
            pairs=[(memory(), with_few)],
            goal=1.1,
            at_most=True,
        )
    )


if __name__ == "__main__":
    with running_desk() as running:
        measure(running)
