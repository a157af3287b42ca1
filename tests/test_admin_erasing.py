"""The admin's page on which a buyer is erased, and the action of lists that leads there"""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.contrib.messages.storage.cookie import CookieStorage
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from courses.models import Course
from tests.erasing import EMAIL, TOMBSTONE, dump, erase, tables_with
from tests.factories import UserFactory, issue_to
from tests.staff import log_in, said
from vouchers.admin.base import LedgerAdmin
from vouchers.admin.erasing import ErasesBuyers
from vouchers.models import (
    Issuance,
)

pytestmark = pytest.mark.django_db


class TestAdmin:
    def test_it_is_for_those_who_may(self, course: Course) -> None:
        issue_to(course, EMAIL)
        for client in (Client(), log_in(), log_in("view_purchase", "view_issuance", "refund_purchase")):
            answer = client.post("/admin/erase-buyer/", {"email": EMAIL, "confirmed": "yes"})
            assert answer.status_code in (302, 403)
            assert client.get("/admin/erase-buyer/").status_code in (302, 403)
        assert Issuance.objects.get().email == EMAIL

    def test_it_shows_first_what_would_be_replaced_and_what_is_owed(self, course: Course) -> None:
        issue_to(course, EMAIL)
        client = log_in("erase_buyer")
        assert "Look" in client.get("/admin/erase-buyer/").content.decode()
        page = client.post("/admin/erase-buyer/", {"email": EMAIL.upper()}).content.decode()
        assert "waits for 1 voucher" in page
        assert "<td>Issuances</td><td>1</td>" in page
        assert Issuance.objects.get().email == EMAIL

    def test_it_erases_once_that_is_confirmed_and_logs_the_tombstone_only(self, course: Course) -> None:
        issue_to(course, EMAIL)
        client = log_in("erase_buyer")
        answer = client.post("/admin/erase-buyer/", {"email": EMAIL, "confirmed": "yes"})
        assert (answer.status_code, answer.headers["Location"]) == (302, reverse("admin:erase_buyer"))
        assert "Replaced it in 1 row" in said(answer)
        assert tables_with(EMAIL) == set()
        entry = LogEntry.objects.get()
        assert (entry.object_repr, entry.get_change_message()) == (TOMBSTONE, "Erased the address of a buyer: 1 row.")

    def test_the_page_of_a_case_leads_there_for_those_who_may(self, course: Course) -> None:
        page = f"/admin/support/issuance/{issue_to(course, EMAIL).pk}/"
        leads = f'<input type="hidden" name="email" value="{EMAIL}">'
        assert leads in log_in("view_issuance", "erase_buyer").get(page).content.decode()
        assert leads not in log_in("view_issuance").get(page).content.decode()
        erase()
        assert 'action="/admin/erase-buyer/"' not in log_in("view_issuance", "erase_buyer").get(page).content.decode()

    @pytest.mark.parametrize("fields", [{}, {"confirmed": "yes"}])
    def test_it_says_so_where_there_is_nothing(self, course: Course, fields: dict[str, str]) -> None:
        answer = log_in("erase_buyer").post("/admin/erase-buyer/", {"email": EMAIL} | fields)
        assert said(answer) == "Nothing here holds this address."
        assert not LogEntry.objects.exists()

    def test_it_takes_no_address_from_a_link(self, course: Course) -> None:
        issue_to(course, EMAIL)
        page = log_in("erase_buyer").get("/admin/erase-buyer/", {"email": EMAIL, "confirmed": "yes"}).content.decode()
        assert EMAIL not in page
        assert Issuance.objects.get().email == EMAIL

    def test_it_refuses_what_is_not_one_address(self, db: None) -> None:
        page = log_in("erase_buyer").post("/admin/erase-buyer/", {"email": "<b>ann", "confirmed": "yes"})
        assert "This is not one email address." in page.content.decode()
        assert "<b>ann" not in page.content.decode()


class ErasingAdmin(ErasesBuyers, LedgerAdmin[Issuance]):
    """A list that offers it."""


def act(*emails: str, **fields: str) -> tuple[HttpResponse | None, str]:
    """Chooses the issuances of these addresses in such a list; the page that follows, and what is said."""
    request = RequestFactory().post("/admin/vouchers/issuance/", fields)
    request.user = UserFactory.create()
    request._messages = CookieStorage(request)  # type: ignore[attr-defined]
    rows = Issuance.objects.filter(email__in=emails)
    page = ErasingAdmin(Issuance, admin.site).erase_buyer_of(request, rows)
    return page, " ".join(str(message) for message in get_messages(request))


class TestAction:
    def test_it_asks_first_and_then_erases_the_buyer_of_the_chosen_rows(self, course: Course) -> None:
        issue_to(course, EMAIL, order_id="1")
        issue_to(course, EMAIL.upper(), order_id="2")
        page, _ = act(EMAIL, EMAIL.upper())
        assert isinstance(page, TemplateResponse)
        text = page.render().content.decode()
        assert text.count('name="_selected_action"') == 2
        assert 'name="action" value="erase_buyer_of"' in text
        assert Issuance.objects.filter(email=EMAIL).exists()

        assert act(EMAIL, confirmed="yes") == (None, f"Replaced it in 2 rows by {TOMBSTONE}. {erase().owed.in_words}")
        assert tables_with(EMAIL) == set()

    def test_it_refuses_rows_of_several_buyers_and_of_none(self, course: Course) -> None:
        for email in (EMAIL, "bob@example.com", TOMBSTONE):
            issue_to(course, email)
        before = dump()["vouchers_issuance"]
        assert act(EMAIL, "bob@example.com", confirmed="yes")[1] == "Choose rows of one buyer. Nothing was erased."
        assert "in the place of an address" in act(TOMBSTONE, confirmed="yes")[1]
        assert dump()["vouchers_issuance"] == before

    def test_it_is_offered_to_those_who_may(self, db: None) -> None:
        for permission, offered in (("erase_buyer", True), ("refund_purchase", False)):
            request = log_in(permission).get("/admin/").wsgi_request
            names = ErasingAdmin(Issuance, admin.site).has_erase_permission(request)
            assert names is offered
