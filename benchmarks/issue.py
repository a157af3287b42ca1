"""Issues a second over HTTP beside the empty view, on one desk in the same run.

Both are asked by 16 keep-alive clients with an API key and a JSON body. An issue is a new buyer with an order of their
own: the code leaves the pool, the issuance and its email are stored, the answer carries the code. The empty view has
the same authentication, permission and error shape, parses the body and answers with it.
"""

from __future__ import annotations

import itertools
import json

from benchmarks.desk import Desk, running_desk
from benchmarks.figures import Figure, in_turn, record
from benchmarks.load import call_all, request

CALLS = 3000
CODES = 12 * CALLS
numbers = itertools.count(1)


def call(path: str, key: str) -> bytes:
    number = next(numbers)
    body = {"courseId": "JS101", "email": f"buyer{number}@example.com", "orderId": f"order {number}"}
    return request("POST", path, json.dumps(body).encode(), Authorization=f"Api-Key {key}")


def rate(desk: Desk, path: str, key: str, status: int) -> float:
    return call_all(desk.port, [call(path, key) for _ in range(CALLS)], status=status).rate


def main() -> None:
    with running_desk(DJANGO_SETTINGS_MODULE="benchmarks.settings") as desk:
        key = desk.manage("create_api_key", "bench", "--scope", "issue")
        desk.fill("JS101", (f"JS101-{n:08}" for n in range(CODES)))
        pairs = in_turn(lambda: rate(desk, "/issue-voucher", key, 201), lambda: rate(desk, "/empty", key, 200))
    record(
        Figure(
            name="issue",
            what="POST /issue-voucher beside the empty view",
            ours="issues/s",
            theirs="empty answers/s",
            pairs=pairs,
            goal=0.40,
        )
    )


if __name__ == "__main__":
    main()
