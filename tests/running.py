"""A desk as in production, for tests from outside: web server with several processes, worker, PostgreSQL, SMTP
server. Its log may hold no traceback, no code and no email."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import requests

from tests.racing import wait_until
from tests.smtp_server import SmtpServer, running_smtp_server

ROOT = Path(__file__).resolve().parent.parent
CODE = re.compile(r"\b(?:JS101|PY201)-[A-Z0-9]+-\d+\b")


@dataclass
class Desk:
    """A running desk on a database of its own."""

    url: str
    environment: dict[str, str]
    session: threading.local = field(default_factory=threading.local)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    def call(self, method: str, path: str, key: str = "", **options: Any) -> requests.Response:
        if not hasattr(self.session, "http"):  # one connection a thread, kept open
            self.session.http = requests.Session()
        headers = {"Authorization": f"Api-Key {key}"} if key else {}
        http: requests.Session = self.session.http
        return http.request(method, self.url + path, headers=headers, timeout=60, **options)

    def is_ready(self) -> bool:
        try:
            return bool(self.call("GET", "/readyz").json().get("worker"))
        except requests.ConnectionError:
            return False


@contextmanager
def database() -> Iterator[str]:
    """An empty database on the tests' server; its URL."""
    server = os.environ["DATABASE_URL"]
    name = f"end_to_end_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def process(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[None]:
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def smtp(settings: Any) -> Iterator[SmtpServer]:
    """A mail server, and the settings of this process that lead to it."""
    with running_smtp_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
        settings.DEFAULT_FROM_EMAIL = "Course Shop <vouchers@shop.example>"
        yield server


@contextmanager
def running_desk(folder: Path, smtp: SmtpServer) -> Iterator[Desk]:
    with ExitStack() as stack:
        port = free_port()
        environment = os.environ | {
            "DATABASE_URL": stack.enter_context(database()),
            "EMAIL_URL": f"smtp://{smtp.host}:{smtp.port}",
            "PORT": str(port),
            "BASE_URL": f"http://127.0.0.1:{port}",
            "WEB_CONCURRENCY": "3",
        }
        desk = Desk(f"http://127.0.0.1:{port}", environment)
        desk.manage("migrate")
        stack.enter_context(
            process(folder / "web.log", environment, "-m", "gunicorn", "-c", "config/gunicorn.py", "config.wsgi")
        )
        stack.enter_context(process(folder / "worker.log", environment, "manage.py", "procrastinate", "worker"))
        wait_until(desk.is_ready)
        yield desk
    logs = (folder / "web.log").read_text() + (folder / "worker.log").read_text()
    assert "Traceback" not in logs, logs[-5000:]
    assert "@example.com" not in logs
    assert not CODE.search(logs)


@pytest.fixture
def desk(tmp_path: Path, smtp: SmtpServer) -> Iterator[Desk]:
    with running_desk(tmp_path, smtp) as desk:
        yield desk


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One desk for all tests of a module, each of which looks at rows of its own."""
    with running_smtp_server() as smtp, running_desk(tmp_path_factory.mktemp("desk"), smtp) as desk:
        yield desk
