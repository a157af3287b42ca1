"""Deliveries, kept emails and the other ledgers in the admin."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import CourseFactory, PurchaseFactory, issue_to, make_pool, queue_emails, voucher_of
from tests.staff import log_in, said
from vouchers.guesses import Guesser
from vouchers.models import Delivery, DeliveryEvent, KeptEmail
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db
LIST = "/admin/vouchers/delivery/"
KEPT = "/admin/vouchers/keptemail/"


@pytest.fixture
def delivery(course: Course) -> Delivery:
    make_pool(course, 1)
    return issue_to(course).deliveries.get()


@pytest.fixture
def kept(db: None) -> KeptEmail:
    return KeptEmail.objects.create(
        message_id="<1@desk>",
        to="ann@example.com",
        subject="Your <b>voucher</b>",
        text="Code: CODE-0001 <script>alert(1)</script>",
        html='<p title="a">CODE-0001</p></iframe><script>alert(1)</script>',
    )


def test_it_finds_by_exact_email_and_state(admin_client: Client, delivery: Delivery) -> None:
    Delivery.objects.update(status=Delivery.Status.FAILED, last_error="550 <no such> user")

    for query in ({"q": "ANN@example.com"}, {"state": "failed"}):
        response = admin_client.get(LIST, query)
        assert list(response.context["cl"].result_list) == [delivery]
        assert "550 &lt;no such&gt; user" in response.content.decode()
    for query in ({"q": "ann@example"}, {"state": "accepted"}):
        assert not admin_client.get(LIST, query).context["cl"].result_list


def test_it_finds_what_was_sent_about_vouchers_and_about_payments(admin_client: Client, delivery: Delivery) -> None:
    purchase = PurchaseFactory.create(email=delivery.email)
    news = Delivery.objects.create(kind="waiting", purchase=purchase, email=purchase.email, message_id="<1@desk>")
    PurchaseFactory.create(email="bob@example.com")

    assert set(admin_client.get(LIST, {"q": delivery.email}).context["cl"].result_list) == {delivery, news}


@pytest.mark.parametrize("number", [1, 30])
def test_it_lists_any_number_with_the_same_few_queries(
    admin_client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    make_pool(course, number)
    for buyer in range(number):
        issue_to(course, f"{buyer}@example.com")
    admin_client.get(LIST)

    # The session, the user, a capped count, the page, whether emails were kept.
    with django_assert_num_queries(5):
        admin_client.get(LIST)


NOW = timezone.now()
SENT: dict[str, Any] = {"status": "sent", "sent_at": NOW}


def told(fate: str) -> dict[str, Any]:
    return {"fate": fate, "fate_at": NOW}


FACTS: dict[str, dict[str, Any]] = {
    "queued": {"status": "queued"},
    "sending": {"status": "sending"},
    "accepted": SENT,
    **{fate: SENT | told(fate) for fate in ("deferred", "delivered", "opened", "bounced", "complained")},
    "failed": {"status": "failed"},
}


def shown(client: Client, **query: str) -> set[int]:
    return {row.pk for row in client.get(LIST, query).context["cl"].result_list}


def test_it_shows_and_finds_the_whole_life_of_emails(admin_client: Client, course: Course) -> None:
    emails = dict(zip(FACTS, queue_emails(course, *(f"{state}@example.com" for state in FACTS)), strict=True))
    for state, email in emails.items():
        Delivery.objects.filter(pk=email.pk).update(**FACTS[state])
    assert set(FACTS) == {state for state, _ in Delivery.STATES}

    page = admin_client.get(LIST).content.decode()

    for state, words in Delivery.STATES:
        assert f'<span class="desk-badge desk-{state}">{words}</span>' in page
        assert shown(admin_client, state=state) == {emails[state].pk}


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"status": "sending"} | told("delivered"), "delivered"),
        (SENT | told("failed"), "failed"),
        ({"status": "failed"} | told("delivered"), "delivered"),
    ],
)
def test_it_goes_by_what_the_provider_told_last(
    admin_client: Client, delivery: Delivery, facts: dict[str, Any], state: str
) -> None:
    Delivery.objects.update(**facts)

    found = {state for state, _ in Delivery.STATES if shown(admin_client, state=state)}

    assert found == {state}


def test_it_lists_what_buyers_did_not_get_and_still_need(admin_client: Client, course: Course) -> None:
    lost, lost_and_redeemed, arrived = queue_emails(course, "a@example.com", "b@example.com", "c@example.com")
    [of_other] = queue_emails(CourseFactory.create(id="PY200"), "a@example.com")
    Delivery.objects.exclude(pk=arrived.pk).update(**SENT, **told("bounced"), fate_reason="550 <no> such user")
    redeem_voucher(RedeemRequest(code=voucher_of(lost_and_redeemed).code, guesser=Guesser.of_address("127.0.0.1")))

    assert shown(admin_client, trouble="JS101") == {lost.pk}
    assert shown(admin_client, trouble="PY200") == {of_other.pk}
    assert shown(admin_client, trouble="all") == {lost.pk, of_other.pk}
    assert shown(admin_client, trouble="NOPE") == set()
    page = admin_client.get(LIST, {"trouble": "JS101"}).content.decode()
    assert "Not delivered, of JS101" in page
    assert "550 &lt;no&gt; such user" in page


@pytest.mark.parametrize(
    ("facts", "is_late"),
    [
        ({"last_error": "No connection"}, True),
        ({"last_error": "No connection", "status": "sending"}, True),
        ({"last_error": ""}, False),
        ({"last_error": "No connection", "created_at": NOW - dt.timedelta(minutes=14)}, False),
        ({"last_error": "550", "status": "failed"}, False),
        (SENT | {"last_error": "No connection"}, False),
    ],
)
def test_it_lists_what_waits_for_the_mail_server(
    admin_client: Client, delivery: Delivery, facts: dict[str, Any], is_late: bool
) -> None:
    Delivery.objects.update(**{"created_at": NOW - dt.timedelta(minutes=16)} | facts)

    assert shown(admin_client, state="late") == ({delivery.pk} if is_late else set())


def test_it_shows_all_that_a_provider_told_of_an_email(admin_client: Client, delivery: Delivery) -> None:
    for kind, reason in (("deferred", "4.2.2 <full>"), ("bounced", "5.1.1 gone")):
        DeliveryEvent.objects.create(
            delivery=delivery, provider="mailgun", key=f"<{kind}>", kind=kind, at=NOW, reason=reason
        )

    page = admin_client.get(f"{LIST}{delivery.pk}/change/").content.decode()

    for seen in ("4.2.2 &lt;full&gt;", "5.1.1 gone", "&lt;bounced&gt;", "mailgun", "desk-badge desk-deferred"):
        assert seen in page
    assert voucher_of(delivery).code not in page


def test_it_shows_an_alert_with_its_course(admin_client: Client, course: Course) -> None:
    alert = Delivery.objects.create(kind="alert", course=course, email="desk@shop.example", message_id="<9@desk>")

    page = admin_client.get(f"{LIST}{alert.pk}/change/").content.decode()

    assert '<a href="/admin/courses/course/JS101/change/">JS101</a>' in page
    assert shown(admin_client, kind__exact="alert") == {alert.pk}
    response = admin_client.post(LIST, {"action": "resend", "_selected_action": [alert.pk]})
    assert "1 carried no voucher" in said(response)


def test_it_sends_again_once_for_each_issuance(delivery: Delivery) -> None:
    second = Delivery.objects.create(issuance=delivery.issuance, series=2, email=delivery.email, message_id="<2@desk>")
    client = log_in("view_delivery", "resend_voucher")

    response = client.post(LIST, {"action": "resend", "_selected_action": [delivery.pk, second.pk]})

    assert said(response) == "1 email queued to be sent again."
    assert sorted(Delivery.objects.values_list("series", flat=True)) == [1, 2, 3]


def test_it_sends_nothing_again_for_those_who_may_only_look(delivery: Delivery) -> None:
    client = log_in("view_delivery")

    client.post(LIST, {"action": "resend", "_selected_action": [delivery.pk]})

    assert Delivery.objects.count() == 1
    assert client.get(LIST).context["action_form"] is None


def test_it_leads_from_a_delivery_to_its_kept_email(admin_client: Client, delivery: Delivery, kept: KeptEmail) -> None:
    KeptEmail.objects.update(message_id=delivery.message_id)

    page = admin_client.get(f"{LIST}{delivery.pk}/change/").content.decode()

    assert f"{KEPT}{kept.pk}/change/" in page


def test_it_shows_a_kept_email_that_can_do_no_harm(admin_client: Client, kept: KeptEmail) -> None:
    page = admin_client.get(f"{KEPT}{kept.pk}/change/").content.decode()

    assert 'sandbox=""' in page
    assert 'srcdoc="&lt;p title=&quot;a&quot;&gt;CODE-0001' in page
    assert "<script>alert(1)" not in page
    assert "Your &lt;b&gt;voucher&lt;/b&gt;" in page


def test_it_lists_kept_emails_in_the_menu_only_where_there_are_some(admin_client: Client) -> None:
    assert KEPT not in admin_client.get("/admin/").content.decode()

    KeptEmail.objects.create(message_id="<1@desk>", to="ann@example.com", subject="s", text="t")

    assert KEPT in admin_client.get("/admin/").content.decode()


@pytest.mark.parametrize(
    "ledger", ["vouchers/delivery", "vouchers/keptemail", "vouchers/redemption", "courses/purchase"]
)
def test_it_adds_to_no_ledger(admin_client: Client, ledger: str) -> None:
    assert admin_client.get(f"/admin/{ledger}/").status_code == 200
    assert admin_client.post(f"/admin/{ledger}/add/", {}).status_code == 403


def test_it_changes_no_ledger(admin_client: Client, delivery: Delivery, kept: KeptEmail) -> None:
    purchase = PurchaseFactory.create()
    addresses = [f"{LIST}{delivery.pk}", f"{KEPT}{kept.pk}", f"/admin/courses/purchase/{purchase.pk}"]

    for address in addresses:
        assert admin_client.get(f"{address}/change/").status_code == 200
        assert admin_client.post(f"{address}/change/", {"email": "me@example.com"}).status_code == 403
        assert admin_client.post(f"{address}/delete/", {"post": "yes"}).status_code == 403

    delivery.refresh_from_db()
    assert delivery.email == "ann@example.com"


def test_it_finds_a_purchase_by_reference_or_email(admin_client: Client) -> None:
    wanted = PurchaseFactory.create(reference="pi_77", email="bob@example.com")
    PurchaseFactory.create(reference="pi_7")

    for term in ("pi_77", "BOB@example.com"):
        found = admin_client.get("/admin/courses/purchase/", {"q": term}).context["cl"].result_list
        assert list(found) == [wanted]
