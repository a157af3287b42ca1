"""The same codes stored in the ways there are: by the command, through the API, by the admin's job; and by raw COPY and
by `bulk_create`.

All begin with a text file, one code a line in no order, and end when the codes are committed in the same table, empty
before, with all its indexes and constraints. Ours clean each code and account for each line; a file with faults in it
is measured, too. Raw COPY streams finished rows, and would refuse everything for one duplicate; it is measured
once more with triggers and foreign keys off, which only a superuser may do. `bulk_create` is what a competent
developer would write, in `benchmarks.bulk_create`. Command and `bulk_create` begin with the start of Python.

    python -m benchmarks.importing --codes 1000000
    python -m benchmarks.importing --memory [--large]    peak memory at 10,000, 1,000,000 (and 10,000,000) codes
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import psycopg
import requests

from benchmarks.desk import ROOT, Desk, running_desk, started, wait_until
from benchmarks.figures import PAIRS, Figure, record

CODES = 200_000
WARM = 10_000
FAULTY = 100  # one line in so many
FAULTS = {1: "not a code", FAULTY + 1: "REPEATED-001"}
ALPHABET = "23456789CDFGHJKMNPQRTVWX"
ROWS = """
COPY vouchers_voucher (code, course_id, batch_id, position, status, issued_to, revoked_reason, note) FROM STDIN
"""
UPLOADING = 900  # seconds
SMALL, BIG, LARGE = 10_000, 1_000_000, 10_000_000
ROOM = 30  # MB


def made_codes(number: int) -> Iterator[str]:
    draw = random.Random(number)  # noqa: S311  # the same codes each time
    return (f"JS101-{''.join(draw.choices(ALPHABET, k=8))}-{n:03}" for n in range(number))


@dataclass
class Bench:
    """A desk, and the codes as a file, as a file with faults, and as rows for COPY."""

    desk: Desk
    folder: Path
    key: str
    password: str
    batch: int
    number: int = 0

    def prepare(self, number: int) -> None:
        self.number = number
        with self.text.open("w") as text, self.faulty.open("w") as faulty, self.rows.open("w") as rows:
            for n, code in enumerate(made_codes(number)):
                text.write(f"{code}\n")
                faulty.write(f"{FAULTS.get(n % (2 * FAULTY), code)}\n")
                rows.write(f"{code}\tJS101\t{self.batch}\t{(self.batch << 32) + n}\tavailable\t\t\t\n")

    @property
    def text(self) -> Path:
        return self.folder / "codes.txt"

    @property
    def faulty(self) -> Path:
        return self.folder / "faulty.txt"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.copy"

    def database(self) -> psycopg.Connection:
        return psycopg.connect(self.desk.environment["DATABASE_URL"], autocommit=True)

    def rate(self, deed: Callable[[], float | None]) -> float:
        """Codes a second of a deed into an empty table, by its own clock where it has one."""
        with self.database() as database:
            database.execute("TRUNCATE vouchers_voucher CASCADE")
            database.execute("CHECKPOINT")
        began = time.perf_counter()
        own = deed()
        seconds = own or time.perf_counter() - began
        with self.database() as database:
            [(stored,)] = database.execute("SELECT count(*) FROM vouchers_voucher").fetchall()
        if not 0.98 * self.number <= stored <= self.number:
            raise SystemExit(f"{stored} of {self.number} codes were stored.")
        return self.number / seconds

    def by_command(self) -> None:
        self._command(self.text)

    def by_command_with_faults(self) -> None:
        self._command(self.faulty)

    def _command(self, file: Path) -> None:
        command = [sys.executable, "manage.py", "import_vouchers", str(file), "--course", "JS101"]
        subprocess.run(command, cwd=ROOT, env=self.desk.environment, capture_output=True, check=True)

    def by_api(self) -> None:
        with self.text.open("rb") as file:
            answer = requests.post(
                f"http://127.0.0.1:{self.desk.port}/api/admin/vouchers/upload",
                headers={"Authorization": f"Api-Key {self.key}"},
                data={"courseId": "JS101"},
                files={"file": file},
                timeout=UPLOADING,
            )
        answer.raise_for_status()

    def by_job(self) -> float:
        """The seconds from the confirmation of a checked batch to its being stored."""
        with running_worker(self.desk), requests.Session() as browser:
            admin = Admin(browser, f"http://127.0.0.1:{self.desk.port}/admin/")
            admin.log_in(self.password)
            with self.text.open("rb") as file:
                page = admin.post("vouchers/batch/add/", data={"course": "JS101"}, files={"file": file})
            batch = int(re.findall(r"/batch/(\d+)/", page.url)[0])
            self.wait_until_it_is("checked", batch)
            began = time.perf_counter()
            admin.post(f"vouchers/batch/{batch}/confirm/")
            self.wait_until_it_is("stored", batch)
            return time.perf_counter() - began

    def wait_until_it_is(self, status: str, batch: int) -> None:
        with self.database() as database:

            def is_so() -> bool:
                found = database.execute("SELECT status FROM vouchers_batch WHERE id = %s", [batch]).fetchone()
                if found in (("failed",), ("cancelled",)):
                    raise SystemExit(f"The batch is {found}.")
                return found == (status,)

            wait_until(is_so, f"The batch was not {status} in time.", UPLOADING)

    def by_copy(self) -> None:
        self._copy("origin")

    def by_copy_without_triggers(self) -> None:
        self._copy("replica")

    def _copy(self, role: str) -> None:
        with psycopg.connect(self.desk.environment["DATABASE_URL"]) as database, self.rows.open("rb") as rows:
            database.execute(f"SET LOCAL session_replication_role = {role}")
            with database.cursor().copy(ROWS) as copy:
                for block in iter(lambda: rows.read(64 * 1024), b""):
                    copy.write(block)

    def by_bulk_create(self) -> None:
        command = [sys.executable, "-m", "benchmarks.bulk_create", str(self.text)]
        environment = self.desk.environment | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)

    def memory(self, number: int) -> float:
        """The most memory that the command has at once, in MB."""
        self.prepare(number)
        command = [sys.executable, "manage.py", "import_vouchers", str(self.text), "--course", "JS101"]
        process = subprocess.Popen(command, cwd=ROOT, env=self.desk.environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit("The import failed.")
        return used.ru_maxrss / 1024


@dataclass
class Admin:
    """A member of the staff at a browser."""

    browser: requests.Session
    base: str

    def log_in(self, password: str) -> None:
        self.browser.get(f"{self.base}login/").raise_for_status()
        self.post("login/", data={"username": "bench", "password": password, "next": "/admin/"})

    def post(
        self, path: str, *, data: dict[str, str] | None = None, files: dict[str, BinaryIO] | None = None
    ) -> requests.Response:
        fields = {**(data or {}), "csrfmiddlewaretoken": self.browser.cookies["csrftoken"]}
        answer = self.browser.post(self.base + path, data=fields, files=files, timeout=UPLOADING)
        answer.raise_for_status()
        return answer


@contextmanager
def running_worker(desk: Desk) -> Iterator[None]:
    command = [sys.executable, "manage.py", "procrastinate", "worker"]
    address = f"http://127.0.0.1:{desk.port}/readyz"
    with started(command, desk.environment):
        wait_until(lambda: bool(requests.get(address, timeout=60).json().get("worker")), "The worker did not start.")
        yield


@contextmanager
def running_bench() -> Iterator[Bench]:
    with running_desk() as desk, tempfile.TemporaryDirectory() as folder:
        key = desk.manage("create_api_key", "bench", "--scope", "manage", "--scope", "issue")
        password = desk.environment["SECRET_KEY"]
        environment = desk.environment | {"DJANGO_SUPERUSER_PASSWORD": password}
        made = ["createsuperuser", "--noinput", "--username", "bench", "--email", "bench@example.com"]
        subprocess.run(
            [sys.executable, "manage.py", *made], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True
        )
        bench = Bench(desk, Path(folder), key, password, batch=1)
        bench.text.write_text("FIRST-0001\n")
        desk.manage("import_vouchers", str(bench.text), "--course", "JS101", "--create-course", "JavaScript")
        yield bench


def compare(bench: Bench, number: int) -> None:
    deeds: list[Callable[[], float | None]] = [
        bench.by_command,
        bench.by_copy,
        bench.by_copy_without_triggers,
        bench.by_bulk_create,
        bench.by_command_with_faults,
        bench.by_api,
        bench.by_job,
    ]
    bench.prepare(WARM)
    for deed in deeds:
        bench.rate(deed)
    bench.prepare(number)
    rates: dict[str, list[float]] = {deed.__name__: [] for deed in deeds}
    for turn in range(PAIRS):
        for deed in chain(deeds[turn:], deeds[:turn]):
            rates[deed.__name__].append(bench.rate(deed))

    def figure(ours: str, theirs: str, what: str, goal: float | None = None) -> None:
        record(
            Figure(
                name=f"import {ours[3:].replace('_', ' ')} / {theirs[3:].replace('_', ' ')}",
                what=f"{what}, {number:,} codes",
                ours=f"{ours[3:24].replace('_', ' ')}, codes/s",
                theirs=f"{theirs[3:24].replace('_', ' ')}, codes/s",
                pairs=list(zip(rates[ours], rates[theirs], strict=True)),
                goal=goal,
            )
        )

    figure("by_command", "by_copy", "The command import_vouchers beside raw COPY", 0.5)
    figure(
        "by_command",
        "by_copy_without_triggers",
        "The command import_vouchers beside raw COPY with triggers and foreign keys off",
    )
    figure("by_command", "by_bulk_create", "The command import_vouchers beside bulk_create", 3.0)
    figure("by_command_with_faults", "by_command", f"A file of which one line in {FAULTY} is repeated or malformed")
    figure("by_api", "by_command", "An upload through the API beside the command", 0.8)
    figure("by_job", "by_command", "The admin's job, from its confirmation, beside the command", 0.8)


def measure_memory(bench: Bench, numbers: list[int]) -> None:
    small = bench.memory(SMALL)
    for number in numbers:
        record(
            Figure(
                name=f"import memory {number}",
                what=f"Peak memory of import_vouchers, {number:,} codes beside {SMALL:,}; it may have {ROOM} MB more",
                ours=f"MB at {number:,}",
                theirs=f"MB at {SMALL:,} and {ROOM}",
                pairs=[(bench.memory(number), small + ROOM)],
                goal=1.0,
                at_most=True,
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Importing codes, beside raw COPY and bulk_create.")
    parser.add_argument("--codes", type=int, default=CODES)
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    parser.add_argument("--large", action="store_true", help="with --memory: also 10,000,000 codes")
    options = parser.parse_args()
    with running_bench() as bench:
        if options.memory:
            measure_memory(bench, [BIG, LARGE] if options.large else [BIG])
        else:
            compare(bench, options.codes)


if __name__ == "__main__":
    main()
