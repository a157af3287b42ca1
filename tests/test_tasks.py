"""What the worker does by the clock."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from procrastinate import App
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from vouchers import tasks
from vouchers.delivery import sending
from vouchers.models import Delivery, Guess, Issuance, KeptEmail

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_jobs(db: None) -> None:
    """The tables are procrastinate's own, so the tests that commit leave rows there."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


def run_worker(worker_app: App) -> None:
    """A real worker with its own connections, until no job is left."""

    async def work() -> None:
        async with worker_app.open_async() as opened:
            await opened.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    with worker_app.replace_connector(worker_app.connector.get_worker_connector()):  # type: ignore[attr-defined]
        async_to_sync(work)()


def add_job(task: str, status: str = "todo", *, lock: str | None = None, worker: int | None = None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, queueing_lock, worker_id)"
            """ VALUES ('default', %s, '{"timestamp": 0}', %s, %s, %s) RETURNING id""",
            [f"vouchers.tasks.{task}", status, lock, worker],
        )
        return int(cursor.fetchone()[0])


def add_worker(*, seconds_ago: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - make_interval(secs => %s))"
            " RETURNING id",
            [seconds_ago],
        )
        return int(cursor.fetchone()[0])


def finish(job: int, *, hours_ago: int, status: str = "succeeded") -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [job])
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status WHERE id = %s", [status, job]
        )
        cursor.execute(
            "UPDATE procrastinate_events SET at = now() - make_interval(hours => %s) WHERE job_id = %s",
            [hours_ago, job],
        )


@pytest.mark.parametrize(
    ("name", "cron"),
    [
        ("send_due_emails", "* * * * * *"),
        ("fill_queues", "* * * * * */2"),
        ("alert_staff", "* * * * * */10"),
        ("send_codes_again", "* * * * * */5"),
        ("fold_tallies", "* * * * * *"),
        ("remind_buyers", "13 * * * *"),
        ("check_books_at_night", "17 2 * * *"),
        ("recover_stalled_jobs", "* * * * *"),
        ("tidy_up", "7 * * * *"),
    ],
)
def test_it_is_done_by_the_clock(name: str, cron: str) -> None:
    periodic = app.periodic_registry.periodic_tasks[f"vouchers.tasks.{name}", ""]

    assert periodic.cron == cron
    assert periodic.task.queueing_lock == name


def test_its_seconds_are_the_sixth_field() -> None:
    """Every second, not every second minute: libraries differ in where the seconds stand."""
    periodic: Any = app.periodic_registry.periodic_tasks
    for name, seconds in [("send_due_emails", 1), ("fill_queues", 2)]:
        croniter = periodic[f"vouchers.tasks.{name}", ""].croniter
        first, second = (croniter.get_next(ret_type=float) for _ in range(2))
        assert second - first == seconds


def test_it_sends_what_is_due(course: Course, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "vouchers.delivery.kept.KeptEmailBackend"
    make_pool(course, 1)
    issue_to(course, "ann@example.com")

    tasks.send_due_emails(timestamp=0)

    assert KeptEmail.objects.get().to == "ann@example.com"
    assert Delivery.objects.get().status == Delivery.Status.SENT


def test_it_sends_in_one_thread_of_a_worker_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow mail server must not take all threads, or nobody would fill the queues."""
    begun, may_end, calls = threading.Event(), threading.Event(), []

    def slow() -> int:
        calls.append(threading.current_thread())
        begun.set()
        assert may_end.wait(30)
        return 0

    monkeypatch.setattr(sending, "send_due", slow)
    first = threading.Thread(target=tasks.send_due_emails, kwargs={"timestamp": 0})
    first.start()
    assert begun.wait(30)

    tasks.send_due_emails(timestamp=1)
    assert calls == [first]
    may_end.set()
    first.join(30)
    tasks.send_due_emails(timestamp=2)
    assert len(calls) == 2


def test_it_fills_the_queues(course: Course) -> None:
    issuance = issue_to(course, "ann@example.com")
    assert issuance.status == Issuance.Status.WAITING
    make_pool(course, 1)

    tasks.fill_queues(timestamp=0)

    issuance.refresh_from_db()
    assert issuance.status == Issuance.Status.ISSUED
    assert issuance.deliveries.get().status == Delivery.Status.QUEUED


@pytest.mark.django_db(transaction=True)
def test_a_worker_does_a_queued_job_and_leaves_nothing_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker's threads outlive the test; their connections must not, or its database cannot be dropped.
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    settings.EMAIL_BACKEND = "vouchers.delivery.kept.KeptEmailBackend"
    course = CourseFactory.create()
    make_pool(course, 1)
    issue_to(course, "ann@example.com")
    job = add_job("send_due_emails")

    run_worker(app)

    assert Delivery.objects.get().status == Delivery.Status.SENT
    assert not ProcrastinateJob.objects.filter(pk=job).exists()


@pytest.mark.django_db(transaction=True)
def test_it_puts_the_jobs_of_dead_workers_back_into_the_queue() -> None:
    dead, alive = add_worker(seconds_ago=120), add_worker(seconds_ago=1)
    stalled = add_job("tidy_up", "doing", worker=dead)
    orphaned = add_job("tidy_up", "doing")  # its worker's row is gone
    running = add_job("tidy_up", "doing", worker=alive)

    async_to_sync(tasks.recover_stalled_jobs.func)(timestamp=0)

    statuses = dict(ProcrastinateJob.objects.values_list("pk", "status"))
    assert statuses == {stalled: "todo", orphaned: "todo", running: "doing"}


@pytest.mark.django_db(transaction=True)
def test_it_drops_a_stalled_job_whose_successor_waits() -> None:
    """Put back, it would break the queueing lock, and with it the recovery of all others."""
    dead = add_worker(seconds_ago=120)
    add_job("fill_queues", "doing", lock="fill_queues", worker=dead)
    other = add_job("tidy_up", "doing", lock="tidy_up", worker=dead)
    successor = add_job("fill_queues", lock="fill_queues")

    async_to_sync(tasks.recover_stalled_jobs.func)(timestamp=0)

    statuses = dict(ProcrastinateJob.objects.values_list("pk", "status"))
    assert statuses == {other: "todo", successor: "todo"}


def test_it_tidies_up() -> None:
    old_guess = Guess.objects.create(caller="address:192.0.2.1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE vouchers_guess SET at = now() - interval '1 hour'")
    new_guess = Guess.objects.create(caller="address:192.0.2.1")
    old, new, failed, long_failed = (add_job("tidy_up") for _ in range(4))
    finish(old, hours_ago=25)
    finish(new, hours_ago=23)
    finish(failed, hours_ago=25, status="failed")
    finish(long_failed, hours_ago=24 * 7 + 1, status="failed")
    waiting = add_job("fill_queues")

    async_to_sync(tasks.tidy_up.func)(timestamp=0)

    assert list(Guess.objects.all()) == [new_guess] != [old_guess]
    assert set(ProcrastinateJob.objects.values_list("pk", flat=True)) == {new, failed, waiting}
