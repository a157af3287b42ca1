"""The watcher, whose child the server is: it ends the server with its last user.

Every user holds a shared lock on `users.lock` as long as it lives, and the watcher waits for the exclusive one.
The kernel drops a lock with its process, so the server ends even if that was killed, and never under another.
Run by path (`python -I watcher.py HOME UID GID COMMAND…`), so it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STOPPING = 60.0  # seconds


class Account(NamedTuple):
    """Whom the server runs as where we are root, which PostgreSQL refuses to be."""

    uid: int
    gid: int

    def reaches(self, path: Path) -> bool:
        """By permission bits alone; a folder opened by an access list only counts as closed."""
        for part in (path, *path.parents):
            found = part.stat()
            bit = 0o100 if found.st_uid == self.uid else 0o010 if found.st_gid == self.gid else 0o001
            if not found.st_mode & bit:
                return False
        return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def run_as(account: Account | None) -> dict[str, Any]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    who = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    return {"env": kept | {"LC_ALL": "C"}, **who}


def watch(home: Path, account: Account | None, command: list[str]) -> None:
    """Run the server until nobody holds users.lock any more, or until it ends by itself."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=home / "data", **run_as(account))
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
    threading.Thread(target=_stop_when_unused, args=(home, server), daemon=True).start()
    server.wait()


def _stop_when_unused(home: Path, server: subprocess.Popen[bytes]) -> None:
    with locked(home / "users.lock"):
        server.send_signal(signal.SIGINT)  # disconnects everybody and writes everything
        try:
            server.wait(STOPPING)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)  # the next start recovers from its log
        threading.Event().wait()  # the process ends with both locks held: there is no moment between them


if __name__ == "__main__":
    _home, _uid, _gid, *_command_line = sys.argv[1:]
    watch(Path(_home), Account(int(_uid), int(_gid)) if _uid else None, _command_line)
