"""POST /redeem-voucher beside the empty view: API key, 16 keep-alive clients, in turn on one desk.

Each call redeems an issued code of its own: it spends a voucher, makes a free purchase and their redemption, and has
committed when it answers. The empty view has the same authentication and permission, parses the body and answers with
it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from benchmarks.desk import Desk, running_desk
from benchmarks.figures import PAIRS, Figure, in_turn, record
from benchmarks.load import call_all, request
from benchmarks.sold import code_of, fill_course, issue_some

CALLS = 2000


def measure(desk: Desk) -> None:
    fill_course(desk, (PAIRS + 1) * CALLS)
    issue_some(desk)
    key = f"Api-Key {desk.manage('create_api_key', 'bench', '--scope', 'issue', '--scope', 'redeem')}"
    spent, empty = itertools.count(), itertools.count()

    def rate(path: str, numbers: Iterator[int]) -> float:
        bodies = [json.dumps({"code": code_of(n)}).encode() for n in itertools.islice(numbers, CALLS)]
        requests = [request("POST", path, body, Authorization=key) for body in bodies]
        return call_all(desk.port, requests, status=200).rate

    record(
        Figure(
            name="redeem",
            what="POST /redeem-voucher beside the empty view, 16 clients, by API key",
            ours="redemptions/s",
            theirs="empty view/s",
            pairs=in_turn(lambda: rate("/redeem-voucher", spent), lambda: rate("/empty", empty)),
            goal=0.40,
        )
    )


if __name__ == "__main__":
    with running_desk(DJANGO_SETTINGS_MODULE="benchmarks.settings") as running:
        measure(running)
