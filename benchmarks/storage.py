"""What each index costs: a voucher's life with and without it, in turn, in one connection.

A life is: issued, emailed and delivered, redeemed; and beside it 10,000 codes are imported. Each turn is one
transaction that makes or drops the index, does the same deeds and is rolled back, so that every turn finds the same
tables. Triggers and checks are on. What counts is the processor's time of PostgreSQL, as the kernel has it, and the
bytes of WAL. The last pair are all indexes as they are, and as they were before docs/decisions/0021.

    python -m benchmarks.storage                       300,000 vouchers, a few minutes
    python -m benchmarks.storage --vouchers 2000000
"""

from __future__ import annotations

import argparse
import secrets
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.desk import settings_of_a_desk
from benchmarks.figures import PAIRS, Figure, record
from benchmarks.filling import fill

LIVES = 500
LEAST = 200_000  # vouchers, of which a two-hundredth is one course: a turn issues 500 of it
CODES = 10_000
DEEDS = ("issue", "send", "redeem", "import")

# Dropped by 0021; made again for a turn.
DROPPED = {
    "delivery.message_id, for LIKE": "INDEX again ON vouchers_delivery (message_id varchar_pattern_ops)",
    "delivery once per purchase, of all": "UNIQUE INDEX again ON vouchers_delivery (purchase_id, kind, series)",
    "delivery once per alert, of all": "UNIQUE INDEX again ON vouchers_delivery (course_id, kind, series, email)",
    "issuance once per unit, of all": "UNIQUE INDEX again ON vouchers_issuance (purchase_id, unit)",
    "purchase.token, for LIKE": "INDEX again ON courses_purchase (token varchar_pattern_ops)",
    "purchase.course": "INDEX again ON courses_purchase (course_id)",
    "purchase.course, for LIKE": "INDEX again ON courses_purchase (course_id varchar_pattern_ops)",
}
NEW = (
    "voucher_status",
    "voucher_expiry",
    "issuance_of_course",
    "issuance_closed",
    "issuance_on_hold",
    "delivery_fate",
    "delivery_kind",
    "purchase_of_course",
    "purchase_not_paid",
    "purchase_refunded",
    "purchase_disputed",
)
OTHERS = (
    "voucher_code_parts",
    "voucher_holder",
    "voucher_of_course",
    "issuance_email",
    "delivery_provider_id",
    "delivery_in_trouble",
    "purchase_newest",
    "purchase_email",
)
# Named by Django.
OF_KEYS = {
    "voucher.batch": "vouchers_voucher_batch_id_%",
    "issuance.voucher": "vouchers_issuance_voucher_id_%",
}
AS_BEFORE = [f"CREATE {made.replace('again', f'again_{n}')}" for n, made in enumerate(DROPPED.values())]
AS_BEFORE += [f"DROP INDEX {name}" for name in NEW]

GIVE = """
SELECT given_issuance, given_voucher, next_uploads, next_cutoff, next_day, next_position FROM vouchers_give(
    'C002', current_date, ARRAY[%s], ARRAY[%s], '{}', ARRAY[%s], NULL, 'bench', 'en', true, false, %s, %s, %s, %s)
"""
SEND = (
    """UPDATE vouchers_delivery SET status = 'sending', due_at = now() + interval '5 min', attempts = 1
        WHERE issuance_id = %s""",
    "UPDATE vouchers_delivery SET status = 'sent', sent_at = now(), provider_id = id::text WHERE issuance_id = %s",
    "UPDATE vouchers_delivery SET fate = 'delivered', fate_at = now() WHERE issuance_id = %s",
)
REDEEM = (
    "UPDATE vouchers_voucher SET status = 'redeemed', redeemed_at = now() WHERE id = %(voucher)s",
    """INSERT INTO courses_purchase (id, token, provider, reference, course_id, email, language, amount, currency,
            paid_at, quantity, began_here, checkout, agreed_currency, refunded_amount, review)
        VALUES (%(purchase)s, %(token)s, 'voucher', %(voucher)s::text, 'C002', 'a@example.com', '', 0, 'usd',
            now(), 1, false, '', '', 0, '')""",
    """INSERT INTO vouchers_redemption (voucher_id, purchase_id, email, caller, idempotency_key, redeemed_at)
        VALUES (%(voucher)s, %(purchase)s, '', 'bench', '', now())""",
)
IMPORT = """
INSERT INTO vouchers_voucher (code, course_id, batch_id, position, expires_on, status, issued_to, revoked_reason, note)
    SELECT 'NEW-' || upper(md5(n::text)), 'C002', b.id, (b.id + 1000000) * 4294967296 + n, current_date + 90,
        'available', '', '', ''
    FROM (SELECT min(id) AS id FROM vouchers_batch WHERE course_id = 'C002') b, generate_series(1, %s) n
"""

Connection = psycopg.Connection[Any]
Costs = dict[str, "Cost"]


@dataclass(frozen=True)
class Index:
    """How it is there for a turn, and how it is not."""

    name: str
    there: str
    gone: str
    relation: str = "again"

    def megabytes(self, connection: Connection) -> float:
        with connection.transaction(force_rollback=True):
            connection.execute(self.there)
            ((size,),) = connection.execute("SELECT pg_relation_size(%s::regclass)", [self.relation])
        return float(size) / 1e6


@dataclass(frozen=True)
class Cost:
    """Of one deed: the processor's time of PostgreSQL, and what it has to write for safety."""

    microseconds: float
    wal: float


class Meter:
    """Reads what the server's process for a connection has used; so whoever else is at the machine matters little."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.schedule = Path(f"/proc/{connection.info.backend_pid}/schedstat")

    def read(self) -> tuple[int, int]:
        """Nanoseconds and bytes."""
        ((written,),) = self.connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return int(self.schedule.read_text().split()[0]), int(written)

    def cost(self, deed: Callable[[], int]) -> Cost:
        """Of each of the things that a call of `deed` did."""
        began, written = self.read()
        times = deed()
        ended, written_by_now = self.read()
        return Cost((ended - began) / times / 1000, (written_by_now - written) / times)


def indexes(connection: Connection) -> list[Index]:
    found = [Index(name, f"CREATE {made}", "SELECT") for name, made in DROPPED.items()]
    found += [Index(name, "SELECT", f"DROP INDEX {name}", name) for name in (*NEW, *OTHERS)]
    for name, pattern in OF_KEYS.items():
        ((relation,),) = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE %s", [pattern])
        found.append(Index(name, "SELECT", f"DROP INDEX {relation}", relation))
    return found


def lives(connection: Connection, *changes: str) -> Costs:
    """What each deed costs with the indexes changed for it."""
    meter = Meter(connection)
    with connection.transaction(force_rollback=True):
        for change in changes:
            connection.execute(change)
        given: list[tuple[int, int]] = []
        return {
            "issue": meter.cost(lambda: issue(connection, given)),
            "send": meter.cost(lambda: send(connection, given)),
            "redeem": meter.cost(lambda: redeem(connection, given)),
            "import": meter.cost(lambda: connection.execute(IMPORT, [CODES]).rowcount),
        }


def issue(connection: Connection, given: list[tuple[int, int]]) -> int:
    """One by one, each scan of the pool beginning behind the one before."""
    place: list[Any] = [None, None, None, None]
    for number in range(LIVES):
        holder = [f"buyer{number}@example.com", f"new {number}", f"<{number}@bench>"]
        ((issuance, voucher, *place),) = connection.execute(GIVE, [*holder, *place])
        given.append((issuance, voucher))
    return len(given)


def send(connection: Connection, given: list[tuple[int, int]]) -> int:
    for issuance, _ in given:
        for statement in SEND:
            connection.execute(statement, [issuance])
    return len(given)


def redeem(connection: Connection, given: list[tuple[int, int]]) -> int:
    for _, voucher in given:
        new = {"voucher": voucher, "purchase": secrets.token_hex(16), "token": secrets.token_urlsafe(32)}
        for statement in REDEEM:
            connection.execute(statement, new)
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what a commit would check
    return len(given)


def in_pairs(connection: Connection, there: list[str], gone: list[str]) -> list[tuple[Costs, Costs]]:
    """Both in turn, each first every other time, after one of each."""
    pairs = []
    for turn in range(PAIRS + 1):
        if turn % 2:
            with_it = lives(connection, *there)
            pairs.append((with_it, lives(connection, *gone)))
        else:
            without = lives(connection, *gone)
            pairs.append((lives(connection, *there), without))
    return pairs[1:]


def show_costs(connection: Connection) -> None:
    print("What an index adds to the processor's time and to the WAL of each deed, and its size")
    print(f"{'':36} {'MB':>6} " + " ".join(f"{deed:>16}" for deed in DEEDS))
    for index in indexes(connection):
        connection.execute("VACUUM")
        pairs = in_pairs(connection, [index.there], [index.gone])
        cells = []
        for deed in DEEDS:
            time = statistics.median(there[deed].microseconds / gone[deed].microseconds for there, gone in pairs)
            wal = statistics.median(there[deed].wal / gone[deed].wal for there, gone in pairs)
            cells.append(f"{100 * (time - 1):+7.1f}% {100 * (wal - 1):+6.1f}%")
        print(f"{index.name:36} {index.megabytes(connection):6.1f} " + " ".join(cells), flush=True)


def measure(url: str) -> None:
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as connection:
        connection.execute("SET statement_timeout = 0")
        show_costs(connection)
        pairs = in_pairs(connection, [], AS_BEFORE)
    record(
        Figure(
            name="storage",
            what="issuing, sending and redeeming with the indexes as they are, beside those before decision 21",
            ours="µs of PostgreSQL",
            theirs="µs before",
            pairs=[(life(ours), life(theirs)) for ours, theirs in pairs],
            goal=1.0,
            at_most=True,
        )
    )


def life(costs: Costs) -> float:
    """Microseconds."""
    return sum(costs[deed].microseconds for deed in DEEDS[:3])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what each index costs.")
    parser.add_argument("--vouchers", type=int, default=300_000)
    vouchers = parser.parse_args().vouchers
    if vouchers < LEAST:
        parser.error(f"--vouchers has to be at least {LEAST}: one of 200 courses must not run out of codes.")
    with settings_of_a_desk() as environment:
        fill(environment["DATABASE_URL"], vouchers)
        measure(environment["DATABASE_URL"])


if __name__ == "__main__":
    main()
