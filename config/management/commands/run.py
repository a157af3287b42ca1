"""`make run`: everything a new machine needs, then the web server and the worker until Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import io
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q

from config import embedded_postgres
from vouchers.models import ApiKey

ANSWERING = 60.0  # seconds until the first answer
STOPPING = 35.0  # longer than gunicorn's graceful_timeout and the worker's
LONGEST_PAUSE = 30.0
STEADY = 60.0  # a child that lived this long has not failed at its start
BIND = os.environ.get("BIND", "127.0.0.1")
REACHED_AT = "127.0.0.1" if BIND in {"", "0.0.0.0"} else BIND  # noqa: S104
WEB = ["-m", "gunicorn", "-c", "config/gunicorn.py", "config.wsgi"]
WORKER = ["manage.py", "procrastinate", "worker", "--shutdown-graceful-timeout", "20"]


@dataclass
class Child:
    """A process that is started again when it ends."""

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] = field(init=False)
    pause: float = 1.0
    since: float = 0.0
    due: float | None = None  # when to start it again

    def start(self) -> None:
        self.since, self.due = time.monotonic(), None
        # preexec_fn is safe here, this process has one thread; there is no other way to have the kernel send
        # a TERM when we are killed and cannot. A session of its own keeps the terminal's Ctrl-C away.
        self.process = subprocess.Popen(
            [sys.executable, *self.arguments],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # With us gone, they still need the embedded database until they have stopped.
            pass_fds=[server.users.fileno() for server in embedded_postgres.held],
            preexec_fn=end_with_parent(),
        )

    def look(self) -> str | None:
        """Start it again if that is due; a sentence if it has just ended."""
        now = time.monotonic()
        if self.due is not None:
            if now >= self.due:
                self.start()
            return None
        if (status := self.process.poll()) is None:
            return None
        self.pause = 1.0 if now - self.since > STEADY else self.pause
        self.due = now + self.pause
        said = f"The {self.name} ended (exit status {status}) and starts again in {self.pause:.0f} s."
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return said

    def signal_group(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


def end_with_parent() -> Callable[[], None] | None:
    """What a child does between fork and exec, where the kernel offers it."""
    if sys.platform != "linux":
        return None
    prctl, parent, set_parent_death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def ask() -> None:
        prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # killed in between
            os._exit(1)

    return ask


class Supervisor:
    """Keeps the children alive until a signal says stop; then the web server first, the worker after it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.children = [Child("web server", WEB), Child("worker", WORKER)]
        self.signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put() may be called in a handler
        self.impatient = False

    def note(self, number: int, frame: FrameType | None) -> None:
        self.signals.put(number)

    def start(self) -> None:
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.note)
        for child in self.children:
            child.start()

    def told_to_stop(self, timeout: float | None) -> bool:
        """Wait for a signal, the timeout or the time to start a child again; whether it is time to stop."""
        dues = [max(0.0, child.due - time.monotonic()) for child in self.children if child.due is not None]
        waits = [wait for wait in (timeout, *dues) if wait is not None]
        stop = self.next_signal(min(waits, default=None)) not in {None, signal.SIGCHLD}
        for child in self.children if not stop else []:
            if said := child.look():
                self.say(said)
        return stop

    def next_signal(self, timeout: float | None) -> int | None:
        try:
            return self.signals.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        self.say("Stopping …")
        for child in self.children:
            if child.due is None:
                self.stop_child(child)

    def stop_child(self, child: Child) -> None:
        if child.process.poll() is None:
            child.process.terminate()
        deadline = time.monotonic() + STOPPING
        while child.process.poll() is None and not self.impatient and time.monotonic() < deadline:
            # A second Ctrl-C: whoever sits there does not want to wait.
            self.impatient = self.next_signal(max(0.0, deadline - time.monotonic())) == signal.SIGINT
        if child.process.poll() is None:
            self.say(f"The {child.name} is killed: it did not stop in time.")
            child.signal_group(signal.SIGKILL)
        child.process.wait()


class Command(BaseCommand):
    help = "Prepare the database, load the demo once, and run the web server and the worker until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # what is going on, also into a file or a pipe
        self.check_port()
        self.prepare()
        connections.close_all()
        supervisor = Supervisor(self.say)
        self.stdout.write("Starting the web server and the worker …")
        supervisor.start()
        try:
            if not self.wait_for_answer(supervisor):
                return
            self.announce()
            connections.close_all()
            while not supervisor.told_to_stop(None):
                pass
        finally:
            supervisor.stop()

    def say(self, sentence: str) -> None:
        # A terminal that was closed must not keep us from stopping in order.
        with contextlib.suppress(OSError):
            self.stderr.write(sentence)

    def check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((BIND, settings.PORT))
            except OSError as error:
                raise CommandError(
                    f"Port {settings.PORT} of {BIND} cannot be had ({error.strerror}). Is the desk running "
                    "already? Another port: PORT=8001 make run"
                ) from None

    def prepare(self) -> None:
        executor = MigrationExecutor(connection)
        if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
            self.stdout.write(f"Preparing the database ({len(plan)} steps) …")
            call_command("migrate", interactive=False)
        else:
            self.stdout.write("Database is up to date.")
        call_command("load_demo")
        if settings.STRIPE_WEBHOOK_SECRET:
            call_command("stripe_webhook")

    def wait_for_answer(self, supervisor: Supervisor) -> bool:
        """Whether the desk answers; False if a signal came first."""
        deadline = time.monotonic() + ANSWERING
        while not answers():
            if supervisor.told_to_stop(0.1):
                return False
            if time.monotonic() > deadline:
                raise CommandError(f"No good answer from /readyz in {ANSWERING:.0f} s: the lines above say why.")
        return True

    def announce(self) -> None:
        base = settings.BASE_URL
        lines = [
            "",
            "The voucher desk is running. Ctrl-C stops it.",
            "",
            f"  Shop:             {base}/",
            f"  Admin:            {base}/admin/",
            f"  Summary page:     {base}/admin/courses/course/",
            f"  Summary as JSON:  {base}/admin/vouchers-summary",
            f"  API, described:   {base}/api/docs",
        ]
        if settings.EMAIL_BACKEND == "vouchers.delivery.kept.KeptEmailBackend":
            lines.append(f"  Mail, kept here:  {base}/admin/vouchers/keptemail/")
        if settings.DEMO_PAYMENTS:
            lines.append("  Payments:         a test payment only, no money moves (docs/stripe.md, docs/paypal.md)")
        self.stdout.write("\n".join([*lines, "", *self.access(), ""]))

    def access(self) -> list[str]:
        """How to get in; the secrets only where nobody has any yet."""
        in_venv = os.path.realpath(sys.prefix) == os.path.realpath(settings.BASE_DIR / ".venv")
        python = ".venv/bin/python manage.py" if in_venv else "python manage.py"
        users = get_user_model()._default_manager
        with transaction.atomic():
            if users.filter(Q(is_superuser=True) | Q(username="admin")).exists():
                return [
                    "  The first start showed a user, a password and an API key. Others are made by",
                    f"  {python} changepassword admin",
                    f"  {python} create_api_key NAME --scope issue",
                ]
            password = secrets.token_urlsafe(12)
            users.create_superuser("admin", password=password)
            _, key = ApiKey.objects.create_key(name="make run", scopes=["issue", "redeem", "manage"])
        return [
            "  User:             admin",
            f"  Password:         {password}",
            f"  API key:          {key}",
            "",
            "  They are shown this once. Others are made by",
            f"  {python} changepassword admin",
            f"  {python} create_api_key NAME --scope issue",
        ]


def answers() -> bool:
    host = next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost")
    ask = http.client.HTTPConnection(REACHED_AT, settings.PORT, timeout=5)
    try:
        ask.request("GET", "/readyz", headers={"Host": host})
        return ask.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        ask.close()
