"""The summary of 200 courses, by tallies and by counting, and what it costs to keep the tallies.

- SQL: what GET /admin/vouchers-summary asks, beside the same numbers of vouchers by one GROUP BY. The former counts
  the buyers in the queues too, and adds up the changes of 700 issues that are not folded yet, a second of a busy desk.
- HTTP: GET /admin/vouchers-summary beside GET /empty with the same key. The summary runs that statement and answers
  with 200 rows, 26 kB; the other with one word. Nothing is committed meanwhile, so the rows are the last ones, and
  then again while rows are committed all the time, so that each answer is counted anew. And its 304 beside its 200.
- Issuing: POST /issue-voucher, and the service alone in one thread, with the triggers that keep the tallies on and off.

1,000,000 vouchers; `--vouchers 10000000` for the large one, some minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.desk import ROOT, running_desk

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--vouchers", type=int, default=1_000_000)
    vouchers = parser.parse_args().vouchers
    with running_desk(DJANGO_SETTINGS_MODULE="benchmarks.settings") as desk:
        key = desk.manage("create_api_key", "bench", "--scope", "issue", "--scope", "manage")
        command = [sys.executable, "-m", "benchmarks.counting", str(desk.port), key, str(vouchers)]
        subprocess.run(command, cwd=ROOT, env=desk.environment, check=True)
