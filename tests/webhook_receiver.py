"""Somebody who is told by webhook: a real HTTPS server on loopback, which answers as it is told."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import new_key, root
from vouchers.outgoing import addresses, sending

AUTHORITY = root("Webhook tests")
FLOOD = 64 * 1024 * 1024


@dataclass
class Receiver:
    """`answers` are the statuses of the next calls, the last of them for all others; 0 hangs up without a word.

    `location` is where redirects go, `slow` the seconds it thinks, `drip` those between the lines of its answer, of
    which there are 90 then; `flood` makes it say `FLOOD` bytes, and `flooded` counts those it got rid of.
    """

    url: str
    authority: Path
    calls: list[tuple[dict[str, str], str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=lambda: [204])
    location: str = ""
    slow: float = 0
    drip: float = 0
    flood: bool = False
    flooded: int = 0

    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.calls]


@contextmanager
def running_receiver(folder: Path, name: str = "127.0.0.1") -> Iterator[Receiver]:
    """`name` is what its certificate is for."""
    key = new_key("receiver")
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "certificate.pem").write_bytes(AUTHORITY.issue(key, name=name))
    (folder / "authority.pem").write_bytes(AUTHORITY.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            receiver.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            if status == 0:
                self.close_connection = True
                return
            time.sleep(receiver.slow)
            # Whoever has heard enough hangs up.
            with contextlib.suppress(OSError):
                self.answer(status)

        def answer(self, status: int) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", receiver.location or receiver.url)
            for n in range(90 if receiver.drip else 0):
                self.send_header(f"X-{n}", "drip")
                self.flush_headers()
                time.sleep(receiver.drip)
            self.send_header("Content-Length", str(FLOOD if receiver.flood else 0))
            self.end_headers()
            while receiver.flood and receiver.flooded < FLOOD:
                receiver.flooded += self.wfile.write(bytes(65536))

        def log_message(self, *args: Any) -> None:
            """The tests' output is for the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://127.0.0.1:{server.server_address[1]}/hooks"
        receiver = Receiver(url, folder / "authority.pem")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def reachable_receiver(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "127.0.0.1") -> Iterator[Receiver]:
    """One that the desk will call: the only seam is the question whether an address is public."""
    original = addresses.public_session

    def session() -> requests.Session:
        made = original()
        made.verify = str(receiver.authority)
        return made

    with running_receiver(folder, name) as receiver:
        monkeypatch.setattr(addresses, "is_public", lambda ip: True)
        monkeypatch.setattr(sending, "public_session", session)
        yield receiver
