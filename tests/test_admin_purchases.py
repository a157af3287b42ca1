"""Payments in the admin: what staff see of them, and what they can do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from djstripe.models import Event
from pytest_django import Settings

from courses.models import Course, Purchase
from tests.factories import make_pool
from tests.staff import log_in
from tests.stripe_events import KEY, Payment, tell
from tests.stripe_server import StripeServer, running_stripe_server
from vouchers.models import Issuance, Voucher

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced")]
LIST = "/admin/courses/purchase/"


@pytest.fixture
def stripe(settings: Settings) -> Iterator[StripeServer]:
    with running_stripe_server() as server:
        settings.STRIPE_SECRET_KEY, settings.STRIPE_API_HOST = KEY, server.url
        settings.DEMO_PAYMENTS = False
        yield server


def page_of(purchase: Purchase, deed: str = "change") -> str:
    return f"{LIST}{purchase.pk}/{deed}/"


def shown(answer: Any) -> list[Purchase]:
    return list(answer.context["cl"].result_list)


def messages(answer: Any) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


class TestList:
    def test_it_finds_what_is_to_be_reviewed(self, admin_client: Client, course: Course) -> None:
        make_pool(course, 1)
        good, bad = Payment(), Payment(amount=100)
        tell(good.completed(), bad.completed())
        assert len(shown(admin_client.get(LIST))) == 2
        answer = admin_client.get(LIST, {"state": "review"})
        assert [purchase.reference for purchase in shown(answer)] == [bad.intent_id]
        assert "To be reviewed" in answer.content.decode()

    @pytest.mark.parametrize("state", ["pending", "paid", "disputed", "refunded", "refund"])
    def test_it_filters(self, admin_client: Client, state: str) -> None:
        payment = Payment()
        tell(payment.completed())
        found = shown(admin_client.get(LIST, {"state": state}))
        assert len(found) == (1 if state == "paid" else 0)

    def test_it_finds_by_every_reference_and_by_email(self, admin_client: Client) -> None:
        payment = Payment()
        tell(payment.completed())
        for term in (payment.intent_id, payment.session_id, "ANN@example.com"):
            assert len(shown(admin_client.get(LIST, {"q": term}))) == 1
        assert not shown(admin_client.get(LIST, {"q": "bob@example.com"}))

    def test_it_keeps_to_its_statements(self, admin_client: Client, django_assert_num_queries: Any) -> None:
        for _ in range(5):
            tell(Payment().completed())
        with django_assert_num_queries(6):  # session, user, count, rows, two filters
            admin_client.get(LIST)

    def test_the_summary_says_what_waits_for_a_person(self, admin_client: Client) -> None:
        summary = "/admin/courses/course/"
        assert "to-do" not in admin_client.get(summary).content.decode()
        tell(Payment(amount=100).completed(), Payment().completed())
        Issuance.objects.update(created_at=timezone.now() - dt.timedelta(days=8))
        page = admin_client.get(summary).content.decode()
        assert "1 payment to be reviewed" in page
        assert "1 buyer waiting too long" in page
        assert "to-do" not in log_in("view_course").get(summary).content.decode()

    def test_who_waits_too_long_is_to_be_offered_a_refund(self, admin_client: Client) -> None:
        tell(Payment().completed())
        purchase = Purchase.objects.get()
        assert not shown(admin_client.get(LIST, {"state": "refund"}))
        Issuance.objects.update(created_at=timezone.now() - dt.timedelta(days=8))
        assert shown(admin_client.get(LIST, {"state": "refund"})) == [purchase]
        assert "has waited for more than 7 days" in admin_client.get(page_of(purchase)).content.decode()
        queue = admin_client.get("/admin/vouchers/issuance/", {"status__exact": "waiting"}).content.decode()
        assert "for 1\xa0week" in queue
        assert len(shown(admin_client.get("/admin/vouchers/issuance/", {"waiting": "long"}))) == 1


class TestPage:
    def test_it_shows_the_facts_the_seats_and_the_emails(self, admin_client: Client, course: Course) -> None:
        make_pool(course, 1)
        payment = Payment(amount=9800, quantity=2)
        tell(payment.completed(), payment.refunded(4900))
        page = admin_client.get(page_of(Purchase.objects.get())).content.decode()
        for text in (payment.session_id, "98.00 USD", "Refunded", "Cancelled", "Place in the queue", "Voucher "):
            assert text in page, text

    def test_a_code_is_not_on_it(self, admin_client: Client, course: Course) -> None:
        (voucher,) = make_pool(course, 1)
        tell(Payment().completed())
        assert voucher.code not in admin_client.get(page_of(Purchase.objects.get())).content.decode()


class TestAccept:
    def test_it_issues_what_staff_find_good(self, admin_client: Client, course: Course) -> None:
        make_pool(course, 1)
        tell(Payment(course="JS999", email=None).completed(customer_details=None))
        purchase = Purchase.objects.get()
        assert "Accept…" in admin_client.get(page_of(purchase)).content.decode()
        form = {"course": "JS101", "email": "ann@example.com", "quantity": "1"}
        answer = admin_client.post(page_of(purchase, "accept"), form, follow=True)
        assert "Accepted." in messages(answer)
        assert Voucher.objects.get().issued_to == "ann@example.com"
        assert LogEntry.objects.get().get_change_message() == "Accepted after review."
        again = admin_client.post(page_of(purchase, "accept"), form)
        assert "not waiting for a review any more" in again.content.decode()

    def test_it_names_what_is_missing(self, admin_client: Client, course: Course) -> None:
        tell(Payment(course="JS999").completed())
        answer = admin_client.post(page_of(Purchase.objects.get(), "accept"), {"course": "", "email": "x"})
        assert [*answer.context["form"].errors] == ["course", "email", "quantity"]
        assert not Issuance.objects.exists()

    def test_it_needs_the_permission(self, course: Course) -> None:
        tell(Payment(amount=1).completed())
        purchase = Purchase.objects.get()
        client = log_in("view_purchase")
        assert (
            client.post(
                page_of(purchase, "accept"), {"course": "JS101", "email": "a@example.com", "quantity": "1"}
            ).status_code
            == 403
        )
        assert client.post(page_of(purchase, "refund"), {"amount": "1"}).status_code == 403
        page = client.get(page_of(purchase)).content.decode()
        assert "Accept…" not in page
        assert "Refund…" not in page

    def test_a_review_is_closed_without_issuing(self, admin_client: Client) -> None:
        tell(Payment(amount=1).completed())
        form = {"action": "close", "_selected_action": [str(Purchase.objects.get().pk)]}
        assert "nothing is issued" in messages(admin_client.post(LIST, form, follow=True))
        assert not Purchase.objects.for_review().exists()
        assert not Issuance.objects.exists()


class TestRefund:
    def test_it_asks_the_provider(self, admin_client: Client, course: Course, stripe: StripeServer) -> None:
        make_pool(course, 1)
        payment = Payment(amount=9800, quantity=2)
        tell(payment.completed())
        purchase = Purchase.objects.get()
        page = admin_client.get(page_of(purchase, "refund"))
        assert page.context["form"]["amount"].value() == Decimal("49.00")  # for the seat that waits
        answer = admin_client.post(page_of(purchase, "refund"), {"amount": "49.00"}, follow=True)
        assert "Refund of 49.00 USD asked for" in messages(answer)
        assert stripe.asked[0][1]["amount"] == "4900"
        tell(payment.refunded(4900))
        assert {*Issuance.objects.values_list("status", flat=True)} == {"issued", "cancelled"}

    @pytest.mark.parametrize("amount", ["0", "-1", "98.01", "x", ""])
    def test_it_refuses_other_amounts(self, admin_client: Client, stripe: StripeServer, amount: str) -> None:
        tell(Payment(amount=9800, quantity=2).completed())
        answer = admin_client.post(page_of(Purchase.objects.get(), "refund"), {"amount": amount})
        assert answer.status_code == 200
        assert answer.context["form"].errors
        assert not stripe.asked

    def test_it_says_when_the_provider_is_away(self, admin_client: Client, stripe: StripeServer) -> None:
        tell(Payment().completed())
        stripe.down = True
        answer = admin_client.post(page_of(Purchase.objects.get(), "refund"), {"amount": "49"})
        assert "Stripe does not answer" in answer.content.decode()
        assert not LogEntry.objects.exists()

    def test_a_refunded_code_nobody_saw_goes_back_to_the_pool(self, admin_client: Client, course: Course) -> None:
        make_pool(course, 1)
        payment = Payment()
        tell(payment.completed(), payment.refunded(4900))
        form = {"action": "return_to_pool", "_selected_action": [str(Issuance.objects.get().pk)]}
        answer = admin_client.post("/admin/vouchers/issuance/", form, follow=True)
        assert "1 code put back into the pool." in messages(answer)
        assert Voucher.objects.get().status == "available"
        again = admin_client.post("/admin/vouchers/issuance/", form, follow=True)
        assert "went back into the pool before" in messages(again)


def test_of_dj_stripe_only_what_is_used_is_in_the_menu(admin_client: Client) -> None:
    apps = {app["app_label"]: app for app in admin_client.get("/admin/").context["app_list"]}
    names = {model["object_name"] for model in apps["djstripe"]["models"]}
    assert names == {"Account", "APIKey", "Event", "WebhookEndpoint", "WebhookEventTrigger"}
    for model in ("apikey", "webhookendpoint", "event", "webhookeventtrigger"):
        assert admin_client.get(f"/admin/djstripe/{model}/").status_code == 200


def test_an_event_of_stripe_is_found_by_its_whole_id(admin_client: Client) -> None:
    for name in ("evt_1", "evt_12"):
        Event.objects.create(id=name, type="charge.refunded", data={"object": {}}, livemode=False)

    found = admin_client.get("/admin/djstripe/event/", {"q": "evt_1"}).context["cl"].result_list
    assert [event.id for event in found] == ["evt_1"]


@pytest.mark.parametrize("said", [{}, {"object": "charge", "customer": "cus_1"}])
def test_an_event_of_stripe_is_shown_without_asking_stripe(admin_client: Client, said: dict[str, str]) -> None:
    """Also one that is so old that what it said is forgotten."""
    event = Event.objects.create(id="evt_1", type="charge.refunded", data={"object": said}, livemode=False)

    page = admin_client.get(f"/admin/djstripe/event/{event.pk}/change/")
    assert page.status_code == 200
    assert "charge.refunded" in page.content.decode()
