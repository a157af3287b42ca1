"""A small PayPal on 127.0.0.1: its API as far as the desk uses it, and the certificates of its webhooks.

It does as it is told: is away, refuses, declines, forgets. `paypal` is the fixture; `running_paypal()` is for a desk
that runs in a process of its own, started with `environment`.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pytest_django import Settings

from tests.certificates import root
from tests.paypal_account import AUTHORITY, CERTIFICATES, CLIENT_ID, SECRET, PayPalServer, Reply, Tree
from vouchers.payments.paypal import api, client, signature


def _refusal(status: int, issue: str) -> Reply:
    return status, {"name": "UNPROCESSABLE_ENTITY", "debug_id": "1", "details": [{"issue": issue}]}


def _found(rows: dict[str, Tree], row_id: str) -> Reply:
    return (200, rows[row_id]) if row_id in rows else _refusal(404, "INVALID_RESOURCE_ID")


def _create_order(server: PayPalServer, _: str, body: Tree) -> Reply:
    if body["purchase_units"][0]["amount"]["currency_code"] == "XTS":
        return _refusal(422, "CURRENCY_NOT_SUPPORTED")
    return 201, server.make_order(body)


def _capture_order(server: PayPalServer, order_id: str, _: Tree) -> Reply:
    status = server.orders.get(order_id, {}).get("status")
    if status is None:
        return _refusal(404, "INVALID_RESOURCE_ID")
    if status == "COMPLETED":
        return _refusal(422, "ORDER_ALREADY_CAPTURED")
    if status != "APPROVED":
        return _refusal(422, "ORDER_NOT_APPROVED")
    if server.declining:
        return _refusal(422, "INSTRUMENT_DECLINED")
    server.capture(order_id, server.capture_status)
    return 201, server.orders[order_id]


def _refund_capture(server: PayPalServer, capture_id: str, body: Tree) -> Reply:
    capture = server.captures.get(capture_id)
    if capture is None:
        return _refusal(404, "INVALID_RESOURCE_ID")
    if capture["status"] == "REFUNDED":
        return _refusal(422, "CAPTURE_FULLY_REFUNDED")
    return 201, server.refunds[server.refund(capture_id, body["amount"]["value"])]


def _search(server: PayPalServer, query: str, _: Tree) -> Reply:
    if not server.search_permitted:
        return 403, {"name": "NOT_AUTHORIZED", "debug_id": "1"}
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    span = dt.datetime.fromisoformat(asked["end_date"]) - dt.datetime.fromisoformat(asked["start_date"])
    assert span <= dt.timedelta(days=31)
    page = int(asked["page"])  # of one transaction each
    shown = server.transactions[page - 1 : page]
    details = [{"transaction_info": transaction} for transaction in shown]
    return 200, {"transaction_details": details, "page": page, "total_pages": len(server.transactions)}


ROUTES: list[tuple[str, Callable[[PayPalServer, str, Tree], Reply]]] = [
    (r"POST /v2/checkout/orders", _create_order),
    (r"GET /v2/checkout/orders/([^/]+)", lambda server, name, _: _found(server.orders, name)),
    (r"POST /v2/checkout/orders/([^/]+)/capture", _capture_order),
    (r"GET /v2/payments/captures/([^/]+)", lambda server, name, _: _found(server.captures, name)),
    (r"POST /v2/payments/captures/([^/]+)/refund", _refund_capture),
    (r"GET /v2/payments/refunds/([^/]+)", lambda server, name, _: _found(server.refunds, name)),
    (r"GET /v1/customer/disputes/([^/]+)", lambda server, name, _: _found(server.disputes, name)),
    (r"GET /v1/reporting/transactions\?(.*)", _search),
]


class Handler(BaseHTTPRequestHandler):
    server_version = "PayPal"
    protocol_version = "HTTP/1.1"
    paypal: PayPalServer

    def do_GET(self) -> None:  # the names are http.server's
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.paypal.asked.append(f"{method} {path}")
        if self.paypal.down:
            self._send(503, b"upstream connect error")
        elif self.paypal.page:
            self._send(self.paypal.page, b"<html>Welcome to the hotel</html>", content_type="text/html")
        elif path.startswith(CERTIFICATES):
            self._send_certificate(path.removeprefix(CERTIFICATES))
        elif path == "/v1/oauth2/token":
            self._send_json(*self._token())
        elif self.headers.get("Authorization") != f"Bearer {self.paypal.token}":
            self._send_json(401, {"error": "invalid_token"})
        else:
            with self.paypal.lock:
                self._send_json(*self._once(method, json.loads(body or b"{}")))

    def _send_certificate(self, name: str) -> None:
        if name in self.paypal.redirects:
            self._send(302, b"", location=self.paypal.redirects[name])
        elif name in self.paypal.certificates:
            self._send(200, self.paypal.certificates[name])
        else:
            self._send(404, b"no such certificate")

    def _token(self) -> Reply:
        wanted = base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            return 401, {"error": "invalid_client"}
        return 200, {"access_token": self.paypal.token, "token_type": "Bearer", "expires_in": 32400}

    def _once(self, method: str, body: Tree) -> Reply:
        key = self.headers.get("PayPal-Request-Id")
        if key and key in self.paypal.answered:
            return self.paypal.answered[key]
        reply = self._routed(f"{method} {self.path}", body)
        if key:
            self.paypal.answered[key] = reply
        return reply

    def _routed(self, line: str, body: Tree) -> Reply:
        for pattern, answer in ROUTES:
            if match := re.fullmatch(pattern, line):
                return answer(self.paypal, match.group(1) if match.groups() else "", body)
        return 404, {"name": "NOT_FOUND"}

    def _send_json(self, status: int, body: Tree) -> None:
        self._send(status, json.dumps(body).encode(), content_type="application/json")

    def _send(self, status: int, body: bytes, content_type: str = "text/plain", location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_paypal() -> Iterator[PayPalServer]:
    paypal = PayPalServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"paypal": paypal}))
    paypal.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    with TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        ca_file.write_bytes(root(AUTHORITY).pem)
        paypal.ca_file = str(ca_file)
        try:
            yield paypal
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture
def paypal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[PayPalServer]:
    """A PayPal that this process asks, and whose authority it trusts."""
    with running_paypal() as server:
        for name, value in server.environment.items():
            if name == "SSL_CERT_FILE":
                monkeypatch.setenv(name, value)
            else:
                setattr(settings, name, value)
        forget()
        yield server
        forget()


def forget() -> None:
    """What the desk keeps of one PayPal is nothing for the next, which may be at the same port."""
    client._sdk.cache_clear()
    api._own_account.cache_clear()
    signature.fetched.cache_clear()
