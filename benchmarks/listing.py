"""Page 5,000 of the list of a course's vouchers beside page 1, over HTTP, in turn: 100 vouchers a page, one client.

The course has more pages than that, and a third of its vouchers is issued. The cursor is that of the page's own `Link`.
"""

from __future__ import annotations

import re

import psycopg

from benchmarks.desk import Desk, running_desk
from benchmarks.figures import Figure, in_turn, record
from benchmarks.load import call_all, request
from benchmarks.sold import COURSE, fill_course, issue_some

PAGE = 100
FAR = 5_000
CALLS = 100
LAST_BEFORE = "SELECT id FROM vouchers_voucher WHERE course_id = %s ORDER BY id OFFSET %s LIMIT 1"


def cursor_of(desk: Desk, key: str, page: int) -> str:
    """The cursor that the page before leads to; its own is looked up, to spare the way through all of them."""
    with psycopg.connect(desk.environment["DATABASE_URL"]) as connection:
        row = connection.execute(LAST_BEFORE, [COURSE, (page - 2) * PAGE - 1]).fetchone()
    if row is None:
        raise SystemExit(f"The course has no page {page}.")
    (before,) = row
    asked = desk.connect()
    asked.request("GET", f"/admin/vouchers/{COURSE}?cursor={before}", headers={"Authorization": f"Api-Key {key}"})
    answer = asked.getresponse()
    answer.read()
    found = re.search(r"cursor=(\d+)", answer.headers["Link"])
    if found is None:
        raise SystemExit("The page before leads nowhere.")
    return found[1]


def measure(desk: Desk) -> None:
    fill_course(desk, (FAR + 1) * PAGE)
    issue_some(desk, 3)
    key = desk.manage("create_api_key", "bench", "--scope", "manage")
    far = cursor_of(desk, key, FAR)

    def milliseconds(cursor: str) -> float:
        call = request("GET", f"/admin/vouchers/{COURSE}?cursor={cursor}", Authorization=f"Api-Key {key}")
        return call_all(desk.port, [call] * CALLS, status=200, clients=1).within(0.5)

    record(
        Figure(
            name="listing",
            what="Page 5,000 of a course's vouchers beside page 1",
            ours="page 5,000, ms",
            theirs="page 1, ms",
            pairs=in_turn(lambda: milliseconds(far), lambda: milliseconds("0")),
            goal=1.1,
            at_most=True,
        )
    )


if __name__ == "__main__":
    with running_desk() as running:
        measure(running)
