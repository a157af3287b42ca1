"""What the small PayPal of the tests knows: orders, captures, refunds and disputes, and how it signs what it tells.

The API in front of it is `paypal_server.py`.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.certificates import below, new_key

Tree = dict[str, Any]
Reply = tuple[int, Tree]
CERTIFICATES = "/v1/notifications/certs/"
AUTHORITY = "Test authority"
SIGNING_KEY = "Test signer"
OWN_ACCOUNT = "OURMERCHANT01"
CLIENT_ID = "client"
SECRET = "secret"
WEBHOOK_ID = "WH-OF-THE-TESTS"


@dataclass
class PayPalServer:
    url: str = ""
    ca_file: str = ""
    down: bool = False  # answers 503 to everything
    page: int = 0  # answers this status to everything, with a page for people
    declining: bool = False  # captures are refused
    capture_status: str = "COMPLETED"
    search_permitted: bool = True
    orders: dict[str, Tree] = field(default_factory=dict)
    captures: dict[str, Tree] = field(default_factory=dict)
    refunds: dict[str, Tree] = field(default_factory=dict)
    disputes: dict[str, Tree] = field(default_factory=dict)
    transactions: list[Tree] = field(default_factory=list)
    certificates: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)  # of certificates
    asked: list[str] = field(default_factory=list)  # such as "GET /v2/checkout/orders/…"
    token: str = "token-1"
    answered: dict[str, Reply] = field(default_factory=dict)  # by PayPal-Request-Id
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.certificates["CERT-1"] = below(AUTHORITY).issue(new_key(SIGNING_KEY))

    @property
    def environment(self) -> dict[str, str]:
        """For a desk in a process of its own."""
        return {
            "PAYPAL_API_HOST": self.url,
            "PAYPAL_CLIENT_ID": CLIENT_ID,
            "PAYPAL_CLIENT_SECRET": SECRET,
            "PAYPAL_WEBHOOK_ID": WEBHOOK_ID,
            "SSL_CERT_FILE": self.ca_file,
        }

    # What buyers and PayPal do ------------------------------------------------------------------------

    def add_order(self, custom_id: str, value: str = "49.00", currency: str = "USD", **fields: Any) -> str:
        """An order that a shop made itself; fields of its purchase unit as PayPal names them. Returns its id."""
        unit = {"custom_id": custom_id, "amount": {"currency_code": currency, "value": value}, **fields}
        return str(self.make_order({"intent": "CAPTURE", "purchase_units": [unit]})["id"])

    def make_order(self, body: Tree) -> Tree:
        order_id = _new_id()
        units = [{"payee": {"merchant_id": OWN_ACCOUNT}} | unit for unit in body["purchase_units"]]
        rel = "payer-action" if "payment_source" in body else "approve"
        self.orders[order_id] = body | {
            "id": order_id,
            "status": "PAYER_ACTION_REQUIRED" if "payment_source" in body else "CREATED",
            "create_time": _now(),
            "update_time": _now(),
            "purchase_units": units,
            "links": [{"rel": rel, "href": f"https://paypal.example/checkoutnow?token={order_id}", "method": "GET"}],
        }
        return self.orders[order_id]

    def approve(self, order_id: str, email: str = "payer@example.com") -> None:
        self.orders[order_id] |= {"status": "APPROVED", "update_time": _now(), "payer": {"email_address": email}}

    def pay(self, order_id: str, status: str = "COMPLETED", email: str = "payer@example.com") -> str:
        """An order approved and captured; returns the capture's id."""
        self.approve(order_id, email)
        return str(self.capture(order_id, status)["id"])

    def capture(self, order_id: str, status: str) -> Tree:
        order, capture_id = self.orders[order_id], _new_id()
        unit = order["purchase_units"][0]
        captured = {
            "id": capture_id,
            "status": status,
            "amount": {name: unit["amount"][name] for name in ("currency_code", "value")},
            "custom_id": unit.get("custom_id", ""),
            "create_time": _now(),
            "update_time": _now(),
            "supplementary_data": {"related_ids": {"order_id": order_id}},
        }
        self.captures[capture_id] = captured
        unit.setdefault("payments", {}).setdefault("captures", []).append(captured)
        order["status"] = "COMPLETED"
        return captured

    def refund(self, capture_id: str, value: str, status: str = "COMPLETED") -> str:
        """Money given back by the seller, or taken back by PayPal; returns the refund's id."""
        capture, refund_id = self.captures[capture_id], _new_id()
        whole = value == capture["amount"]["value"]
        self.refunds[refund_id] = {
            "id": refund_id,
            "status": status,
            "amount": capture["amount"] | {"value": value},
            "create_time": _now(),
            "update_time": _now(),
            "links": [{"rel": "up", "href": f"{self.url}/v2/payments/captures/{capture_id}", "method": "GET"}],
        }
        if status == "COMPLETED":
            capture["status"] = "REFUNDED" if whole else "PARTIALLY_REFUNDED"
        order = self.orders[capture["supplementary_data"]["related_ids"]["order_id"]]
        order["purchase_units"][0]["payments"].setdefault("refunds", []).append(self.refunds[refund_id])
        return refund_id

    def dispute(self, *capture_ids: str, value: str = "49.00") -> str:
        dispute_id = f"PP-D-{secrets.randbelow(10**6)}"
        self.disputes[dispute_id] = {
            "dispute_id": dispute_id,
            "status": "OPEN",
            "create_time": _now(),
            "update_time": _now(),
            "dispute_amount": {"currency_code": "USD", "value": value},
            "disputed_transactions": [
                {"seller_transaction_id": capture_id, "gross_amount": self.captures[capture_id]["amount"]}
                for capture_id in capture_ids
            ],
        }
        return dispute_id

    def resolve(self, dispute_id: str, outcome: str) -> None:
        self.disputes[dispute_id] |= {"status": "RESOLVED", "dispute_outcome": {"outcome_code": outcome}}

    # Webhooks -----------------------------------------------------------------------------------------

    def event(self, event_type: str, resource: Tree, resource_type: str = "capture") -> bytes:
        event = {
            "id": f"WH-{_new_id()}",
            "event_type": event_type,
            "resource_type": resource_type,
            "create_time": _now(),
            "resource": resource,
        }
        return json.dumps(event).encode()

    def sign(
        self,
        body: bytes,
        *,
        webhook_id: str = WEBHOOK_ID,
        at: str = "",
        certificate: str = "CERT-1",
        key: str = SIGNING_KEY,
    ) -> dict[str, str]:
        """The headers of a webhook."""
        sent_id, sent_at = secrets.token_hex(16), at or _now()
        message = f"{sent_id}|{sent_at}|{webhook_id}|{zlib.crc32(body)}".encode()
        return {
            "PAYPAL-TRANSMISSION-ID": sent_id,
            "PAYPAL-TRANSMISSION-TIME": sent_at,
            "PAYPAL-TRANSMISSION-SIG": base64.b64encode(new_key(key).sign(message, PKCS1v15(), SHA256())).decode(),
            "PAYPAL-CERT-URL": f"{self.url}{CERTIFICATES}{certificate}",
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        }


def _new_id() -> str:
    return secrets.token_hex(8).upper()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
