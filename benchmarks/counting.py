"""What `benchmarks.summary` measures, in a process with the settings for it."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import django
from django.db import connection

django.setup()

from benchmarks.figures import Figure, in_turn, record  # noqa: E402  # models want Django to be set up
from benchmarks.load import call_all, request  # noqa: E402
from benchmarks.stock import fill  # noqa: E402
from courses.models import Course  # noqa: E402
from vouchers.issuing import IssueRequest, issue_voucher  # noqa: E402
from vouchers.summary import count  # noqa: E402
from vouchers.tallies import fold  # noqa: E402

COURSES = 200
SUMMARY = "/admin/vouchers-summary"
TEN_MILLION = 10_000_000
RUNS = 5
# Sixteen connections fall to the two web processes by chance, and stay there; each round makes them anew.

GETS = 1600
UNKNOWN = '"unknown"'
POSTS = 400
ALONE = 200
# As many as 700 issues add, a second of a busy desk; they add up to nothing.
NOT_FOLDED = """
INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
SELECT 'C' || lpad((n / 2 % 200)::text, 3, '0'), 'available', false, date '9999-12-31', 1 - 2 * (n % 2)
FROM generate_series(0, 1399) AS n
"""
GROUPED = """
SELECT course_id, count(issued_at), count(*) FILTER (WHERE status = 'available' AND valid_until >= current_date),
    count(*) FILTER (WHERE status = 'redeemed'), count(*) FILTER (WHERE status = 'revoked'),
    count(*) FILTER (WHERE status IN ('available', 'issued') AND valid_until < current_date)
FROM vouchers_voucher GROUP BY course_id ORDER BY course_id
"""
numbers = itertools.count(1)


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def grouped() -> None:
    with connection.cursor() as cursor:
        cursor.execute(GROUPED)
        cursor.fetchall()


def runs_a_second(deed: Callable[[], object]) -> float:
    """Of the median of some runs."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        deed()
        times.append(time.perf_counter() - started)
    return 1 / statistics.median(times)


@dataclass
class Caller:
    port: int
    key: str

    def etag(self) -> str:
        address = f"http://127.0.0.1:{self.port}{SUMMARY}"
        asked = urllib.request.Request(address, headers={"Authorization": f"Api-Key {self.key}"})
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            return str(answer.headers["ETag"])

    def gets(self, path: str) -> float:
        """Answers a second."""
        asked = request("GET", path, Authorization=f"Api-Key {self.key}")
        return call_all(self.port, [asked] * GETS, status=200).rate

    def wait(self, known: str) -> float:
        """Milliseconds in which one client alone has a tenth of its answers, if it knows the one with this ETag: what
        the machine does besides shows in the others, and is more than what is compared."""
        asked = request("GET", SUMMARY, Authorization=f"Api-Key {self.key}", If_None_Match=known)
        status = 200 if known == UNKNOWN else 304
        return call_all(self.port, [asked] * GETS, status=status, clients=1).within(0.1)

    def issues(self) -> float:
        """Vouchers a second, of all courses in turn."""
        asked = [self._issue(next(numbers)) for _ in range(POSTS)]
        return call_all(self.port, asked, status=201).rate

    def _issue(self, number: int) -> bytes:
        body = {"courseId": f"C{number % COURSES:03}", "email": f"buyer{number}@example.com", "orderId": str(number)}
        return request("POST", "/issue-voucher", json.dumps(body).encode(), Authorization=f"Api-Key {self.key}")


def issues_alone(courses: list[Course]) -> float:
    started = time.perf_counter()
    for number in itertools.islice(numbers, ALONE):
        course = courses[number % COURSES]
        issue_voucher(IssueRequest(course_id=course.pk, email=f"buyer{number}@example.com", caller="bench"))
    return ALONE / (time.perf_counter() - started)


@contextmanager
def committing() -> Iterator[None]:
    """Somebody else writes all the time."""
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            execute("UPDATE courses_course SET on_sale = on_sale WHERE id = 'C000'")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def tallied(deed: Callable[[], float], *, on: bool) -> Callable[[], float]:
    """The same with the triggers that keep the tallies on or off."""

    def measured() -> float:
        execute(f"ALTER TABLE vouchers_voucher {'ENABLE' if on else 'DISABLE'} TRIGGER voucher_update_tallied")
        return deed()

    return measured


def read(caller: Caller, vouchers: int) -> None:
    """The figures of those who look."""
    many = f"{COURSES} courses, {vouchers:,} vouchers"
    record(
        Figure(
            name="summary in SQL",
            what=f"the summary of {many}, beside GROUP BY; runs a second",
            ours="tallies",
            theirs="GROUP BY",
            pairs=in_turn(lambda: runs_a_second(count), lambda: runs_a_second(grouped)),
            goal=100 if vouchers >= TEN_MILLION else None,
        )
    )
    record(
        Figure(
            name="summary over HTTP",
            what=f"GET {SUMMARY} of {many}, beside an empty view",
            ours="summary",
            theirs="empty view",
            pairs=in_turn(lambda: caller.gets(SUMMARY), lambda: caller.gets("/empty")),
            goal=0.5,
        )
    )
    with committing():
        record(
            Figure(
                name="summary over HTTP, new each time",
                what=f"GET {SUMMARY} while rows are committed all the time, beside an empty view",
                ours="summary",
                theirs="empty view",
                pairs=in_turn(lambda: caller.gets(SUMMARY), lambda: caller.gets("/empty")),
            )
        )
    etag = caller.etag()
    record(
        Figure(
            name="summary not modified",
            what=f"GET {SUMMARY} of {many}, 304 beside 200; ms",
            ours="304",
            theirs="200",
            pairs=in_turn(lambda: caller.wait(etag), lambda: caller.wait(UNKNOWN)),
            goal=1.0,
            at_most=True,
        )
    )


def write(caller: Caller) -> None:
    """The figures of those who issue."""
    courses = list(Course.objects.order_by("id"))
    for name, deed in [
        ("POST /issue-voucher", caller.issues),
        ("issuing by the service alone", lambda: issues_alone(courses)),
    ]:
        record(
            Figure(
                name=f"tallies: {name}",
                what=f"{name}, with tallies and without",
                ours="with tallies",
                theirs="without",
                pairs=in_turn(tallied(deed, on=True), tallied(deed, on=False)),
                goal=0.85,
            )
        )


def measure(caller: Caller, vouchers: int) -> None:
    execute("SET statement_timeout = 0; SET lock_timeout = 0")
    fill(COURSES, vouchers)
    fold()
    execute(NOT_FOLDED)
    read(caller, vouchers)
    write(caller)


if __name__ == "__main__":
    _, port, key, number = sys.argv
    measure(Caller(int(port), key), int(number))
