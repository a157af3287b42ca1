"""How fast a signed webhook becomes an issued voucher, beside POST /issue-voucher on the same desk in the same run.

Prints the lines for docs/performance.md. Both are measured in turn, and what counts is the median of their ratios:
machines differ and are noisy.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.desk import Desk, running_desk

PAIRS = 7
CALLS = 400
CLIENTS = 8
ALONE = 300
SECRET = f"whsec_{secrets.token_hex(16)}"
numbers = itertools.count(1)

Call = Callable[[http.client.HTTPConnection], None]


def webhook(path: str) -> Call:
    """Posts a paid checkout of a buyer of its own."""

    def call(connection: http.client.HTTPConnection) -> None:
        number = next(numbers)
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
        body = json.dumps(event)
        now = int(time.time())
        signature = hmac.new(SECRET.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "Stripe-Signature": f"t={now},v1={signature}"}
        answer(connection, path, body, headers, 200)

    return call


def issue(key: str) -> Call:
    def call(connection: http.client.HTTPConnection) -> None:
        number = next(numbers)
        body = json.dumps({"courseId": "JS101", "email": f"buyer{number}@example.com", "orderId": f"order {number}"})
        headers = {"Content-Type": "application/json", "Authorization": f"Api-Key {key}"}
        answer(connection, "/issue-voucher", body, headers, 201)

    return call


def answer(
    connection: http.client.HTTPConnection, path: str, body: str, headers: dict[str, str], expected: int
) -> None:
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    said = response.read()
    if response.status != expected:
        raise SystemExit(f"{path} answered {response.status}: {said[:300]!r}")


def rate(desk: Desk, call: Call) -> float:
    """Calls a second of keep-alive clients."""

    def client(calls: int) -> None:
        connection = desk.connect()
        for _ in range(calls):
            call(connection)
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, [CALLS // CLIENTS] * CLIENTS))
    return CALLS / (time.perf_counter() - started)


def alone(desk: Desk, call: Call) -> list[float]:
    """Milliseconds of each call of one client: from the first byte of it to an answer, which comes after the commit."""
    connection = desk.connect()
    times = []
    for _ in range(ALONE):
        started = time.perf_counter()
        call(connection)
        times.append(1000 * (time.perf_counter() - started))
    return sorted(times)


def measure(desk: Desk) -> None:
    key = desk.manage("create_api_key", "bench", "--scope", "issue")
    path = urlsplit(desk.manage("stripe_webhook")).path
    with tempfile.TemporaryDirectory() as folder:
        codes = Path(folder) / "codes.txt"
        codes.write_text("".join(f"BENCH-{n:07}\n" for n in range(2 * (PAIRS + 1) * CALLS + 2 * ALONE)))
        desk.manage("import_vouchers", str(codes), "--course", "JS101", "--create-course", "JavaScript")
    by_webhook, by_api = webhook(path), issue(key)
    rate(desk, by_webhook), rate(desk, by_api)  # warm
    pairs = [(rate(desk, by_webhook), rate(desk, by_api)) for _ in range(PAIRS)]
    print(f"{'webhooks/s':>12} {'issues/s':>10} {'ratio':>6}")
    for hooks, issues in pairs:
        print(f"{hooks:12.0f} {issues:10.0f} {hooks / issues:6.2f}")
    print(f"median ratio: {statistics.median(hooks / issues for hooks, issues in pairs):.2f}")
    for name, times in (
        ("webhook to issued voucher", alone(desk, by_webhook)),
        ("POST /issue-voucher", alone(desk, by_api)),
    ):
        print(f"{name}: median {statistics.median(times):.1f} ms, 95 % within {times[int(0.95 * ALONE)]:.1f} ms")


if __name__ == "__main__":
    with running_desk(STRIPE_WEBHOOK_SECRET=SECRET) as running:
        measure(running)
