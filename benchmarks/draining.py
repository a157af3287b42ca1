"""What `benchmarks.drain` measures, in a process with the settings for it.

An issue here is the one statement that every plain request comes to, sent as the desk sends it, without HTTP: that
would take an hour, and most of the time would not be the pool's.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import django
import psycopg

django.setup()

from django.db import connection, transaction  # noqa: E402  # models want Django to be set up

from benchmarks.figures import PAIRS, Figure, record  # noqa: E402
from courses.models import Course  # noqa: E402
from vouchers.models import Batch, Issuance, Voucher  # noqa: E402
from vouchers.payments.deeds import return_voucher  # noqa: E402
from vouchers.pool import issue_at_once  # noqa: E402
from vouchers.revoking import revoke_voucher  # noqa: E402

SESSIONS = 16
AT_THE_END = 20
LAST = 1000
ROLLED_BACK, RETURNED = 33, 66  # of every hundred
numbers = itertools.count(1)

FILL = """
INSERT INTO vouchers_voucher (code, course_id, batch_id, position, status, issued_to, revoked_reason, note)
SELECT %(course)s || '-' || upper(substr(md5(n::text), 1, 6)) || '-' || n, %(course)s, %(batch)s,
    (%(batch)s::bigint << 32) + n, 'available', '', '', ''
FROM generate_series(1, %(codes)s) AS n
"""


def fill(course_id: str, codes: int) -> None:
    course = Course.objects.create(id=course_id, name=course_id)
    batch = Batch.objects.create(course=course, actor="bench", source=Batch.Source.COMMAND)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(FILL, {"course": course_id, "batch": batch.pk, "codes": codes})
        cursor.execute("ANALYZE vouchers_voucher")


@contextmanager
def transaction_held_open() -> Iterator[None]:
    """A session that has read the pool and neither commits nor goes away."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as held:
        held.execute("SET idle_in_transaction_session_timeout = 0")
        held.commit()
        held.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        held.execute("SELECT count(*) FROM vouchers_voucher")
        yield
        held.rollback()


def issue(course_id: str) -> Issuance | None:
    number = next(numbers)
    return issue_at_once(
        course_id=course_id,
        email=f"buyer{number}@example.com",
        order_id=f"order {number}",
        caller="bench",
        key="",
        fingerprint="",
        locks=[number],
        shared_locks=[],
        tells_code=False,
    )


def issue_or_take_back(course_id: str, turn: int) -> None:
    if turn % 100 == ROLLED_BACK:
        with transaction.atomic():
            issue(course_id)
            transaction.set_rollback(True)
        return
    issuance = issue(course_id)
    if issuance and issuance.voucher and turn % 100 == RETURNED:
        revoke_voucher(issuance.voucher, reason="Returned")
        return_voucher(issuance)


def rate(course_id: str, issues: int, sessions: int = SESSIONS) -> float:
    """Issues a second; whatever a session meets ends the benchmark."""
    turns = iter(range(issues))

    def session(_: int) -> None:
        for turn in turns:
            issue_or_take_back(course_id, turn)
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(session, range(sessions)))
    return issues / (time.perf_counter() - started)


def measure_long_run(issues: int) -> Figure:
    fill("LONG", 2 * issues)
    with transaction_held_open():
        rate("LONG", 500)  # warm
        slices = [rate("LONG", issues // (10 * PAIRS)) for _ in range(10 * PAIRS)]
    return Figure(
        name="drain",
        what=f"{issues:,} issues of {2 * issues:,} codes, a transaction held open: last tenth beside first tenth",
        ours="issues/s, last tenth",
        theirs="issues/s, first tenth",
        pairs=list(zip(slices[-PAIRS:], slices[:PAIRS], strict=True)),
        goal=0.9,
    )


def rate_to_the_end(course_id: str) -> float:
    """Codes a second until the pool gives none any more."""
    left = Voucher.objects.filter(course=course_id, status=Voucher.Status.AVAILABLE).count()

    def session(_: int) -> None:
        while issue(course_id):
            continue
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(AT_THE_END) as pool:
        list(pool.map(session, range(AT_THE_END)))
    return left / (time.perf_counter() - started)


def measure_last_codes(codes: int) -> Figure:
    pairs = []
    for n in range(PAIRS):
        fill(f"LAST{n}", codes)
        with transaction_held_open():
            rate(f"LAST{n}", 200)  # warm
            first = rate(f"LAST{n}", LAST, AT_THE_END)
            # Of a hundred turns, 98 take a code for good.
            rate(f"LAST{n}", (codes - 2 * LAST) * 100 // 98 - 200)
            pairs.append((rate_to_the_end(f"LAST{n}"), first))
    return Figure(
        name="drain-last",
        what=f"Twenty clients take the last 1,000 of {codes:,} codes, beside the first 1,000",
        ours="codes/s, last 1,000",
        theirs="issues/s, first 1,000",
        pairs=pairs,
        goal=0.9,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--large", action="store_true", help="500,000 issues instead of 50,000")
    large = options.parse_args().large
    record(measure_last_codes(20_000 if large else 10_000))
    record(measure_long_run(500_000 if large else 50_000))


if __name__ == "__main__":
    main()
