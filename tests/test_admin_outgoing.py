"""Webhook receivers and messages in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from tests.staff import log_in, logged, said
from vouchers.admin.base import page_of
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing import announcing

pytestmark = pytest.mark.django_db
EVERYTHING = ["purchase.completed", "voucher.issued", "voucher.redeemed"]
RECEIVERS = "/admin/vouchers/webhookreceiver/"
MESSAGES = "/admin/vouchers/webhookmessage/"
FORM = {"name": "Platform", "url": "https://lms.example/hooks", "events": EVERYTHING, "active": "on"}


@pytest.fixture
def told() -> WebhookReceiver:
    return WebhookReceiver.objects.create(name="Platform", url="https://lms.example", events=EVERYTHING)


def message(told: WebhookReceiver, **fields: Any) -> WebhookMessage:
    return WebhookMessage.objects.create(receiver=told, type="voucher.issued", payload={"courseId": "JS101"}, **fields)


def saved(client: Client, told: WebhookReceiver, **fields: Any) -> WebhookReceiver:
    """After a person changed these fields on the receiver's page."""
    before = {"initial-name": told.name, "initial-active": str(told.active)}
    response = client.post(page_of(told), FORM | before | fields)
    assert response.status_code == 302, response.context["errors"]
    told.refresh_from_db()
    return told


def test_it_makes_a_receiver_and_shows_its_secret_to_those_who_may_change_it(admin_client: Client) -> None:
    assert admin_client.post(f"{RECEIVERS}add/", FORM).status_code == 302
    told = WebhookReceiver.objects.get()
    assert (told.url, told.events, told.active) == ("https://lms.example/hooks", EVERYTHING, True)
    assert told.secret in admin_client.get(page_of(told)).content.decode()
    assert told.secret not in admin_client.get(RECEIVERS).content.decode()


def test_it_shows_no_secret_to_those_who_only_look(told: WebhookReceiver) -> None:
    page = log_in("view_webhookreceiver").get(page_of(told))
    assert page.status_code == 200
    assert "lms.example" in page.content.decode()
    assert told.secret not in page.content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [("url", "http://lms.example"), ("url", "ftp://lms.example"), ("events", []), ("events", ["all"]), ("name", "")],
)
def test_it_refuses_what_cannot_be(admin_client: Client, field: str, value: Any) -> None:
    response = admin_client.post(f"{RECEIVERS}add/", FORM | {field: value})
    assert [*response.context["adminform"].form.errors] == [field]
    assert not WebhookReceiver.objects.exists()


def test_a_change_counts_at_once(admin_client: Client, told: WebhookReceiver) -> None:
    announcing._receivers()
    assert cache.get(announcing.KNOWN)
    secret = told.secret
    saved(admin_client, told, name="New name")
    assert (told.name, told.secret) == ("New name", secret)
    assert cache.get(announcing.KNOWN) is None


def test_a_receiver_switched_on_again_is_no_longer_said_to_be_gone(admin_client: Client, told: WebhookReceiver) -> None:
    WebhookReceiver.objects.update(active=False, disabled_reason="It answered 410 Gone.")
    told.refresh_from_db()
    assert "410 Gone" in admin_client.get(RECEIVERS).content.decode()
    saved(admin_client, told)
    assert (told.active, told.disabled_reason) == (True, "")


def test_a_receiver_is_switched_off_and_not_deleted(admin_client: Client, told: WebhookReceiver) -> None:
    assert admin_client.post(f"{page_of(told).removesuffix('change/')}delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [told.pk], "post": "yes"}
    admin_client.post(RECEIVERS, form)
    assert WebhookReceiver.objects.exists()


@pytest.mark.parametrize("status", ["sent", "failed"])
def test_it_sends_messages_again(admin_client: Client, told: WebhookReceiver, status: str) -> None:
    sent_at = told.created_at if status == "sent" else None
    one = message(told, status=status, attempts=3, sent_at=sent_at, last_error="" if sent_at else "Answered 500.")
    response = admin_client.post(MESSAGES, {"action": "send_again", "_selected_action": [one.pk]})
    assert "1 message queued to be sent again." in said(response)
    before = one.message_id
    one.refresh_from_db()
    assert (one.status, one.attempts, one.sent_at, one.message_id) == ("queued", 0, None, before)
    assert logged(one) == ["Sent again."]


def test_it_refuses_to_send_again_what_is_on_its_way(admin_client: Client, told: WebhookReceiver) -> None:
    one = message(told, status="sending", attempts=1)
    response = admin_client.post(MESSAGES, {"action": "send_again", "_selected_action": [one.pk]})
    assert "on its way already" in said(response)
    one.refresh_from_db()
    assert (one.status, one.attempts) == ("sending", 1)
    assert logged(one) == []


def test_those_who_only_look_send_nothing_again(told: WebhookReceiver) -> None:
    one = message(told, status="failed")
    client = log_in("view_webhookmessage")
    client.post(MESSAGES, {"action": "send_again", "_selected_action": [one.pk]})
    one.refresh_from_db()
    assert one.status == "failed"


def test_the_ledger_lists_filters_and_finds(admin_client: Client, told: WebhookReceiver) -> None:
    good = message(told, status="sent", sent_at=told.created_at, last_status=204)
    poor = message(told, status="failed", last_status=500, last_error="Answered 500.")
    page = admin_client.get(MESSAGES).content.decode()
    assert good.message_id in page
    assert "Answered 500." in page
    for query in (f"status__exact=failed&receiver__id__exact={told.pk}&type__exact=voucher.issued", f"q={poor}"):
        found = admin_client.get(f"{MESSAGES}?{query}").context["cl"].result_list
        assert [*found] == [poor]


def test_the_page_of_a_message_shows_what_was_said_and_changes_nothing(
    admin_client: Client, told: WebhookReceiver
) -> None:
    one = message(told)
    page = admin_client.get(page_of(one)).content.decode()
    assert "JS101" in page
    assert page_of(told) in page
    assert admin_client.post(page_of(one), {}).status_code == 403
