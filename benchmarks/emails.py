"""Emails a second of one sender, beside a bare loop that feeds the same SMTP server over one connection; and of two
workers beside one.

The server is a process of its own and throws away what it gets.
"""

from __future__ import annotations

import os
import smtplib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.desk import free_port, run_with_settings, started, wait_until


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
    with started([*command, "--class", "aiosmtpd.handlers.Sink"], dict(os.environ)):
        wait_until(lambda: is_up(port), "The SMTP server did not start.")
        yield port


if __name__ == "__main__":
    with smtp_server() as port:
        run_with_settings("benchmarks.sending", EMAIL_URL=f"smtp://127.0.0.1:{port}")
