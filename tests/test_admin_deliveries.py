"""Deliveries, kept emails and the other ledgers in the admin."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import PurchaseFactory, issue_to, make_pool
from tests.staff import log_in, said
from vouchers.models import Delivery, KeptEmail

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


def test_it_finds_by_exact_email_and_status(admin_client: Client, delivery: Delivery) -> None:
    Delivery.objects.update(status=Delivery.Status.FAILED, last_error="550 <no such> user")

    for query in ({"q": "ANN@example.com"}, {"status__exact": "failed"}):
        response = admin_client.get(LIST, query)
        assert list(response.context["cl"].result_list) == [delivery]
        assert "550 &lt;no such&gt; user" in response.content.decode()
    for query in ({"q": "ann@example"}, {"status__exact": "sent"}):
        assert not admin_client.get(LIST, query).context["cl"].result_list


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
