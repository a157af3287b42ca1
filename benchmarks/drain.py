"""Issues a second from one large course, the last tenth of a long run beside its first tenth.

All the while another session holds a transaction open, so that nothing that was issued can be vacuumed away. One in a
hundred issues is rolled back, and as many codes are returned to the pool. Then twenty clients take the last 1,000 codes
of a course, beside the first 1,000 of it. See `benchmarks.draining`; `--large` issues 500,000 of 1,000,000.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

from benchmarks.desk import ROOT, bench_database

if __name__ == "__main__":
    with bench_database() as url:
        environment = os.environ | {
            "DATABASE_URL": url,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        for arguments in (["manage.py", "migrate", "--verbosity=0"], ["-m", "benchmarks.draining", *sys.argv[1:]]):
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)
