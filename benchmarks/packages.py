"""The desk beside what people would pick instead: django-oscar's voucher sets, and a plain Django implementation.

The same: PostgreSQL and its settings, the codes, how many of them, Django 5.2; each in a process of its own, with
16 threads for issuing and redeeming. Services are called, not HTTP, because neither of the others has an API for it.

Different is the work done. Storing: the desk cleans and checks each code and says of each line what became of it; the
others report nothing, and one code that exists stops a voucher set. Issuing: the plain implementation binds a code to
an email and no more; the desk looks for an earlier request of this buyer, minds expiry and the queue, and writes the
issuance and the email to be sent. Redeeming: the desk writes a purchase and its redemption, counts wrong guesses, and
lets one of two calls at a time win; a voucher set lets both, for it asks first and writes then.

django-oscar gets an environment of its own, .venv-bench; the plain implementation is `benchmarks/plain`.
"""

from __future__ import annotations

import filecmp
import itertools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from benchmarks.desk import ROOT, bench_database
from benchmarks.figures import Figure, in_turn, record

OSCAR = ROOT / ".venv-bench"
REQUIREMENTS = ROOT / "benchmarks" / "oscar" / "requirements.txt"
STORED = 5_000
USED = 1_000

Measure = Callable[[str, int], float]


def oscar_python() -> Path:
    """The Python of an environment with django-oscar, made once; a copy of the list in it says what is installed."""
    python, installed = OSCAR / "bin" / "python", OSCAR / "requirements.txt"
    if not installed.exists() or not filecmp.cmp(REQUIREMENTS, installed, shallow=False):
        shutil.rmtree(OSCAR, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(OSCAR)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        shutil.copy(REQUIREMENTS, installed)
    return python


@contextmanager
def contender(settings: str, deeds: str, python: str | Path = sys.executable) -> Iterator[Measure]:
    """A process on a database of its own that measures a deed done so many times, each with a code of its own."""
    with bench_database() as url:
        ours = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": settings, "SECRET_KEY": secrets.token_urlsafe(50)}
        process = subprocess.Popen(
            [str(python), "-m", "benchmarks.contender", deeds],
            cwd=ROOT,
            env=os.environ | ours,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        done = {"store": itertools.count(), "issue": itertools.count(), "redeem": itertools.count()}
        read, told = cast(IO[str], process.stdout).readline, cast(IO[str], process.stdin)

        def measure(deed: str, number: int) -> float:
            first = number * next(done[deed])
            told.write(f"{deed} {first} {first + number}\n")
            told.flush()
            return float(read())

        try:
            if read() != "ready\n":
                raise SystemExit(f"{deeds} did not start.")
            yield measure
        finally:
            told.close()
            process.wait()


def compare(deed: str, number: int, what: str, ours: Measure, name: str, theirs: Measure) -> None:
    pairs = in_turn(lambda: ours(deed, number), lambda: theirs(deed, number))
    record(
        Figure(
            name=f"packages_{deed}_{name}",
            what=f"{what}, beside {name}",
            ours="desk/s",
            theirs=f"{name}/s",
            pairs=pairs,
        )
    )


def main() -> None:
    with (
        contender("config.settings", "benchmarks.deeds") as desk,
        contender("benchmarks.plain.settings", "benchmarks.plain.deeds") as plain,
        contender("benchmarks.oscar.settings", "benchmarks.oscar.deeds", oscar_python()) as oscar,
    ):
        storing = f"Storing {STORED:,} codes"
        compare("store", STORED, storing, desk, "django-oscar", oscar)
        compare("store", STORED, storing, desk, "plain Django", plain)
        compare("issue", USED, "Issuing the next code of a pool, 16 threads", desk, "plain Django", plain)
        compare("redeem", USED, "Redeeming a code, 16 threads", desk, "django-oscar", oscar)


if __name__ == "__main__":
    main()
