"""Emails a second of one sender, beside a bare loop that feeds the same SMTP server over one connection; and of two
workers beside one.

The server is a process of its own and throws away what it gets.
"""

from __future__ import annotations

import os
import secrets
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.desk import ROOT, STARTING, bench_database, free_port


def is_up(port: int) -> bool:
    try:
        smtplib.SMTP("127.0.0.1", port, timeout=5).quit()
    except OSError:
        return False
    return True


@contextmanager
def smtp_server() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "aiosmtpd", "--nosetuid", "--listen", f"127.0.0.1:{port}"]
    server = subprocess.Popen([*command, "--class", "aiosmtpd.handlers.Sink"], cwd=ROOT)
    try:
        deadline = time.monotonic() + STARTING
        while not is_up(port):
            if time.monotonic() > deadline:
                raise SystemExit("The SMTP server did not start.")
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    with bench_database() as url, smtp_server() as port:
        environment = os.environ | {
            "DATABASE_URL": url,
            "EMAIL_URL": f"smtp://127.0.0.1:{port}",
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        for arguments in (["manage.py", "migrate", "--verbosity=0"], ["-m", "benchmarks.sending"]):
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)
