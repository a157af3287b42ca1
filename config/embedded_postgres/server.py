"""Starting, joining and leaving the server; `watcher.py` says how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config.embedded_postgres import watcher
from config.embedded_postgres.place import EmbeddedPostgresError, binaries, output_of, prepare
from config.embedded_postgres.watcher import STOPPING, Account, locked, run_as

STARTING = 120.0  # seconds, recovery after a crash included
# Another program took the port a moment ago; the children of a killed server are not all gone yet.
PASSING_FAILURES = ("Address already in use", "shared memory block")

# Statements, values and details of errors hold codes and emails: they go to the client and not into the log.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # loses nothing when killed, only with the machine


@dataclass(eq=False)
class Server:
    """One user's hold on the server of a home."""

    home: Path
    url: str
    users: IO[bytes]
    watcher: subprocess.Popen[bytes] | None

    def release(self) -> None:
        """Let go; the last user waits here until the server is gone."""
        if self not in held:
            return
        held.remove(self)
        with self.users, contextlib.suppress(FileNotFoundError), locked(self.home / "start.lock"):
            fcntl.flock(self.users, fcntl.LOCK_UN)
            if not _try_lock(self.users, fcntl.LOCK_EX) and _try_lock(self.users, fcntl.LOCK_SH):
                return  # others use it; were the watcher stopping it, both would have failed
            fcntl.flock(self.users, fcntl.LOCK_UN)
            with locked(self.home / "watcher.lock"):  # ours once the watcher has stopped the server
                _stop_leftover(self.home / "data")
        if self.watcher:
            self.watcher.wait()


held: list[Server] = []  # by this process; a child that is to go on using a server inherits `users`


def start(home: Path, *, durable: bool = True) -> Server:
    """Start the server of this home, or join those who use it already. Raises EmbeddedPostgresError."""
    try:
        home, account = prepare(home)
        with contextlib.ExitStack() as undo:
            users = undo.enter_context(_open(home / "users.lock"))
            with locked(home / "start.lock"):
                fcntl.flock(users, fcntl.LOCK_SH)  # waits while the watcher stops a server nobody used
                port, watcher = _attach(home, account, durable=durable)
            password = (home / "password").read_text()
            undo.pop_all()
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(f"The embedded PostgreSQL in {home} did not start: {error}.") from error
    # Whatever PGSSLMODE asks of other servers, this one has no TLS: it is reached over loopback only.
    url = f"postgresql://desk:{password}@127.0.0.1:{port}/desk?sslmode=disable"
    held.append(Server(home, url, users, watcher))
    return held[-1]


def kept_secret(path: Path, owner: int = -1) -> str:
    """A random secret, made at the first call and kept in a file that only its owner reads."""
    with locked(path.parent / f"{path.name}.lock"):
        if not path.exists():
            fresh = path.with_name(f"{path.name}.new")
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(50))
            os.chown(fresh, owner, -1)
            fresh.rename(path)
        return path.read_text()


def _open(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb")


def _try_lock(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# Starting ------------------------------------------------------------------------------------------


def _attach(home: Path, account: Account | None, *, durable: bool) -> tuple[int, subprocess.Popen[bytes] | None]:
    """Under start.lock and with a hold on users.lock: the port of the server, once it takes connections."""
    watcher = None
    deadline = time.monotonic() + STARTING
    while True:
        with _open(home / "watcher.lock") as lock:
            if not _try_lock(lock, fcntl.LOCK_EX):
                if port := _ready(home):
                    return port, watcher
            elif watcher and not any(failure in _log(home) for failure in PASSING_FAILURES):
                raise EmbeddedPostgresError(f"The embedded PostgreSQL in {home} did not start. {_log(home)}")
            else:
                watcher = _launch(home, account, lock, durable=durable)
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL in {home} took more than {STARTING:.0f} s to start. {_log(home)}"
            )
        time.sleep(0.02)


def _launch(home: Path, account: Account | None, lock: IO[bytes], *, durable: bool) -> subprocess.Popen[bytes]:
    """Start the watcher, which inherits `lock` and so is known to live as long as that cannot be had."""
    data = home / "data"
    _stop_leftover(data)
    folder, version = binaries(home, account)
    settings = SETTINGS | ({} if durable else NOT_DURABLE)
    if not data.exists():
        _initialise(home, account, folder, durable=durable)
    if (made_by := (data / "PG_VERSION").read_text().strip()) != str(version):
        raise EmbeddedPostgresError(
            f"{data} was made by PostgreSQL {made_by}, and this one is {version}: install PostgreSQL "
            f"{made_by} and move the data with pg_dump, or remove {home} to begin afresh."
        )
    port = _free_port(home / "port")
    (home / "port").write_text(str(port))
    who = [str(account.uid), str(account.gid)] if account else ["", ""]
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = [str(folder / "postgres"), "-D", str(data), "-p", str(port), *options]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-I", watcher.__file__, str(home), *who, *server],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            pass_fds=[lock.fileno()],
            start_new_session=True,  # the terminal's Ctrl-C is not for the server
        )


def _initialise(home: Path, account: Account | None, folder: Path, *, durable: bool) -> None:
    """Made under another name, so that a start that is interrupted leaves no half of a cluster."""
    fresh = home / "data.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    if account:
        os.chown(fresh, account.uid, account.gid)
    (home / "password").unlink(missing_ok=True)
    kept_secret(home / "password", account.uid if account else -1)
    options = ["--username=desk", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    options += [] if durable else ["--no-sync"]
    _tool([folder / "initdb", "-D", fresh, f"--pwfile={home / 'password'}", *options], account)
    fsync = f"fsync={'on' if durable else 'off'}"
    alone = [folder / "postgres", "--single", "-D", fresh, "-c", fsync, "postgres"]
    _tool(alone, account, "CREATE DATABASE desk\n")
    fresh.rename(home / "data")


def _tool(command: Sequence[object], account: Account | None, told: str = "") -> None:
    done = subprocess.run(
        [str(part) for part in command],
        input=told,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        start_new_session=True,
        **run_as(account),
    )
    if done.returncode or "ERROR:" in str(done.stdout):
        raise EmbeddedPostgresError(f"The embedded PostgreSQL could not be set up: {done.stdout.strip()}")


def _free_port(kept: Path) -> int:
    """The port of the last time while it is free, so that an address someone noted stays right."""
    for port in (int(kept.read_text()) if kept.exists() else 0, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    raise EmbeddedPostgresError("No free port on 127.0.0.1 for the embedded PostgreSQL.")


def _ready(home: Path) -> int | None:
    """The port, if the server says it is ready, on the port of this start, and answers there.

    The file of a killed server says ready too, and a port alone may be another program's: so all three.
    """
    try:
        lines = (home / "data" / "postmaster.pid").read_text().splitlines()
        port = int((home / "port").read_text())
        if len(lines) < 8 or lines[3] != str(port) or lines[7].strip() != "ready":
            return None
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            probe.sendall(struct.pack("!ii", 8, 80877103))  # "TLS?", answered before anyone logs in
            return port if probe.recv(1) else None
    except (OSError, ValueError):
        return None


def _log(home: Path) -> str:
    """The last lines of the server's log, as the end of a sentence."""
    lines = (home / "log").read_text(errors="replace").splitlines()[-6:]
    return "\n".join([f"Its log ({home / 'log'}) ends:", *lines]) if lines else "Its log is empty."


# Stopping ------------------------------------------------------------------------------------------


def _stop_leftover(data: Path) -> None:
    """Stop a server whose watcher was killed: nobody else would."""
    file = data / "postmaster.pid"
    deadline = time.monotonic() + STOPPING
    asked = None
    while command := _command(pid := _pid(file)):
        if "postgres" not in command or str(data) not in command:
            # The number belongs to another process since; PostgreSQL would take that one for its own.
            file.unlink(missing_ok=True)
            return
        how = signal.SIGINT if time.monotonic() < deadline else signal.SIGQUIT
        if how != asked:
            os.kill(pid, how)
            asked = how
        time.sleep(0.02)


def _pid(file: Path) -> int:
    try:
        return int(file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return 0


def _command(pid: int) -> str:
    """The command line of a process; empty if there is none, or only its remains."""
    if not pid:
        return ""
    if not Path("/proc/self/cmdline").exists():
        return output_of("ps", "-o", "command=", "-p", str(pid))
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
    except (FileNotFoundError, ProcessLookupError):
        return ""
