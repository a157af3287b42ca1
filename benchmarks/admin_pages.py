"""Every page of the admin over many vouchers: the slowest one beside the 300 ms that a page may take.

Each is asked for six times by one superuser, in the process that answers, so that nothing but the desk is measured:
from the request to the last byte of the answer, PostgreSQL and templates included. The first time does not count.

    python -m benchmarks.admin_pages                        300,000 vouchers, a minute or two
    python -m benchmarks.admin_pages --vouchers 10000000    as many as are promised, five minutes
"""

from __future__ import annotations

import argparse

from benchmarks.desk import run_in, settings_of_a_desk
from benchmarks.filling import fill


def main() -> None:
    parser = argparse.ArgumentParser(description="Times every page of the admin.")
    parser.add_argument("--vouchers", type=int, default=300_000)
    vouchers = parser.parse_args().vouchers
    with settings_of_a_desk(LOG_LEVEL="WARNING") as environment:
        fill(environment["DATABASE_URL"], vouchers)
        run_in(environment, "-m", "benchmarks.asking")


if __name__ == "__main__":
    main()
