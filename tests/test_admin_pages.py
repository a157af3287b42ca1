"""Every list of the admin takes as many statements as it is known for, however many rows it shows."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from djstripe.models import Event, WebhookEventTrigger

from courses.models import Course
from tests.factories import BatchFactory, PurchaseFactory, UserFactory, issue_to, make_key, make_pool
from vouchers.guesses import Guesser
from vouchers.models import KeptEmail, RejectedLine, WebhookMessage, WebhookReceiver
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db

# The session, the user and whether emails were kept are asked for on every page; a list of ours counts up to a limit
# and reads its page, and each filter by another table reads that. The list of checkups is the doctor's page.
STATEMENTS = {
    "auth.Group": 6,
    "auth.User": 7,
    "courses.Course": 9,
    "courses.Purchase": 6,
    "djstripe.APIKey": 6,
    "djstripe.Account": 5,
    "djstripe.Event": 5,
    "djstripe.WebhookEndpoint": 5,
    "djstripe.WebhookEventTrigger": 5,
    "procrastinate.ProcrastinateJob": 11,
    "vouchers.ApiKey": 5,
    "vouchers.Batch": 6,
    "vouchers.Checkup": 2,
    "vouchers.Delivery": 5,
    "vouchers.Issuance": 6,
    "vouchers.KeptEmail": 5,
    "vouchers.Redemption": 6,
    "vouchers.RejectedLine": 5,
    "vouchers.Voucher": 6,
    "vouchers.WebhookMessage": 6,
    "vouchers.WebhookReceiver": 5,
}


def address(label: str) -> str:
    return f"/admin/{label.lower().replace('.', '/')}/"


def sell(course: Course, number: int) -> None:
    """So many rows more in most of the lists."""
    spent = make_pool(course, 2 * number)[number:]
    for one, voucher in enumerate(spent):
        name = f"{number}-{one}"
        make_key("issue")
        UserFactory.create()
        issue_to(course, f"{name}@example.com")
        PurchaseFactory.create(course=course)
        redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser(name, 10)))
        KeptEmail.objects.create(message_id=name, to="ann@example.com", subject="Your voucher", text="It")
        receiver = WebhookReceiver.objects.create(name=name, url="https://lms.example", events=["voucher.issued"])
        WebhookMessage.objects.create(receiver=receiver, type="voucher.issued", payload={})
        batch = BatchFactory.create(course=course, read=1, invalid=1)
        RejectedLine.objects.create(batch=batch, line=1, code="?", kind="invalid", reason="Too short.")
        event = Event.objects.create(id=f"evt_{name}", type="charge.refunded", data={"object": {}}, livemode=False)
        WebhookEventTrigger.objects.create(event=event, remote_ip="127.0.0.1", headers={}, body="{}")


def counted(client: Client) -> dict[str, int]:
    found = {}
    for label in STATEMENTS:
        with CaptureQueriesContext(connection) as statements:
            client.get(address(label))
        found[label] = len(statements)
    return found


def test_every_list_keeps_to_its_statements(admin_client: Client, course: Course) -> None:
    sell(course, 1)
    counted(admin_client)  # what is remembered from then on
    assert counted(admin_client) == STATEMENTS

    sell(course, 3)
    assert counted(admin_client) == STATEMENTS


def test_no_list_is_left_out() -> None:
    assert {model._meta.label for model in admin.site._registry} == set(STATEMENTS)
