"""One of those that `benchmarks.packages` compares, in a process of its own: does what standard input tells it.

`python -m benchmarks.contender benchmarks.plain.deeds`; a line is `store`, `issue` or `redeem` with the numbers of a
first code and of the one after the last. Answers with how many a second; 16 threads issue and redeem.
"""

from __future__ import annotations

import importlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import django

THREADS = 16


def code(number: int) -> str:
    return f"BENCH-{number:07}"


def email(number: int) -> str:
    return f"buyer{number}@example.com"


def main(name: str) -> None:
    django.setup()
    deeds = importlib.import_module(name)
    deeds.prepare()
    print("ready", flush=True)
    with ThreadPoolExecutor(THREADS) as threads:
        for line in sys.stdin:
            deed, first, end = line.split()
            numbers = range(int(first), int(end))
            given = list(map(email if deed == "issue" else code, numbers))
            started = time.perf_counter()
            if deed == "store":
                deeds.store(given)
            else:
                list(threads.map(getattr(deeds, deed), given))
            print(len(numbers) / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
