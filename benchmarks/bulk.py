"""Vouchers a second to a list of emails beside vouchers a second to one email after the other.

Both issue to new buyers over HTTP, with an API key: codes leave the pool, issuances and emails are stored, the answers
carry the codes. The list is one call of one client, under a batch key, so that it is remembered as the orders are; the
single calls come from 16 keep-alive clients. The list commits once, and is parsed and authenticated once.
"""

from __future__ import annotations

import itertools
import json

from benchmarks.desk import Desk, running_desk
from benchmarks.figures import Figure, in_turn, record
from benchmarks.issue import rate
from benchmarks.load import call_all, request

EMAILS = 5000
CODES = 50_000
lists = itertools.count(1)


def bulk_call(key: str) -> bytes:
    number = next(lists)
    emails = [f"list{number}.{n}@example.com" for n in range(EMAILS)]
    body = {"courseId": "JS101", "emails": emails, "batchKey": f"list {number}"}
    return request("POST", "/api/admin/vouchers/issue", json.dumps(body).encode(), Authorization=f"Api-Key {key}")


def bulk_rate(desk: Desk, key: str) -> float:
    return EMAILS * call_all(desk.port, [bulk_call(key)], status=200, clients=1).rate


def main() -> None:
    with running_desk() as desk:
        key = desk.manage("create_api_key", "bench", "--scope", "issue")
        desk.fill("JS101", (f"JS101-{n:08}" for n in range(CODES)))
        pairs = in_turn(lambda: bulk_rate(desk, key), lambda: rate(desk, "/issue-voucher", key, 201))
    record(
        Figure(
            name="bulk",
            what="A list of 5,000 emails in one call beside single calls by 16 clients",
            ours="vouchers/s in bulk",
            theirs="vouchers/s singly",
            pairs=pairs,
            goal=10,
        )
    )


if __name__ == "__main__":
    main()
