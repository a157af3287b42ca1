"""A buyer who left something in every table, and how to see that nothing of them is left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.db import connection
from django.utils import timezone

from courses.models import Course
from tests.factories import UserFactory, make_pool
from tests.stripe_events import Payment, tell
from vouchers.correcting import correct_address
from vouchers.delivery.sending import send_due
from vouchers.errors import AlreadyRedeemed
from vouchers.guesses import Guesser
from vouchers.issuing import IssueRequest, issue_voucher
from vouchers.models import (
    Batch,
    Checkup,
    DeliveryEvent,
    Issuance,
    RejectedLine,
    ResendRequest,
    WebhookReceiver,
)
from vouchers.privacy import erasing
from vouchers.privacy.erasing import erase_buyer
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.tombstones import tombstone_of

EMAIL = "ann@x.co"  # short enough for every column that is not of a few words
TOMBSTONE = tombstone_of(EMAIL)
NEIGHBOURS = ["joann@x.co", "ann@x.co.uk", "ann@x.com", "x+ann@x.co", "j.ann@x.co", "o'ann@x.co", "ann@x.co-op.org"]

Dump = dict[str, dict[str, dict[str, Any]]]


def dump() -> Dump:
    """Every row of every table, by its key."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
        tables = [name for (name,) in cursor.fetchall()]
        rows: Dump = {}
        for table in tables:
            cursor.execute(f'SELECT to_jsonb(t) FROM "{table}" t')
            found = [json.loads(row) for (row,) in cursor.fetchall()]
            rows[table] = {key_of(row): row for row in found}
        return rows


def key_of(row: dict[str, Any]) -> str:
    keys = [str(row[name]) for name in ("id", "session_key", "version") if name in row]
    return keys[0] if keys else str(row.get("voucher_id"))


def mentions(email: str) -> int:
    return json.dumps(dump(), ensure_ascii=False).count(email)


def tables_with(email: str) -> set[str]:
    return {table for table, rows in dump().items() if email.upper() in json.dumps(rows, ensure_ascii=False).upper()}


def erase(email: str = EMAIL) -> erasing.Erased:
    return erase_buyer(email=email, actor="tests")


def busy_life(course: Course, email: str) -> Issuance:
    """A buyer with something in every table of ours; returns the seat of a payment, corrected and replaced."""
    WebhookReceiver.objects.get_or_create(
        name="lms", url="https://lms.example/", events=["purchase.completed", "voucher.issued", "voucher.redeemed"]
    )
    make_pool(course, 8)
    tell(Payment(course=course.pk, email=email).completed())
    paid = Issuance.objects.filter(purchase__isnull=False, email=email).latest("pk")
    correct_address(paid, email=f"other-{paid.pk}@elsewhere.org", actor="tests")
    correct_address(paid, email=email, actor="tests")
    replace_voucher(paid, reason=f"{email} lost it", actor="tests")
    asked = IssueRequest(course_id=course.pk, email=email, caller="tests", order_id=f"{email}/1", idempotency_key=email)
    spent = issue_voucher(asked).issuance
    assert spent.voucher
    guesser = Guesser.of_address("10.0.0.1")
    redeem_voucher(RedeemRequest(code=spent.voucher.code, guesser=guesser, email=email, confirm=True))
    with pytest.raises(AlreadyRedeemed):
        redeem_voucher(RedeemRequest(code=spent.voucher.code, guesser=guesser, email=email))
    send_due()
    delivery = paid.deliveries.latest("pk")
    DeliveryEvent.objects.create(
        delivery=delivery, provider="mailgun", key=f"e-{email}", kind="bounced", at=timezone.now(), reason=f"<{email}>"
    )
    ResendRequest.objects.create(email=email)
    batch = Batch.objects.filter(course=course).latest("pk")
    batch.first_lines, batch.problem = [{"code": email, "reason": f"{email}: no code"}], f"{email} is no code"
    batch.save(update_fields=["first_lines", "problem"])
    RejectedLine.objects.create(batch=batch, line=1, code=email, kind="invalid", reason=f"{email} has an @")
    Checkup.objects.create(findings=[{"check": "fates", "sentences": [f"The email to {email} has none."]}], actor="t")
    LogEntry.objects.create(
        user=UserFactory.create(), action_flag=ADDITION, object_repr=email, change_message=f"Sent to {email}."
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('default', 'x', %s)",
            [json.dumps({"to": email})],
        )
    return paid
