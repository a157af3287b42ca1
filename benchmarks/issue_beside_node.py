"""POST /issue-voucher beside a Node server that does the same transaction: `benchmarks/peer`, Express 5 and pg.

The same: the database and its tables with all their triggers, indexes and constraints; the request and its answer;
16 keep-alive clients. The voucher, the issuance and the email's row commit together.

Different: the Node server asks for no key and checks nothing of what it is told. It looks for no earlier request of the
same order, for no queue and for nobody who is to be told by a webhook, and it logs nothing. Each takes codes of a
course of its own, so that neither walks over what the other has taken.

Node runs in one process, as it does when it is started, and in two, as the desk does. The goal is for the former: on
two cores that it shares with PostgreSQL it is the faster one. Statements are prepared by name, which few would bother
to do and which makes it a quarter faster. How far the interpreter alone is from Node shows where the empty view of
`benchmarks.urls` stands beside Node's whole transaction.
"""

from __future__ import annotations

import filecmp
import itertools
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.desk import ROOT, Desk, free_port, running_desk, started, wait_until
from benchmarks.figures import PAIRS, Figure, in_turn, record
from benchmarks.load import Load, call_all, request
from benchmarks.waits import Processors, process_groups, table

PEER = ROOT / "benchmarks" / "peer"
CALLS = 1_000
POOL = 16
CODES = CALLS * (2 * PAIRS + 3)


def install_peer() -> None:
    """Once; a copy of the list beside what is installed says what that is."""
    wanted, installed = PEER / "package-lock.json", PEER / "node_modules" / "installed.json"
    if not installed.exists() or not filecmp.cmp(wanted, installed, shallow=False):
        subprocess.run(["npm", "ci", "--silent"], cwd=PEER, check=True)  # noqa: S607  # wherever Node is
        shutil.copy(wanted, installed)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def running_peer(desk: Desk, *, processes: int) -> Iterator[tuple[int, int]]:
    """The Node server on the desk's database; its port and its process."""
    port = free_port()
    told = {
        "PORT": str(port),
        "PROCESSES": str(processes),
        "POOL": str(POOL // processes),
        "NODE_ENV": "production",
    }
    with started(["node", str(PEER / "server.js")], desk.environment | told) as process:
        wait_until(lambda: listens(port), "The Node server did not start.")
        yield port, process


@dataclass
class Caller:
    """Issues of a course of its own, or calls of another view with the same request, on one of the two servers."""

    port: int
    process: int
    course: str
    headers: dict[str, str] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def call(self, path: str = "/issue-voucher", status: int = 201) -> Load:
        bodies = (
            {"courseId": self.course, "email": f"buyer{number}@example.com", "orderId": f"order {number}"}
            for number in itertools.islice(self.numbers, CALLS)
        )
        requests = [request("POST", path, json.dumps(body).encode(), **self.headers) for body in bodies]
        return call_all(self.port, requests, status=status)

    def cost(self, url: str) -> dict[str, float]:
        """Milliseconds of a core that each part spends on a call."""
        cores = Processors(process_groups(url, server=self.process))
        done = self.call()
        return {name: 1000 * busy / done.rate for name, busy in cores.busy().items()}


def beside_node(desk: Desk, us: Caller, *, processes: int) -> None:
    course = f"NODE{processes}"
    desk.fill(course, (f"{course}-{number:06}" for number in range(CODES)))
    with running_peer(desk, processes=processes) as (port, process):
        them = Caller(port, process, course)
        pairs = in_turn(lambda: us.call().rate, lambda: them.call().rate)
        url = desk.environment["DATABASE_URL"]
        costs = {"the desk": us.cost(url), "Node": them.cost(url)}
        if processes == 1:
            limit(us, them)
    record(
        Figure(
            name=f"issue_beside_node_{processes}",
            what=f"POST /issue-voucher beside Node in {processes} process{'es' if processes > 1 else ''}",
            ours="issues/s",
            theirs="issues/s of Node",
            pairs=pairs,
            goal=1.0 if processes == 1 else None,
            detail=table("milliseconds of a core, a call", costs),
        )
    )


def limit(us: Caller, them: Caller) -> None:
    """No call of the API can be faster than the view that does nothing."""
    record(
        Figure(
            name="issue_beside_node_limit",
            what="The empty view beside Node's whole transaction",
            ours="empty/s",
            theirs="issues/s of Node",
            pairs=in_turn(lambda: us.call("/empty", 200).rate, lambda: them.call().rate),
        )
    )


def main() -> None:
    install_peer()
    with running_desk(DJANGO_SETTINGS_MODULE="benchmarks.settings") as desk:
        desk.fill("JS101", (f"JS101-{number:06}" for number in range(2 * CODES)))
        key = desk.manage("create_api_key", "bench", "--scope", "issue")
        us = Caller(desk.port, desk.process, "JS101", {"Authorization": f"Api-Key {key}"})
        for processes in (1, 2):
            beside_node(desk, us, processes=processes)


if __name__ == "__main__":
    main()
