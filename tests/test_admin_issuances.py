"""Issuances in the admin: the ledger, and issuing by hand."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.staff import log_in, logged, said
from vouchers.correcting import correct_address
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.replacing import replace_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
LIST = "/admin/vouchers/issuance/"
ADD = "/admin/vouchers/issuance/add/"


def issue(client: Client, **fields: str) -> Any:
    return client.post(ADD, {"course": "JS101", "email": "ann@example.com", **fields})


def test_it_issues_by_hand(course: Course) -> None:
    [voucher] = make_pool(course, 1)
    client = log_in("issue_voucher", "view_issuance")

    response = issue(client, order_id="order 7")

    issuance = Issuance.objects.get()
    assert response.headers["Location"] == f"/admin/vouchers/issuance/{issuance.pk}/change/"
    assert (issuance.voucher, issuance.email, issuance.order_id) == (voucher, "ann@example.com", "order 7")
    assert issuance.caller == f"user:{client.session['_auth_user_id']}"
    assert f'<a href="/admin/vouchers/voucher/{voucher.pk}/change/">' in said(response)
    assert logged(issuance) == [f"Asked for by hand: issued voucher {voucher.pk}."]
    entry = LogEntry.objects.get()
    assert voucher.code not in f"{entry.object_repr} {entry.change_message}"
    assert "ann@" not in f"{entry.object_repr} {entry.change_message}"


def test_it_says_the_place_of_a_buyer_who_has_to_wait(admin_client: Client, course: Course) -> None:
    issue_to(course, "first@example.com")

    response = issue(admin_client)

    assert "ann@example.com is number 2 in the queue" in said(response)
    issuance = Issuance.objects.get(email="ann@example.com")
    assert logged(issuance) == ["Asked for by hand: put into the queue."]
    page = admin_client.get(f"/admin/vouchers/issuance/{issuance.pk}/change/").content.decode()
    assert "Place in the queue" in page


def test_it_says_that_a_buyer_has_one_already(admin_client: Client, course: Course) -> None:
    make_pool(course, 2)
    issue(admin_client)

    response = issue(admin_client, email="ANN@example.com")

    assert "was already issued to ann@example.com before" in said(response)
    assert Issuance.objects.count() == 1
    assert LogEntry.objects.count() == 1


def test_it_says_what_the_desk_refuses(admin_client: Client, course: Course) -> None:
    make_pool(course, 2)
    issue(admin_client, order_id="7")

    response = issue(admin_client, order_id="7", email="bob@example.com")

    assert response.status_code == 200
    assert "This order of the course belongs to another email." in response.content.decode()
    assert Issuance.objects.count() == 1
    assert Voucher.objects.filter(status=Voucher.Status.AVAILABLE).count() == 1
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"email": "ann"}, "Enter a valid email address."),
        ({"email": ""}, "This field is required."),
        ({"course": "PY200"}, "Select a valid choice."),
        ({"order_id": "x" * 256}, "at most 255 characters"),
    ],
)
def test_it_says_what_is_wrong_and_issues_nothing(
    admin_client: Client, course: Course, fields: dict[str, str], fault: str
) -> None:
    make_pool(course, 1)

    response = issue(admin_client, **fields)

    assert fault in response.content.decode()
    assert not Issuance.objects.exists()


@pytest.mark.parametrize("permission", ["view_issuance", "add_issuance", "view_voucher"])
def test_it_issues_for_nobody_without_the_permission(course: Course, permission: str) -> None:
    make_pool(course, 1)

    assert issue(log_in(permission)).status_code == 403
    assert not Issuance.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("term", ["ANN@example.com", "order 7"])
def test_it_finds_by_exact_email_or_order(admin_client: Client, course: Course, term: str) -> None:
    wanted = issue_to(course, order_id="order 7")
    issue_to(course, "bob@example.com", order_id="order 77")

    assert list(admin_client.get(LIST, {"q": term}).context["cl"].result_list) == [wanted]
    assert not admin_client.get(LIST, {"q": term[:-1]}).context["cl"].result_list


@pytest.mark.parametrize("number", [1, 30])
def test_it_lists_any_number_with_the_same_few_queries(
    admin_client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    make_pool(course, number // 2)
    for buyer in range(number):
        issue_to(course, f"{buyer}@example.com")
    admin_client.get(LIST)

    # The session, the user, the courses of the filter, a capped count, the page, whether emails were kept.
    with django_assert_num_queries(6):
        admin_client.get(LIST)


def test_it_sends_the_emails_of_chosen_issuances_again(course: Course) -> None:
    make_pool(course, 1)
    issued, waiting = issue_to(course), issue_to(course, "bob@example.com")
    client = log_in("view_issuance", "resend_voucher")

    response = client.post(LIST, {"action": "resend", "_selected_action": [issued.pk, waiting.pk]})

    assert f"Issuance {waiting.pk} holds no voucher that could be sent." in said(response)
    assert "1 email queued to be sent again." in said(response)
    assert Delivery.objects.filter(issuance=issued).count() == 2


def test_it_sends_nothing_again_for_those_who_may_only_look(course: Course) -> None:
    make_pool(course, 1)
    issued = issue_to(course)

    log_in("view_issuance").post(LIST, {"action": "resend", "_selected_action": [issued.pk]})

    assert Delivery.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_it_shows_its_corrected_addresses_and_replaced_codes(admin_client: Client, course: Course) -> None:
    make_pool(course, 2)
    issuance = issue_to(course)
    old = issuance.voucher
    assert old
    correct_address(issuance, email="bob@example.com", actor="user:7")
    new = replace_voucher(issuance, reason="Leaked <b>", actor="user:7")

    shown = admin_client.get(f"/admin/vouchers/issuance/{issuance.pk}/change/")

    page = shown.content.decode()
    assert "<td>ann@example.com</td><td>bob@example.com</td>" in page
    assert "Leaked &lt;b&gt;" in page
    [(replacement, heir)] = shown.context["replacements"]
    assert (replacement.voucher_id, heir) == (old.pk, new.pk)


def test_it_shows_when_a_code_was_seen_and_told(admin_client: Client, course: Course) -> None:
    make_pool(course, 1)
    issuance = issue_to(course)
    Issuance.objects.update(seen_at="2031-05-01T12:00Z", told_at="2031-06-02T12:00Z")

    page = admin_client.get(f"/admin/vouchers/issuance/{issuance.pk}/change/").content.decode()

    assert "May 1, 2031" in page
    assert "June 2, 2031" in page


def refunded(course: Course) -> Issuance:
    [voucher] = make_pool(course, 1)
    issuance = issue_to(course)
    revoke_voucher(voucher, reason="Refunded")
    return issuance


def return_to_pool(issuance: Issuance) -> Any:
    client = log_in("view_issuance", "revoke_voucher")
    return client.post(LIST, {"action": "return_to_pool", "_selected_action": [issuance.pk]})


def test_it_returns_a_code_whose_link_was_sent_and_not_followed(course: Course) -> None:
    issuance = refunded(course)
    Delivery.objects.update(status="sent", sent_at="2031-05-01T12:00Z", attempts=1, carries_code=False)

    response = return_to_pool(issuance)

    assert said(response) == "1 code put back into the pool."
    assert logged(issuance) == [f"Put the code of voucher {issuance.voucher_id} back into the pool."]
    assert Voucher.objects.get().status == Voucher.Status.AVAILABLE


@pytest.mark.parametrize("how", ["seen", "told", "emailed"])
def test_it_returns_no_code_that_somebody_may_know(course: Course, how: str) -> None:
    issuance = refunded(course)
    match how:
        case "seen":
            Issuance.objects.update(seen_at="2031-05-01T12:00Z")
        case "told":
            Issuance.objects.update(told_at="2031-05-01T12:00Z")
        case "emailed":
            Delivery.objects.update(attempts=1, carries_code=True)

    response = return_to_pool(issuance)

    assert "it was shown, told to a program, or stood in an email. It stays revoked." in said(response)
    assert Voucher.objects.get().status == Voucher.Status.REVOKED
    assert not LogEntry.objects.exists()


def test_it_neither_changes_nor_deletes(admin_client: Client, course: Course) -> None:
    issuance = issue_to(course)
    address = f"/admin/vouchers/issuance/{issuance.pk}/"

    assert admin_client.post(f"{address}change/", {"email": "me@example.com"}).status_code == 403
    assert admin_client.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    issuance.refresh_from_db()
    assert issuance.email == "ann@example.com"
