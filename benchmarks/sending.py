"""What `benchmarks.emails` measures, in a process with the settings for it.

The sender takes its emails from the outbox, renders them, sends them over one connection and records each; the loop has
the same messages finished, sends them over one connection and writes nothing down. Both in turn; what counts is the
median of their ratios.
"""

from __future__ import annotations

import smtplib
import statistics
import time

import django
from django.conf import settings

django.setup()

from courses.models import Course  # noqa: E402  # models want Django to be set up
from vouchers.delivery.messages import message_of  # noqa: E402
from vouchers.delivery.outbox import LEASE  # noqa: E402
from vouchers.delivery.sending import send_due  # noqa: E402
from vouchers.issuing import IssueRequest, issue_voucher  # noqa: E402
from vouchers.models import Batch, Delivery, Voucher  # noqa: E402

PAIRS = 7
EMAILS = 1000


def issue(course: Course, round_: int) -> None:
    batch = Batch.objects.create(course=course, actor="bench", source=Batch.Source.COMMAND)
    Voucher.objects.bulk_create(
        Voucher(course=course, batch=batch, code=f"BENCH-{round_:03}-{n:06}", position=n) for n in range(EMAILS)
    )
    for n in range(EMAILS):
        issue_voucher(IssueRequest(course_id=course.pk, email=f"buyer{round_}.{n}@example.com", caller="bench"))


def finished(delivery: Delivery) -> bytes:
    return message_of(delivery).message().as_bytes().replace(b"\n", b"\r\n")


def by_sender() -> float:
    started = time.perf_counter()
    sent = send_due(limit_seconds=LEASE.total_seconds())
    if sent != EMAILS:
        raise SystemExit(f"The sender sent {sent} of {EMAILS}.")
    return EMAILS / (time.perf_counter() - started)


def by_loop(messages: list[tuple[str, bytes]]) -> float:
    started = time.perf_counter()
    with smtplib.SMTP(settings.EMAIL_HOST, settings.EMAIL_PORT) as connection:
        for recipient, message in messages:
            connection.sendmail("vouchers@shop.example", [recipient], message)
    return EMAILS / (time.perf_counter() - started)


def measure(course: Course, round_: int) -> tuple[float, float]:
    issue(course, round_)
    due = list(Delivery.objects.due())
    messages = [(delivery.email, finished(delivery)) for delivery in due]
    if round_ % 2:
        return by_sender(), by_loop(messages)
    loop = by_loop(messages)
    return by_sender(), loop


def main() -> None:
    course = Course.objects.create(id="JS101", name="JavaScript Basics")
    measure(course, 0)  # warm
    pairs = [measure(course, 1 + n) for n in range(PAIRS)]
    print(f"{'sender/s':>10} {'loop/s':>8} {'ratio':>6}")
    for sender, loop in pairs:
        print(f"{sender:10.0f} {loop:8.0f} {sender / loop:6.2f}")
    print(f"median ratio: {statistics.median(sender / loop for sender, loop in pairs):.2f}")


if __name__ == "__main__":
    main()
