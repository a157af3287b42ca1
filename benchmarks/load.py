"""Keep-alive clients that cost next to nothing: they share two cores with the desk that they measure."""

from __future__ import annotations

import collections
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

CLIENTS = 16
ROUNDS = 8
SILENCE = 60.0  # seconds without an answer


@dataclass
class Load:
    """How long it all took, and each call, in milliseconds: from when it was due, where calls come at a rate."""

    seconds: float
    times: list[float]

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds

    def within(self, share: float) -> float:
        """The milliseconds that this share of the calls took at most."""
        return sorted(self.times)[min(int(share * len(self.times)), len(self.times) - 1)]


def joined(loads: Sequence[Load]) -> Load:
    """What was measured in several goes, as one."""
    return Load(sum(load.seconds for load in loads), [time for load in loads for time in load.times])


@dataclass
class Client:
    connection: socket.socket
    began: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def ask(self, request: bytes, began: float) -> None:
        self.began = began
        self.received.clear()
        self.connection.sendall(request)

    def answered(self) -> bytes | None:
        """The whole answer, once it is there. Takes those with a Content-Length only, as the desk's are."""
        part = self.connection.recv(65536)
        if not part:
            raise SystemExit("The server closed the connection.")
        self.received += part
        head, blank, body = bytes(self.received).partition(b"\r\n\r\n")
        if not blank:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        return bytes(self.received) if len(body) >= length else None


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as it goes over the wire; `headers` with underscores for dashes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def call_all(
    port: int, requests: Sequence[bytes], *, status: int, clients: int = CLIENTS, rate: float | None = None
) -> Load:
    """Sends all requests, as fast as `clients` are answered, or so many a second. Another status ends the benchmark.

    Without a rate the clients connect anew several times: how the kernel has dealt their connections out to the web
    processes, evenly or not, makes a difference of up to a half.
    """
    rounds = 1 if rate else ROUNDS
    return joined([_call_once(port, requests[n::rounds], status, clients, rate) for n in range(rounds)])


def _call_once(port: int, requests: Sequence[bytes], status: int, clients: int, rate: float | None) -> Load:
    expected = f"HTTP/1.1 {status} ".encode()
    waiting = collections.deque(requests)
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        idle = [Client(socket.create_connection(("127.0.0.1", port))) for _ in range(clients)]
        connected = list(idle)
        for client in idle:
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client.connection, selectors.EVENT_READ, client)
        started = time.perf_counter()
        sent = 0
        while len(times) < len(requests):
            due = started + sent / rate if rate else 0.0
            while waiting and idle and (not rate or time.perf_counter() >= due):
                idle.pop().ask(waiting.popleft(), due if rate else time.perf_counter())
                sent += 1
                due = started + sent / rate if rate else 0.0
            pause = max(0.0, due - time.perf_counter()) if rate and waiting and idle else SILENCE
            ready = selector.select(pause)
            if not ready and pause == SILENCE:
                raise SystemExit("The server does not answer.")
            for key, _ in ready:
                if (answer := key.data.answered()) is None:
                    continue
                if not answer.startswith(expected):
                    raise SystemExit(f"Answered with {answer[:500]!r} instead of {status}.")
                times.append(1000 * (time.perf_counter() - key.data.began))
                idle.append(key.data)
        seconds = time.perf_counter() - started
        for client in connected:
            client.connection.close()
    return Load(seconds, times)
