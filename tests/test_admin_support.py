"""The support desk's pages and buttons: who may, what happens, what is written down, and what is refused."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course, Purchase
from tests.factories import PurchaseFactory, VoucherFactory, issue_to, make_pool
from tests.staff import log_in, logged, said
from vouchers.guesses import Guesser
from vouchers.models import AddressChange, Delivery, Issuance, Replacement, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
SEARCH = "/admin/support/"
CODE = "JS101-XZ4B7Q-001"
DEEDS = {
    "resend": "resend_voucher",
    "correct": "correct_address",
    "replace": "replace_voucher",
    "return": "revoke_voucher",
    "note": "change_voucher",
}


@pytest.fixture
def issuance(course: Course) -> Issuance:
    VoucherFactory.create(course=course, code=CODE)
    return issue_to(course, order_id="order-77")


@pytest.fixture
def voucher(issuance: Issuance) -> Voucher:
    assert issuance.voucher
    return issuance.voucher


@pytest.fixture
def client() -> Client:
    """Staff with every permission of the desk that its buttons ask for, but not those that other pages need."""
    return log_in("view_issuance", *DEEDS.values())


def case(issuance: Issuance, deed: str = "") -> str:
    return f"/admin/support/issuance/{issuance.pk}/{deed and f'{deed}/'}"


def page(response: object) -> str:
    assert isinstance(response, HttpResponse)
    assert response.status_code == 200
    return response.content.decode()


def seats_of(course: Course, number: int) -> list[Issuance]:
    purchase = PurchaseFactory.create(course=course, quantity=number, paid_at=timezone.now())
    seats = [issue_to(course, order_id=f"{unit}") for unit in range(number)]
    for unit, seat in enumerate(seats, start=1):
        Issuance.objects.filter(pk=seat.pk).update(purchase=purchase, unit=unit)
    return seats


# Searching.


@pytest.mark.parametrize("permission", ["view_voucher", "view_issuance", "view_purchase"])
def test_whoever_may_see_any_of_it_may_search(issuance: Issuance, permission: str) -> None:
    client = log_in(permission)

    assert client.get(SEARCH, {"q": "order-77"}).headers["Location"] == case(issuance)
    assert "What happened" in page(client.get(case(issuance)))
    assert 'id="desk-search"' in page(client.get("/admin/"))


@pytest.mark.parametrize("permissions", [[], ["view_course"], ["resend_voucher", "correct_address"]])
def test_nobody_else_may(issuance: Issuance, permissions: list[str]) -> None:
    client = log_in(*permissions)

    for address in (SEARCH, case(issuance), f"/admin/support/voucher/{issuance.voucher_id}/"):
        assert client.get(address).status_code == 403
    for deed in DEEDS:
        assert client.post(case(issuance, deed), {"email": "eve@example.com", "text": "x"}).status_code == 403
    assert 'id="desk-search"' not in page(client.get("/admin/"))
    assert Delivery.objects.count() == 1


def test_without_a_session_it_leads_to_the_log_in_page(issuance: Issuance) -> None:
    response = Client().get(SEARCH, {"q": "order-77"})

    assert response.headers["Location"].startswith("/admin/login/")
    assert 'id="desk-search"' not in page(Client().get("/admin/login/"))


def test_several_hits_are_a_list_with_masked_codes(client: Client, course: Course) -> None:
    VoucherFactory.create(course=course, code=CODE)
    first, second = issue_to(course, order_id="1"), issue_to(course, order_id="2")

    shown = page(client.get(SEARCH, {"q": "ANN@example.com"}))

    assert shown.index(case(second)) < shown.index(case(first))
    assert "2 found" in shown
    assert "••••-001" in shown
    assert CODE not in shown
    assert "Waiting, place 1" in shown


def test_nothing_found_says_what_can_be_searched(client: Client, issuance: Issuance) -> None:
    shown = page(client.get(SEARCH, {"q": "<b>XZ4"}))

    assert "Nothing found." in shown
    assert "any 4 characters of it or more" in shown
    assert "<b>XZ4" not in shown
    assert "Nothing found." not in page(client.get(SEARCH))


def test_the_search_box_leads_from_a_whole_code_to_its_page_without_an_address_that_holds_it(
    client: Client, voucher: Voucher
) -> None:
    response = client.post(f"{SEARCH}find/", {"q": f" {CODE.lower()} "})
    assert response.headers["Location"] == f"/admin/support/voucher/{voucher.pk}/"

    other = client.post(f"{SEARCH}find/", {"q": "ann+b@example.com"})
    assert other.headers["Location"] == f"{SEARCH}?q=ann%2Bb%40example.com"
    assert client.get(f"{SEARCH}find/").status_code == 405


def test_a_page_of_many_hits_takes_as_many_statements_as_one_of_few(
    client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_pool(course, 8)
    for number in range(10):
        issue_to(course, order_id=f"{number}")
    seats_of(course, 2)

    with django_assert_num_queries(14):  # 9 of the search, 5 of every page of the admin
        client.get(SEARCH, {"q": "ann@example.com"})


# The page of a case.


def test_it_answers_first_and_shows_everything_but_the_code(client: Client, issuance: Issuance) -> None:
    shown = page(client.get(case(issuance)))

    sentence = shown.index("email queued, due")
    assert sentence < shown.index("What happened") < shown.index("Voucher email queued for ann@example.com")
    assert "••••-001" in shown
    assert CODE not in shown
    assert "order-77" in shown
    assert "Times of the shop, UTC." in shown


def test_what_others_wrote_is_escaped(client: Client, voucher: Voucher, issuance: Issuance) -> None:
    revoke_voucher(voucher, reason="<script>alert(1)</script>")

    shown = page(client.get(case(issuance)))

    assert "<script>alert(1)" not in shown
    assert shown.count("&lt;script&gt;alert(1)") == 2  # in the answer and in the timeline


def test_a_voucher_leads_to_the_issuance_that_holds_or_held_it(client: Client, issuance: Issuance) -> None:
    make_pool(issuance.course, 1)
    client.post(case(issuance, "replace"), {"reason": "stolen", "voucher": issuance.voucher_id})

    for voucher in Voucher.objects.all():
        assert client.get(f"/admin/support/voucher/{voucher.pk}/").headers["Location"] == case(issuance)


def test_a_voucher_of_the_pool_has_a_page_of_its_own(client: Client, course: Course) -> None:
    voucher = VoucherFactory.create(course=course, code=CODE)

    shown = page(client.get(f"/admin/support/voucher/{voucher.pk}/"))

    assert "In the pool: nobody holds this code." in shown
    assert CODE not in shown


def test_a_free_purchase_leads_to_its_voucher(client: Client, voucher: Voucher) -> None:
    redemption = redeem_voucher(RedeemRequest(code=CODE, guesser=Guesser("tests", 10)))

    response = client.get(f"/admin/support/purchase/{redemption.purchase_id}/")

    assert response.headers["Location"] == f"/admin/support/voucher/{voucher.pk}/"


def test_a_payment_shows_its_seats(client: Client, course: Course) -> None:
    make_pool(course, 1)
    seats = seats_of(course, 2)

    shown = page(client.get(f"/admin/support/purchase/{Purchase.objects.get().pk}/"))

    assert all(case(seat) in shown for seat in seats)
    assert "Waiting, place 1" in shown


def test_the_pages_of_the_rows_lead_to_the_timeline(voucher: Voucher, issuance: Issuance) -> None:
    purchase = PurchaseFactory.create(course=issuance.course)
    client = log_in("view_voucher", "view_issuance", "view_purchase")
    for row in (voucher, issuance, purchase):
        name = f"{row._meta.app_label}/{row._meta.model_name}"
        assert f'"/admin/support/{row._meta.model_name}/{row.pk}/"' in page(
            client.get(f"/admin/{name}/{row.pk}/change/")
        )


@pytest.mark.parametrize("address", ["issuance/99/", "voucher/99/", "purchase/00000000-0000-0000-0000-000000000000/"])
def test_what_does_not_exist_is_not_found(client: Client, address: str) -> None:
    assert client.get(SEARCH + address).status_code == 404


def test_a_case_takes_the_same_number_of_statements_however_much_happened(
    client: Client, issuance: Issuance, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        client.post(case(issuance, "correct"), {"email": f"{number}@example.com"})
        client.post(case(issuance, "note"), {"text": "called"})
    client.get(case(issuance))  # which says the messages

    with django_assert_num_queries(14):  # 9 of the case, 5 of every page of the admin
        client.get(case(issuance))


# Buttons.


def buttons(client: Client, issuance: Issuance) -> set[str]:
    shown = page(client.get(case(issuance)))
    return {deed for deed in DEEDS if f'="{case(issuance, deed)}"' in shown}


def test_a_button_is_shown_to_whoever_has_its_permission(issuance: Issuance) -> None:
    assert buttons(log_in("view_issuance"), issuance) == set()
    for deed in ("resend", "correct", "replace", "note"):
        assert buttons(log_in("view_issuance", DEEDS[deed]), issuance) == {deed}


def test_the_code_is_revealed_from_here_by_whoever_may(issuance: Issuance) -> None:
    reveal = reverse("admin:vouchers_voucher_reveal", args=[issuance.voucher_id])

    assert f'action="{reveal}"' in page(log_in("view_issuance", "reveal_voucher").get(case(issuance)))
    assert reveal not in page(log_in("view_issuance").get(case(issuance)))


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_without_its_permission_is_refused(issuance: Issuance, deed: str) -> None:
    others = set(DEEDS.values()) - {DEEDS[deed]}
    client = log_in("view_issuance", *others)

    answer = {"email": "eve@example.com", "reason": "x", "voucher": issuance.voucher_id, "text": "x"}
    assert client.post(case(issuance, deed), answer).status_code == 403
    assert LogEntry.objects.count() == 0
    assert (Delivery.objects.count(), Voucher.objects.get().status) == (1, "issued")


@pytest.mark.parametrize("deed", ["resend", "return", "note"])
def test_a_deed_is_done_by_post_alone(client: Client, issuance: Issuance, deed: str) -> None:
    assert client.get(case(issuance, deed)).status_code == 405
    assert Client(enforce_csrf_checks=True).post(case(issuance, deed)).status_code in (302, 403)
    assert Delivery.objects.count() == 1


def test_a_button_is_shown_where_it_is_possible(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    assert buttons(client, issuance) == {"resend", "correct", "replace", "note"}
    Voucher.objects.filter(pk=voucher.pk).update(held_since=timezone.now())
    assert buttons(client, issuance) == {"correct", "note"}
    Voucher.objects.filter(pk=voucher.pk).update(held_since=None, expires_on=dt.date(2026, 1, 1))
    assert buttons(client, issuance) == {"replace", "note"}
    Voucher.objects.filter(pk=voucher.pk).update(expires_on=None)
    revoke_voucher(voucher, reason="stolen")
    assert buttons(client, issuance) == {"return", "note"}
    Delivery.objects.update(attempts=1)  # its email, which carries the code, may have arrived
    assert buttons(client, issuance) == {"note"}


def test_what_waits_can_be_corrected_alone(client: Client, course: Course) -> None:
    assert buttons(client, issue_to(course)) == {"correct", "note"}


def test_resend_is_one_click(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    response = client.post(case(issuance, "resend"))

    assert response.headers["Location"] == case(issuance)
    assert said(response) == "1 email queued to be sent again."
    second = Delivery.objects.get(series=2)
    assert logged(voucher) == [f"Sent the email of issuance {issuance.pk} again (delivery {second.pk})."]


def test_a_refused_resend_says_why(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    revoke_voucher(voucher, reason="stolen")

    assert "is revoked" in said(client.post(case(issuance, "resend")))
    assert (Delivery.objects.count(), logged(voucher)) == (1, [])


def test_correct_and_resend_is_one_action(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    assert "Now owed to <strong>ann@example.com" in page(client.get(case(issuance, "correct")))

    response = client.post(case(issuance, "correct"), {"email": "bob@example.com"})

    assert response.headers["Location"] == case(issuance)
    assert said(response) == "Address corrected to bob@example.com; what can be sent is on its way there."
    second = Delivery.objects.get(email="bob@example.com")
    change = AddressChange.objects.get()
    assert (change.old_email, change.actor) == ("ann@example.com", f"user:{LogEntry.objects.get().user_id}")
    assert logged(voucher) == [
        f"Corrected the address of issuance {issuance.pk} and sent its email there (delivery {second.pk})."
    ]
    assert page(client.get(case(issuance))).count("Address corrected") == 2  # the message, and once in the timeline


def test_an_address_that_is_none_or_the_same_is_refused(client: Client, issuance: Issuance) -> None:
    assert "Enter a valid email address." in page(client.post(case(issuance, "correct"), {"email": "bob"}))
    assert "owed to this address already" in page(client.post(case(issuance, "correct"), {"email": "ann@example.com"}))
    assert not AddressChange.objects.exists()


def test_a_refused_correction_says_why_and_logs_nothing(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    revoke_voucher(voucher, reason="stolen")

    assert "its holder stays" in said(client.post(case(issuance, "correct"), {"email": "bob@example.com"}))
    assert (AddressChange.objects.count(), LogEntry.objects.count(), Delivery.objects.count()) == (0, 0, 1)


def test_all_open_seats_of_a_payment_are_corrected_together_unless_told_otherwise(
    client: Client, course: Course
) -> None:
    make_pool(course, 4)
    first, second, redeemed, elsewhere = seats_of(course, 4)
    assert redeemed.voucher
    redeem_voucher(RedeemRequest(code=redeemed.voucher.code, guesser=Guesser("tests", 10)))
    client.post(case(elsewhere, "correct"), {"email": "carl@example.com"})
    assert "All 2 open seats" in page(client.get(case(first, "correct")))

    client.post(case(first, "correct"), {"email": "bob@example.com", "all_seats": "on"})
    assert owners(course) == ["bob@example.com", "bob@example.com", "ann@example.com", "carl@example.com"]

    client.post(case(second, "correct"), {"email": "dora@example.com"})
    assert owners(course) == ["bob@example.com", "dora@example.com", "ann@example.com", "carl@example.com"]


def owners(course: Course) -> list[str]:
    return list(Issuance.objects.filter(course=course).order_by("pk").values_list("email", flat=True))


def test_a_single_seat_is_not_asked_about_others(client: Client, issuance: Issuance) -> None:
    assert "open seats" not in page(client.get(case(issuance, "correct")))


def test_replace_revokes_and_issues_in_one_action(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    (new,) = make_pool(issuance.course, 1)
    shown = page(client.get(case(issuance, "replace")))
    assert CODE not in shown
    assert f'value="{voucher.pk}"' in shown

    response = client.post(case(issuance, "replace"), {"reason": "in a forum", "voucher": voucher.pk})

    assert said(response).startswith("The code is replaced")
    assert Issuance.objects.get().voucher == new
    assert Voucher.objects.get(pk=voucher.pk).status == "revoked"
    assert logged(voucher) == [f"Replaced the code of issuance {issuance.pk} by voucher {new.pk}: in a forum"]


def test_a_button_pressed_twice_replaces_once(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    make_pool(issuance.course, 2)
    answer = {"reason": "in a forum", "voucher": voucher.pk}
    client.post(case(issuance, "replace"), answer)

    assert "replaced meanwhile" in said(client.post(case(issuance, "replace"), answer))
    assert (Replacement.objects.count(), LogEntry.objects.count()) == (1, 1)


def test_a_replacement_from_an_empty_pool_is_refused(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    response = client.post(case(issuance, "replace"), {"reason": "in a forum", "voucher": voucher.pk})

    assert "The pool of JS101 is empty" in said(response)
    assert (Voucher.objects.get().status, logged(voucher)) == ("issued", [])
    assert "This field is required" in page(client.post(case(issuance, "replace"), {"voucher": voucher.pk}))


def test_an_unseen_code_goes_back_into_the_pool(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    revoke_voucher(voucher, reason="refunded")

    response = client.post(case(issuance, "return"))

    assert said(response) == "The code is back in the pool."
    assert (Voucher.objects.get().status, Issuance.objects.get().status) == ("available", "returned")
    assert logged(issuance) == [f"Put the code of voucher {voucher.pk} back into the pool."]


def test_a_seen_code_does_not(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    revoke_voucher(voucher, reason="refunded")
    Issuance.objects.update(seen_at=timezone.now())

    assert "It stays revoked" in said(client.post(case(issuance, "return")))
    assert (Voucher.objects.get().status, logged(issuance)) == ("revoked", [])


@pytest.mark.parametrize("permission", ["refund_purchase", "change_voucher"])
def test_a_note_is_kept_in_the_history(issuance: Issuance, permission: str) -> None:
    client = log_in("view_issuance", permission)

    client.post(case(issuance, "note"), {"text": "Gave 10.00 back in cash."})

    assert logged(issuance) == ["Note: Gave 10.00 back in cash."]
    assert "Gave 10.00 back in cash." in page(client.get(case(issuance)))


def test_a_note_on_a_payment_is_seen_from_its_seats(client: Client, course: Course) -> None:
    seat, _ = seats_of(course, 2)
    purchase = Purchase.objects.get()

    client.post(f"/admin/support/purchase/{purchase.pk}/note/", {"text": "Promised a call."})

    assert logged(purchase) == ["Note: Promised a call."]
    assert "Promised a call." in page(client.get(case(seat)))


@pytest.mark.parametrize("text", ["", "  ", "x" * 1001])
def test_an_empty_or_an_endless_note_is_refused(client: Client, issuance: Issuance, text: str) -> None:
    assert "Nothing was kept." in said(client.post(case(issuance, "note"), {"text": text}))
    assert logged(issuance) == []


def test_revoke_and_refund_lead_to_their_pages(course: Course) -> None:
    make_pool(course, 1)
    (seat,) = seats_of(course, 1)
    Purchase.objects.update(amount=Decimal(49))
    client = log_in("view_voucher", "view_purchase", "revoke_voucher", "refund_purchase")
    revoke = reverse("admin:vouchers_voucher_revoke", args=[seat.voucher_id])
    refund = reverse("admin:courses_purchase_refund", args=[Purchase.objects.get().pk])

    shown = page(client.get(case(seat)))
    assert revoke in shown
    assert refund in shown
    Purchase.objects.update(refunded_amount=49)
    assert refund not in page(client.get(case(seat)))


def test_no_log_entry_holds_a_code_or_an_email(client: Client, issuance: Issuance, voucher: Voucher) -> None:
    make_pool(issuance.course, 1)
    client.post(case(issuance, "resend"))
    client.post(case(issuance, "correct"), {"email": "bob@example.com"})
    client.post(case(issuance, "replace"), {"reason": "lost", "voucher": voucher.pk})
    client.post(case(issuance, "note"), {"text": "done"})

    entries: list[Any] = list(LogEntry.objects.all())
    assert len(entries) == 4
    text = " ".join(f"{entry.object_repr} {entry.change_message}" for entry in entries)
    assert "@" not in text
    assert not [code for code in Voucher.objects.values_list("code", flat=True) if code in text]
