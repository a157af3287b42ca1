"""What PostgreSQL waits for, and who uses the processors, while something is measured.

`pg_stat_activity` is looked at 40 times a second over a connection of its own. A session that waits for nothing counts
as running: it computes, or would, were a core free.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import psycopg

PAUSE = 1 / 40
BUSY = """
    SELECT CASE state WHEN 'active' THEN coalesce(wait_event_type || ' ' || wait_event, 'running')
        ELSE state END, count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND state <> 'idle'
    GROUP BY 1
"""
RARELY = 3
LOCKS = ("Lock ", "LWLock ", "BufferPin ")


@dataclass
class Waits:
    """How often sessions were seen in what they were at, over so many looks."""

    seen: collections.Counter[str] = field(default_factory=collections.Counter)
    looks: int = 0

    @property
    def of_locks(self) -> float:
        """The share of busy sessions that waited for another one."""
        waiting = sum(times for kind, times in self.seen.items() if kind.startswith(LOCKS))
        return waiting / max(self.seen.total(), 1)


@contextmanager
def watched(url: str) -> Iterator[Waits]:
    """What the sessions of a database are at until the block ends."""
    waits, over = Waits(), threading.Event()

    def look() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(PAUSE):
                waits.seen.update(dict(connection.execute(BUSY).fetchall()))
                waits.looks += 1

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield waits
    finally:
        over.set()
        looking.join()


def waits_table(waits: dict[str, Waits]) -> str:
    """Markdown: how many sessions were at what on average, a column for each of those watched, most first."""
    total = sum((one.seen for one in waits.values()), collections.Counter[str]())
    on_average = {
        name: {kind: one.seen[kind] / max(one.looks, 1) for kind, times in total.most_common() if times > RARELY}
        for name, one in waits.items()
    }
    return table("sessions, on average", on_average)


def cores_table(cores: dict[str, dict[str, float]]) -> str:
    """Markdown: how many cores each part kept busy, a column for each of those measured."""
    return table("cores kept busy by", cores)


def table(head: str, columns: dict[str, dict[str, float]]) -> str:
    """Markdown: the same rows for each of the columns."""
    rows = next(iter(columns.values()))
    lines = [f"| {head} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(f'{column[row]:.2f}' for column in columns.values())} |" for row in rows]
    return "\n".join(lines)


Groups = dict[str, list[psutil.Process]]


def process_groups(url: str, **servers: int) -> Groups:
    """PostgreSQL's processes, those of servers by the number of their first, and this one, which is the clients."""
    with psycopg.connect(url) as connection:
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    found = {name: with_children(psutil.Process(process)) for name, process in servers.items()}
    return found | {"PostgreSQL": with_children(postmaster) if postmaster else [], "clients": [psutil.Process()]}


def with_children(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


class Processors:
    """The processor time that groups of processes use from now on."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.began = time.perf_counter()
        self.used_before = self._used()

    def busy(self) -> dict[str, float]:
        """Cores that each group kept busy on average since the beginning."""
        passed = time.perf_counter() - self.began
        return {name: (used - self.used_before[name]) / passed for name, used in self._used().items()}

    def _used(self) -> dict[str, float]:
        return {name: sum(map(_seconds, group)) for name, group in self.groups.items()}


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # a session that ended meanwhile
        return 0.0
    return float(times.user + times.system)
