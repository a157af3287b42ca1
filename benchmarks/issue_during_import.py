"""How long POST /issue-voucher takes while 1,000,000 codes are imported into the same course.

First how many calls a second the desk answers at most; then half of that rate while `import_vouchers` runs from
beginning to end, and as long before as after it while nothing else happens, since machines are faster and slower by
the minute. A call counts from when it was due, so that one that has to wait for others is as slow as a buyer finds it.
Every call is answered with a code of a pool that was there before, on the same two cores that the import, PostgreSQL
and the clients run on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.desk import ROOT, Desk, running_desk
from benchmarks.figures import PAIRS, Figure, record
from benchmarks.importing import made_codes
from benchmarks.load import CLIENTS, Load, call_all, joined, request

IMPORTED = 1_000_000
AT_MOST_CALLS = 1500
SECONDS = 10  # of calls without an import, before it and again after it
CHUNK_SECONDS = 2
SHARES = (0.5, 0.9, 0.99, 1.0)

numbers = itertools.count(1)


def issues(key: str, number: int) -> list[bytes]:
    """Calls for buyers who asked for nothing before."""
    bodies = (
        json.dumps({"courseId": "JS101", "email": f"buyer{n}@example.com", "orderId": f"order {n}"}).encode()
        for n in itertools.islice(numbers, number)
    )
    return [request("POST", "/issue-voucher", body, Authorization=f"Api-Key {key}") for body in bodies]


@contextmanager
def importing(desk: Desk, codes: Path) -> Iterator[threading.Event]:
    """An import that runs meanwhile; the event is set once it is over."""
    command = [sys.executable, "manage.py", "import_vouchers", str(codes), "--course", "JS101"]
    process = subprocess.Popen(command, cwd=ROOT, env=desk.environment, stdout=subprocess.DEVNULL)
    over = threading.Event()

    def wait() -> None:
        process.wait()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    yield over
    over.wait()
    if process.returncode:
        raise SystemExit("The import failed.")


def alone(desk: Desk, key: str, rate: float) -> Load:
    with psycopg.connect(desk.environment["DATABASE_URL"], autocommit=True) as database:
        database.execute("CHECKPOINT")
    return call_all(desk.port, issues(key, int(SECONDS * rate)), status=201, rate=rate)


def during(desk: Desk, key: str, rate: float, codes: Path) -> Load:
    """Calls from the beginning of an import to its end."""
    parts = []
    with importing(desk, codes) as over:
        while not over.is_set():
            parts.append(call_all(desk.port, issues(key, int(CHUNK_SECONDS * rate)), status=201, rate=rate))
    return joined(parts)


def said(name: str, load: Load) -> str:
    times = "  ".join(f"{share:.0%} within {load.within(share):.1f} ms" for share in SHARES)
    return f"{name}: {len(load.times)} calls in {load.seconds:.0f} s, {times}"


def measure(desk: Desk, folder: Path, imported: int, pairs: int) -> None:
    key = desk.manage("create_api_key", "bench", "--scope", "issue")
    codes = folder / "codes.txt"
    codes.write_text("".join(f"POOL-{n:07}\n" for n in range(200_000)))
    desk.manage("import_vouchers", str(codes), "--course", "JS101", "--create-course", "JavaScript")
    call_all(desk.port, issues(key, AT_MOST_CALLS), status=201)  # warm
    most = call_all(desk.port, issues(key, AT_MOST_CALLS), status=201).rate
    rate = most / 2
    print(f"{most:.0f} calls a second at most with {CLIENTS} clients; {rate:.0f} a second from here on", flush=True)
    kept = []
    for turn in range(pairs):
        before = alone(desk, key, rate)
        with codes.open("w") as file:
            file.writelines(f"{turn}-{code}\n" for code in made_codes(imported))
        beside = during(desk, key, rate, codes)
        without = joined([before, alone(desk, key, rate)])
        print(said("without", without), said("during", beside), sep="\n", flush=True)
        kept.append((beside.within(0.99), without.within(0.99)))
    record(
        Figure(
            name="issue_during_import",
            what=f"POST /issue-voucher, {rate:.0f} a second, while {imported:,} codes are stored in the same course",
            ours="99 % within ms, during",
            theirs="99 % within ms, without",
            pairs=kept,
            goal=2.0,
            at_most=True,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Issuing at half of what it can do, during an import.")
    parser.add_argument("--codes", type=int, default=IMPORTED)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    with running_desk() as desk, tempfile.TemporaryDirectory() as folder:
        measure(desk, Path(folder), options.codes, options.pairs)


if __name__ == "__main__":
    main()
