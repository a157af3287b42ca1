"""What `benchmarks.emails` measures, in a process with the settings for it.

A sender takes its emails from the outbox, looks up what they are about, renders them, sends them over as many
connections as it likes and records each; the loop has the same messages finished, sends them over one connection and
writes nothing down. A worker is such a sender in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import smtplib
import time
from multiprocessing.synchronize import Barrier

import django
from django.conf import settings

django.setup()

from django.db import connections  # noqa: E402  # models want Django to be set up
from django.db.models.functions import Now  # noqa: E402

from benchmarks.figures import Figure, in_turn, record  # noqa: E402
from courses.models import Course  # noqa: E402
from vouchers.delivery.messages import message_of  # noqa: E402
from vouchers.delivery.outbox import LEASE  # noqa: E402
from vouchers.delivery.sending import send_due  # noqa: E402
from vouchers.issuing import IssueRequest, issue_voucher  # noqa: E402
from vouchers.models import Batch, Delivery, Voucher  # noqa: E402

EMAILS = 1000
FORK = multiprocessing.get_context("fork")


def issue() -> None:
    course = Course.objects.create(id="JS101", name="JavaScript Basics")
    batch = Batch.objects.create(course=course, actor="bench", source=Batch.Source.COMMAND)
    Voucher.objects.bulk_create(
        Voucher(course=course, batch=batch, code=f"BENCH-{n:06}", position=n) for n in range(EMAILS)
    )
    for n in range(EMAILS):
        issue_voucher(IssueRequest(course_id=course.pk, email=f"buyer{n}@example.com", caller="bench"))


def make_due() -> None:
    """The same emails once more, as new."""
    Delivery.objects.update(status=Delivery.Status.QUEUED, due_at=Now(), attempts=0, sent_at=None)


def finished(delivery: Delivery) -> bytes:
    return bytes(message_of(delivery).message().as_bytes()).replace(b"\n", b"\r\n")


def by_sender() -> float:
    make_due()
    started = time.perf_counter()
    sent = send_due(limit_seconds=LEASE.total_seconds())
    seconds = time.perf_counter() - started
    if sent != EMAILS:
        raise SystemExit(f"The sender sent {sent} of {EMAILS}.")
    return EMAILS / seconds


def by_loop(messages: list[tuple[str, bytes]]) -> float:
    started = time.perf_counter()
    with smtplib.SMTP(settings.EMAIL_HOST, settings.EMAIL_PORT) as connection:
        for recipient, message in messages:
            connection.sendmail("vouchers@shop.example", [recipient], message)
    return EMAILS / (time.perf_counter() - started)


def work(start: Barrier) -> None:
    Delivery.objects.exists()  # connected to the database, as a worker is
    start.wait()
    send_due(limit_seconds=LEASE.total_seconds())


def by_workers(number: int) -> float:
    make_due()
    connections.close_all()  # or the processes would share one
    start = FORK.Barrier(number + 1)
    workers = [FORK.Process(target=work, args=(start,)) for _ in range(number)]
    for worker in workers:
        worker.start()
    start.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - started
    if left := Delivery.objects.exclude(status=Delivery.Status.SENT).count():
        raise SystemExit(f"The workers left {left} of {EMAILS}.")
    return EMAILS / seconds


def measure_sender() -> None:
    messages = [(delivery.email, finished(delivery)) for delivery in Delivery.objects.all()]
    pairs = in_turn(by_sender, lambda: by_loop(messages))
    what = f"{EMAILS:,} emails by one worker, and finished messages by a bare loop over one connection"
    record(Figure(name="emails", what=what, ours="sender/s", theirs="loop/s", pairs=pairs, goal=0.7))


def measure_workers() -> None:
    pairs = in_turn(lambda: by_workers(2), lambda: by_workers(1))
    what = f"{EMAILS:,} emails by two workers, and by one"
    record(Figure(name="emails of two workers", what=what, ours="two workers/s", theirs="one worker/s", pairs=pairs))


if __name__ == "__main__":
    issue()
    measure_sender()
    measure_workers()
