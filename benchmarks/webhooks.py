"""How fast a signed webhook becomes an issued voucher, beside POST /issue-voucher on the same desk.

The same: the desk, with two web processes and no worker; the course; eight keep-alive clients; and what comes of it,
one voucher issued and its email queued. A webhook is a signed `checkout.session.completed` of a buyer of its own.

Different: a webhook is checked by its signature and an issue by its key; and dj-stripe keeps the request and the event,
the fact is kept, the payment locked, its purchase made and settled.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from benchmarks.desk import Desk, running_desk
from benchmarks.figures import PAIRS, Figure, in_turn, record
from benchmarks.load import Load, call_all, request

CALLS = 400
CLIENTS = 8
ALONE = 300
SECRET = f"whsec_{secrets.token_hex(16)}"
numbers = itertools.count(1)


def webhook(path: str, number: int) -> bytes:
    """A paid checkout of a buyer of its own, signed now: it is good for five minutes."""
    session = {
        "id": f"cs_test_{number}",
        "object": "checkout.session",
        "amount_subtotal": 4900,
        "amount_total": 4900,
        "currency": "usd",
        "metadata": {"courseId": "JS101", "email": f"buyer{number}@example.com"},
        "mode": "payment",
        "payment_intent": f"pi_{number}",
        "payment_status": "paid",
    }
    event = {
        "id": f"evt_{number}",
        "object": "event",
        "created": int(time.time()),
        "data": {"object": session},
        "livemode": False,
        "type": "checkout.session.completed",
    }
    body, now = json.dumps(event), int(time.time())
    signature = hmac.new(SECRET.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    return request("POST", path, body.encode(), Stripe_Signature=f"t={now},v1={signature}")


def issue(key: str, number: int) -> bytes:
    body = {"courseId": "JS101", "email": f"buyer{number}@example.com", "orderId": f"order {number}"}
    return request("POST", "/issue-voucher", json.dumps(body).encode(), Authorization=f"Api-Key {key}")


def next_numbers(count: int) -> Iterator[int]:
    return itertools.islice(numbers, count)


def alone(name: str, load: Load) -> str:
    return f"{name} {load.within(0.5):.1f} ms in the median and {load.within(0.95):.1f} ms at 95 %"


def measure(desk: Desk) -> None:
    desk.fill("JS101", (f"BENCH-{n:07}" for n in range(2 * (PAIRS + 1) * CALLS + 2 * ALONE)))
    key = desk.manage("create_api_key", "bench", "--scope", "issue")
    path = urlsplit(desk.manage("stripe_webhook")).path

    def by_webhook(calls: int, clients: int = CLIENTS) -> Load:
        return call_all(desk.port, [webhook(path, n) for n in next_numbers(calls)], status=200, clients=clients)

    def by_issue(calls: int, clients: int = CLIENTS) -> Load:
        return call_all(desk.port, [issue(key, n) for n in next_numbers(calls)], status=201, clients=clients)

    pairs = in_turn(lambda: by_webhook(CALLS).rate, lambda: by_issue(CALLS).rate)
    one_client = [
        alone("One client alone: from a signed webhook to an issued voucher, committed,", by_webhook(ALONE, 1)),
        alone("`POST /issue-voucher`", by_issue(ALONE, 1)),
    ]
    record(
        Figure(
            name="webhooks",
            what="A signed webhook to an issued voucher, beside POST /issue-voucher",
            ours="webhooks/s",
            theirs="issues/s",
            pairs=pairs,
            detail=f"{'; '.join(one_client)}.",
        )
    )


if __name__ == "__main__":
    with running_desk(STRIPE_WEBHOOK_SECRET=SECRET) as running:
        measure(running)
