"""Every page of the admin over many vouchers: the slowest one beside the 300 ms that a page may take.

Each is asked for six times by one superuser, in the process that answers, so that nothing but the desk is measured:
from the request to the last byte of the answer, PostgreSQL and templates included. The first time does not count.

    python -m benchmarks.admin_pages                        300,000 vouchers, a few minutes
    python -m benchmarks.admin_pages --vouchers 10000000    as many as are promised, about half an hour
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys

from benchmarks.desk import ROOT, bench_database
from benchmarks.filling import fill


def main() -> None:
    parser = argparse.ArgumentParser(description="Times every page of the admin.")
    parser.add_argument("--vouchers", type=int, default=300_000)
    vouchers = parser.parse_args().vouchers
    with bench_database() as url:
        environment = os.environ | {
            "DATABASE_URL": url,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        run = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
        subprocess.run(run, cwd=ROOT, env=environment, check=True)
        fill(url, vouchers)
        subprocess.run([sys.executable, "-m", "benchmarks.asking"], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
