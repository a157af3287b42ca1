"""A stand-in for what localstripe does not have: Stripe's API for checkouts, lists and refunds, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LISTS = {"/v1/checkout/sessions": "sessions", "/v1/payment_intents": "intents", "/v1/events": "events"}


@dataclass
class StripeServer:
    """`asked` is what was posted: path, fields and Idempotency-Key. `refuse` answers 402 with this message."""

    url: str = ""
    asked: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    intents: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    no_events: bool = False
    down: bool = False
    refuse: str = ""

    def answer(self, method: str, path: str, fields: dict[str, str], key: str) -> tuple[int, dict[str, Any]]:
        if self.down:
            return 500, {"error": {"type": "api_error", "message": "down"}}
        if method == "GET":
            if self.no_events and path == "/v1/events":
                return 403, {"error": {"type": "invalid_request_error", "message": "Not with this key."}}
            rows = getattr(self, LISTS[path])
            return 200, {"object": "list", "data": rows, "has_more": False, "url": path}
        self.asked.append((path, fields, key))
        if self.refuse:
            return 400, {"error": {"type": "invalid_request_error", "message": self.refuse, "code": "amount_too_small"}}
        if path == "/v1/refunds":
            return 200, {"id": "re_1", "object": "refund", "status": "succeeded"}
        name = f"cs_test_{len(self.asked)}"
        return 200, {"id": name, "object": "checkout.session", "url": f"https://checkout.stripe.example/{name}"}


@contextmanager
def running_stripe_server() -> Iterator[StripeServer]:
    stripe = StripeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.respond("GET", {})

        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self.respond("POST", dict(parse_qsl(body)))

        def respond(self, method: str, fields: dict[str, str]) -> None:
            path, key = urlsplit(self.path).path, self.headers.get("Idempotency-Key", "")
            status, answer = stripe.answer(method, path, fields, key)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """The tests' output is for the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stripe.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield stripe
        finally:
            server.shutdown()
            thread.join()
