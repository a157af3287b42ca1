"""A desk as in production, on a durable database of its own, for the time of a benchmark."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from config import embedded_postgres

ROOT = Path(__file__).resolve().parent.parent
STARTING = 60.0  # seconds


@dataclass
class Desk:
    port: int
    environment: dict[str, str]
    process: int = 0  # of the web server, once it runs

    def manage(self, *arguments: str) -> str:
        """Runs a command; the last line of what it says."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, check=True, input=""
        )
        return done.stdout.strip().splitlines()[-1]

    def fill(self, course: str, codes: Iterable[str]) -> None:
        """Stores codes, of a course that is made where there is none of that id."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "codes.txt"
            file.write_text("".join(f"{code}\n" for code in codes))
            self.manage("import_vouchers", str(file), "--course", course, "--create-course", f"Course {course}")

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept open."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def is_up(self) -> bool:
        try:
            connection = self.connect()
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False


@contextmanager
def bench_database() -> Iterator[str]:
    """An empty database on a durable server of the benchmarks' own; its URL."""
    server = embedded_postgres.start(ROOT / ".pg-bench")
    name = f"bench_{secrets.token_hex(4)}"
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(urlsplit(server.url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.release()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(is_so: Callable[[], bool], otherwise: str, seconds: float = STARTING) -> None:
    """Asks until it is so; ends the benchmark with what is to be said otherwise."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(otherwise)
        time.sleep(0.05)


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    """A server's process, and its number; what it writes is of no interest here."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield server.pid
        finally:
            server.terminate()
            server.wait()


@contextmanager
def served(desk: Desk) -> Iterator[Desk]:
    command = [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "config.wsgi"]
    with started(command, desk.environment) as desk.process:
        wait_until(desk.is_up, "The desk did not start.")
        yield desk


@contextmanager
def running_desk(**environment: str) -> Iterator[Desk]:
    """Web server and PostgreSQL; no worker, so that nothing is measured but what is asked for."""
    with bench_database() as url:
        port = free_port()
        ours = {"DATABASE_URL": url, "PORT": str(port), "SECRET_KEY": secrets.token_urlsafe(50)}
        desk = Desk(port, os.environ | ours | environment)
        desk.manage("migrate")
        with served(desk):
            yield desk


@contextmanager
def settings_of_a_desk(**environment: str) -> Iterator[dict[str, str]]:
    """The environment of a process with a desk's settings, on a database with its tables and nothing in them."""
    with bench_database() as url:
        settings = {"DJANGO_SETTINGS_MODULE": "config.settings", "SECRET_KEY": secrets.token_urlsafe(50)}
        ours = os.environ | settings | {"DATABASE_URL": url} | environment
        run_in(ours, "manage.py", "migrate", "--verbosity=0")
        yield ours


def run_in(environment: dict[str, str], *arguments: str) -> None:
    """Python with these arguments, to its end."""
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)


def run_with_settings(module: str, *arguments: str, **environment: str) -> None:
    """Runs a module of the benchmarks in a process with the settings for it, on an empty database."""
    with settings_of_a_desk(**environment) as ours:
        run_in(ours, "-m", module, *arguments)


@contextmanager
def beside(desk: Desk, **environment: str) -> Iterator[Desk]:
    """A second web server on the database of a desk, with something set differently."""
    port = free_port()
    with served(Desk(port, desk.environment | {"PORT": str(port)} | environment)) as other:
        yield other
