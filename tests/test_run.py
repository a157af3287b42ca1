"""`manage.py run` in a copy of this tree, as a new machine would see it, and `manage.py` beside it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.embedded_postgres import ELSEWHERE, Account
from tests.racing import wait_until
from tests.running import free_port

TREE = Path(__file__).resolve().parent.parent
OURS = (
    "DATABASE_URL",
    "EMBEDDED_POSTGRES_RUNNING",
    "SECRET_KEY",
    "BASE_URL",
    "ALLOWED_HOSTS",
    "BIND",
    "EMAIL_URL",
)


@dataclass
class Desk:
    """A copy of the tree and the `manage.py run` in it."""

    tree: Path
    account: Account | None = None
    python: str = sys.executable
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in OURS}
        return kept | {"PORT": str(self.port), "PYTHONPATH": sysconfig.get_path("purelib"), **more}

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, "manage.py", *arguments],
            cwd=self.tree,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=120,
            **self.run_as(),
        )

    def run_as(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    @property
    def output(self) -> str:
        return (self.tree.parent / "output").read_text(errors="replace")

    def start(self) -> str:
        """Until it has said everything; answers what it said."""
        with (self.tree.parent / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [self.python, "manage.py", "run"],
                cwd=self.tree,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self.run_as(),
            )
        wait_until(self.started, 90, said=lambda: self.output)
        return self.output

    def started(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.output
        return "manage.py create_api_key" in self.output

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, how: Callable[[int], None]) -> int:
        assert self.process
        how(self.process.pid)
        return self.process.wait(timeout=90)

    def web(self) -> int:
        """The pid of gunicorn's master, the newest of them."""
        return int(re.findall(r"Listening at: \S+ \((\d+)\)", self.output)[-1])

    def left(self) -> list[str]:
        """What still runs in the copy or in its database's folder."""
        places = (str(self.tree), str((self.tree / ".pg").resolve()))
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd").startswith(places):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # ended meanwhile
        return found

    def is_gone(self) -> bool:
        with socket.socket() as probe:
            closed = probe.connect_ex(("127.0.0.1", self.port)) != 0
        return closed and not self.left() and not (self.tree / ".pg" / "data" / "postmaster.pid").exists()


@contextmanager
def copied(place: Path, account: Account | None = None, python: str = sys.executable) -> Iterator[Desk]:
    ignored = [line.strip("/") for line in (TREE / ".gitignore").read_text().split()]
    shutil.copytree(TREE, place / "the desk", ignore=shutil.ignore_patterns(".git", *ignored))
    if account:
        for path in (place, *place.rglob("*")):
            os.chown(path, account.uid, account.gid)
    desk = Desk(place / "the desk", account, python)
    try:
        yield desk
    finally:
        if desk.process and desk.process.poll() is None:
            desk.process.kill()
            desk.process.wait()
        wait_until(lambda: not desk.left(), 90, said=lambda: "\n".join(desk.left()))
        home = (desk.tree / ".pg").resolve()
        if home.parent == ELSEWHERE:
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with copied(tmp_path_factory.mktemp("a folder with spaces")) as desk:
        yield desk


@pytest.fixture(scope="module")
def first(desk: Desk) -> str:
    """What the first start said; the desk runs no more, the next start finds what this one left."""
    said = desk.start()
    assert desk.answers()
    key = re.findall(r"API key:\s+(\S+)", said)
    assert len(key) == 1
    status, body = desk.get("/admin/vouchers-summary", Authorization=f"Api-Key {key[0]}")
    assert status == 200, body
    assert {row["courseId"] for row in json.loads(body)}, "the demo has a course"
    beside = desk.manage("vouchers_summary")
    assert beside.returncode == 0, beside.stderr
    assert desk.answers()  # the command's exit did not take the database away
    assert desk.stop(lambda pid: os.kill(pid, signal.SIGTERM)) == 0, desk.output
    assert desk.is_gone(), desk.left()
    return said


@pytest.fixture
def running(desk: Desk, first: str) -> Iterator[Desk]:
    desk.start()
    yield desk
    if desk.process and desk.process.poll() is None:
        desk.stop(lambda pid: os.kill(pid, signal.SIGTERM))


def test_it_says_where_it_is_and_how_to_get_in(desk: Desk, first: str) -> None:
    for path in ("/admin/", "/admin/courses/course/", "/admin/vouchers-summary", "/api/docs"):
        assert f"http://127.0.0.1:{desk.port}{path}" in first
    assert re.findall(r"User:\s+(\S+)", first) == ["admin"]
    assert len(re.findall(r"Password:\s+(\S{12,})", first)) == 1


def test_it_keeps_its_data_and_its_secrets(running: Desk, first: str) -> None:
    password, key = re.findall(r"(?:Password|API key):\s+(\S+)", first)
    assert "Database is up to date." in running.output
    assert password not in running.output
    assert key not in running.output
    assert "changepassword admin" in running.output
    assert running.get("/admin/vouchers-summary", Authorization=f"Api-Key {key}")[0] == 200


def test_it_stops_in_order_at_ctrl_c(running: Desk) -> None:
    assert running.stop(lambda pid: os.killpg(pid, signal.SIGINT)) == 0
    assert running.is_gone(), running.left()
    assert "Traceback" not in running.output


def test_it_starts_a_dead_child_again(running: Desk) -> None:
    killed = running.web()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: running.web() != killed and running.answers(), 90)
    assert "The web server ended" in running.output


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no kernel tells the children")
def test_it_leaves_nothing_behind_when_it_is_killed(running: Desk) -> None:
    running.stop(lambda pid: os.kill(pid, signal.SIGKILL))
    wait_until(running.is_gone, 90, said=lambda: "\n".join(running.left()))


def test_it_names_the_port_that_is_taken(desk: Desk, first: str) -> None:
    with socket.create_server(("127.0.0.1", desk.port)):
        refused = desk.manage("run")
    assert refused.returncode == 1
    assert f"Port {desk.port}" in refused.stderr
    assert "PORT=8001" in refused.stderr
    assert desk.is_gone(), desk.left()


def test_it_answers_without_a_database_what_needs_none(desk: Desk) -> None:
    before = (desk.tree / ".pg").exists()
    for arguments in (["help"], ["version"], ["migrate", "--help"], ["check"], []):
        done = desk.manage(*arguments)
        assert done.returncode == 0, done.stderr
    assert (desk.tree / ".pg").exists() == before


def test_it_refuses_by_a_sentence(desk: Desk) -> None:
    for arguments in (["check"], ["run"], ["vouchers_summary"]):
        refused = desk.manage(*arguments, DATABASE_URL="postgresql://desk@127.0.0.1:1/desk")
        assert refused.returncode == 1
        assert refused.stderr.startswith("SECRET_KEY: ")
        assert len(refused.stderr.splitlines()) == 1


def test_it_lets_the_database_go_when_a_command_is_told_to_end(desk: Desk, first: str) -> None:
    command = [
        desk.python,
        "manage.py",
        "shell",
        "-c",
        "import time; print('up', flush=True); time.sleep(60)",
    ]
    with subprocess.Popen(
        command, cwd=desk.tree, env=desk.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert any(b"up" in line for line in iter(process.stdout.readline, b""))
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert desk.is_gone(), desk.left()


def ordinary_python() -> tuple[Account, str] | None:
    """An account that is not root, and a Python of our version that it can run; with our libraries."""
    account = Account(65534, 65534)
    for python in (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path=os.defpath)):
        paths = [Path(python).resolve(), Path(sysconfig.get_path("purelib")).resolve()] if python else []
        if python and all(account.reaches(path) for path in paths):
            return account, python
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here already ran as an ordinary account")
def test_it_runs_as_an_ordinary_account() -> None:
    found = ordinary_python()
    if found is None:
        pytest.skip("NOT TESTED: no ordinary account can reach this Python and these libraries")
    account, python = found
    with (
        tempfile.TemporaryDirectory(prefix="ordinary account ") as folder,
        copied(Path(folder), account, python) as desk,
    ):
        said = desk.start()
        assert "API key:" in said
        assert (desk.tree / ".pg" / "data").stat().st_uid == account.uid
        assert not (desk.tree / ".pg").is_symlink()
        assert desk.stop(lambda pid: os.kill(pid, signal.SIGTERM)) == 0
        assert desk.is_gone(), desk.left()
