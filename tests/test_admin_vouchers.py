"""The vouchers in the admin: found exactly, revoked with a reason, sent again, and otherwise left alone."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import CourseFactory, VoucherFactory, issue_to, make_pool
from tests.staff import log_in, logged, said
from vouchers.admin.base import CappedPaginator
from vouchers.models import Delivery, RedeemAttempt, Voucher
from vouchers.replacing import replace_voucher

pytestmark = pytest.mark.django_db
LIST = "/admin/vouchers/voucher/"
FIND = "/admin/vouchers/voucher/find/"


def page(voucher: Voucher, deed: str = "change") -> str:
    return f"/admin/vouchers/voucher/{voucher.pk}/{deed}/"


def shown(client: Client, **query: str) -> set[str]:
    return {voucher.code for voucher in client.get(LIST, query).context["cl"].result_list}


@pytest.fixture
def issued(course: Course) -> Voucher:
    [voucher] = make_pool(course, 1, code="JS101-XZ4B7Q-001")
    issue_to(course)
    voucher.refresh_from_db()
    return voucher


@pytest.mark.parametrize("term", ["JS101-XZ4B7Q-001", " js101\u2013xz4b7q\u2013001\u200b", "ANN@example.com "])
def test_it_finds_by_exact_code_or_email(admin_client: Client, issued: Voucher, term: str) -> None:
    make_pool(issued.course, 3)

    assert shown(admin_client, q=term) == {issued.code}


@pytest.mark.parametrize("term", ["JS101-XZ4B7Q", "example.com", "ann@example.co", "XZ4B7Q"])
def test_it_finds_nothing_by_a_part(admin_client: Client, issued: Voucher, term: str) -> None:
    assert shown(admin_client, q=term) == set()


@pytest.mark.parametrize("query", [{"expiry": "past"}, {"status": "expired"}])
def test_it_lists_what_expired_last_first(admin_client: Client, course: Course, query: dict[str, str]) -> None:
    today = timezone.localdate()
    for days in (3, 1, 2):
        make_pool(course, 1, code=f"{days}-DAYS-AGO", expires_on=today - dt.timedelta(days=days))
    make_pool(course, 1, expires_on=today)

    listed = admin_client.get(LIST, query).context["cl"].result_list
    assert [voucher.code for voucher in listed] == ["1-DAYS-AGO", "2-DAYS-AGO", "3-DAYS-AGO"]


def test_it_asks_the_indexes_for_code_and_email(
    admin_client: Client, issued: Voucher, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(10) as queries:
        shown(admin_client, q="ann@example.com")

    [listed] = [q["sql"] for q in queries.captured_queries if 'ORDER BY "vouchers_voucher"."id" DESC' in q["sql"]]
    assert """UPPER(U0."code"::text) = UPPER('ann@example.com')""" in listed
    assert """UPPER(U0."issued_to"::text) = UPPER('ann@example.com')""" in listed
    assert "UNION ALL" in listed


def test_it_leads_from_a_code_to_its_page_without_a_code_in_the_address(admin_client: Client, issued: Voucher) -> None:
    response = admin_client.post(FIND, {"q": "js101-xz4b7q-001"})

    assert response.headers["Location"] == page(issued)
    assert 'method="post" action="/admin/vouchers/voucher/find/"' in admin_client.get(LIST).content.decode()


def test_it_leads_from_an_email_to_its_vouchers(admin_client: Client, issued: Voucher) -> None:
    response = admin_client.post(FIND, {"q": "ann@example.com"}, follow=True)

    assert {voucher.pk for voucher in response.context["cl"].result_list} == {issued.pk}


def test_it_says_that_there_is_no_such_code(admin_client: Client, issued: Voucher) -> None:
    response = admin_client.post(FIND, {"q": "JS101-XZ4B7Q-002"})

    assert response.headers["Location"] == LIST
    assert "no such code" in said(response)


def test_it_finds_nothing_for_those_who_may_not_look(issued: Voucher) -> None:
    assert log_in("view_course").post(FIND, {"q": issued.code}).status_code == 403


def test_it_filters_by_the_status_that_people_see(admin_client: Client, issued: Voucher) -> None:
    past = VoucherFactory.create(course=issued.course, expires_on=timezone.localdate() - dt.timedelta(days=1))
    available = VoucherFactory.create(course=issued.course)

    assert shown(admin_client, status="expired") == {past.code}
    assert shown(admin_client, status="available") == {available.code}
    assert shown(admin_client, status="issued") == {issued.code}
    assert shown(admin_client, status="redeemed") == set()


def test_it_filters_by_course(admin_client: Client, issued: Voucher) -> None:
    other = VoucherFactory.create(course=CourseFactory.create(id="PY_200"))

    assert shown(admin_client, course__id__exact="PY_200") == {other.code}


@pytest.mark.parametrize(("expiry", "days"), [("past", -1), ("7", 7), ("30", 8), ("never", None)])
def test_it_filters_by_expiry(admin_client: Client, course: Course, expiry: str, days: int | None) -> None:
    def on(days: int | None) -> dt.date | None:
        return None if days is None else timezone.localdate() + dt.timedelta(days=days)

    wanted = VoucherFactory.create(course=course, expires_on=on(days))
    for other in {-1, 31, None} - {days}:
        VoucherFactory.create(course=course, expires_on=on(other))

    assert shown(admin_client, expiry=expiry) == {wanted.code}


@pytest.mark.parametrize("number", [1, 60])
def test_it_lists_any_number_with_the_same_few_queries(
    admin_client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    make_pool(course, number)
    admin_client.get(LIST)

    # The session, the user, the courses of the filter, a capped count, the page, whether emails were kept.
    with django_assert_num_queries(6) as queries:
        admin_client.get(LIST)

    counts = [q["sql"] for q in queries.captured_queries if "COUNT(" in q["sql"]]
    assert len(counts) == 1
    assert "LIMIT 10001" in counts[0]


def test_it_counts_no_further_than_the_cap(
    admin_client: Client, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pool(course, 4)
    monkeypatch.setattr(CappedPaginator, "cap", 3)

    assert "More than 3 vouchers" in admin_client.get(LIST).content.decode()


def test_it_writes_nothing_but_the_note(
    admin_client: Client, issued: Voucher, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    forged = {"note": "Called on Monday.", "status": "available", "issued_to": "", "code": "FREE-0001"}

    with django_assert_max_num_queries(25) as queries:
        response = admin_client.post(page(issued), forged)

    assert response.status_code == 302
    [update] = [q["sql"] for q in queries.captured_queries if q["sql"].startswith('UPDATE "vouchers_voucher"')]
    assert update.startswith("""UPDATE "vouchers_voucher" SET "note" = 'Called on Monday.' WHERE""")
    before = {**vars(issued)}
    issued.refresh_from_db()
    changed = {name for name, value in vars(issued).items() if value != before.get(name) and name != "_state"}
    assert changed == {"note"}
    assert logged(issued) == ["Changed Note."]


def test_it_shows_what_became_of_a_voucher(admin_client: Client, issued: Voucher) -> None:
    issuance = issued.issuances.get()

    shown_page = admin_client.get(page(issued)).content.decode()

    assert f"/admin/vouchers/issuance/{issuance.pk}/change/" in shown_page
    assert f"/admin/vouchers/delivery/{issuance.deliveries.get().pk}/change/" in shown_page


def test_it_shows_the_fate_of_each_email(admin_client: Client, issued: Voucher) -> None:
    now = timezone.now()
    Delivery.objects.update(fate="bounced", fate_at=now, fate_reason="550 <no such> user", status="sent", sent_at=now)

    shown_page = admin_client.get(page(issued)).content.decode()

    assert '<span class="desk-badge desk-bounced">Bounced</span>' in shown_page
    assert "550 &lt;no such&gt; user" in shown_page


def test_it_shows_redemptions_that_were_refused(admin_client: Client, issued: Voucher) -> None:
    RedeemAttempt.objects.create(
        voucher=issued, reason="other_email", caller="key:<b>", email="eve@example.com", times=17
    )

    shown_page = admin_client.get(page(issued)).content.decode()

    for seen in ("Not the email it was issued to", "key:&lt;b&gt;", "eve@example.com", "<td>17</td>"):
        assert seen in shown_page


def test_it_tells_what_replaced_a_code_and_what_it_replaces(admin_client: Client, issued: Voucher) -> None:
    make_pool(issued.course, 2)
    issuance = issued.issuances.get()
    second, third = (replace_voucher(issuance, reason=f"Leaked <{n}>", actor="user:7") for n in (1, 2))

    for voucher in (issued, second, third):
        shown = admin_client.get(page(voucher))
        chain = [(replaced.voucher_id, heir) for replaced, heir in shown.context["replacements"]]
        assert chain == [(issued.pk, second.pk), (second.pk, third.pk)]
        assert "Leaked &lt;2&gt;" in shown.content.decode()
        assert list(shown.context["issuances"]) == [issuance]


@pytest.mark.parametrize("number", [1, 12])
def test_it_shows_a_long_story_with_the_same_few_queries(
    admin_client: Client, issued: Voucher, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    make_pool(issued.course, number)
    issuance = issued.issuances.get()
    for _ in range(number):
        last = replace_voucher(issuance, reason="Leaked", actor="user:7")
    for caller in range(number):
        RedeemAttempt.objects.create(voucher=last, reason="revoked", caller=f"key:{caller}")
    admin_client.get(page(last))

    # The session, the user, the voucher; its issuances, replacements, attempts, emails and redemption.
    with django_assert_num_queries(9):
        admin_client.get(page(last))


def test_it_neither_adds_nor_deletes(admin_client: Client, issued: Voucher) -> None:
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(page(issued, "delete"), {"post": "yes"}).status_code == 403
    assert Voucher.objects.filter(pk=issued.pk).exists()


def choose(action: str, *vouchers: Voucher, **more: str) -> dict[str, object]:
    return {"action": action, "_selected_action": [voucher.pk for voucher in vouchers], **more}


def test_it_asks_for_a_reason_before_it_revokes(admin_client: Client, issued: Voucher) -> None:
    asked = admin_client.post(LIST, choose("revoke", issued))
    refused = admin_client.post(LIST, choose("revoke", issued, reason=" "))

    assert "••••-001" in asked.content.decode()
    assert issued.code not in asked.content.decode()
    assert not asked.context["form"].errors
    assert refused.context["form"].errors == {"reason": ["This field is required."]}
    issued.refresh_from_db()
    assert issued.status == Voucher.Status.ISSUED
    assert not LogEntry.objects.exists()


def test_it_keeps_the_word_by_which_refunds_are_known_for_refunds(admin_client: Client, issued: Voucher) -> None:
    refused = admin_client.post(LIST, choose("revoke", issued, reason="refunded"))
    assert "Say more" in refused.context["form"].errors["reason"][0]
    issued.refresh_from_db()
    assert issued.status == "issued"


def test_it_revokes_what_is_chosen_and_logs_the_reason(admin_client: Client, issued: Voucher) -> None:
    [available] = make_pool(issued.course, 1)

    response = admin_client.post(LIST, choose("revoke", issued, available, reason="Bought twice"))

    assert said(response) == "2 vouchers revoked."
    for voucher in (issued, available):
        voucher.refresh_from_db()
        assert (voucher.status, voucher.revoked_reason) == (Voucher.Status.REVOKED, "Bought twice")
        assert logged(voucher) == ["Revoked: Bought twice"]
    assert issued.code not in str(LogEntry.objects.values_list("object_repr", "change_message"))


def test_it_says_which_could_not_be_revoked_and_revokes_the_rest(admin_client: Client, issued: Voucher) -> None:
    [gone] = make_pool(issued.course, 1)
    admin_client.post(page(gone, "revoke"), {"reason": "first"})

    response = admin_client.post(LIST, choose("revoke", issued, gone, reason="second"))

    assert f"Voucher {gone.pk} is revoked and cannot be revoked." in said(response)
    gone.refresh_from_db()
    issued.refresh_from_db()
    assert (gone.revoked_reason, issued.revoked_reason) == ("first", "second")
    assert logged(gone) == ["Revoked: first"]


def test_it_revokes_from_the_page_of_a_voucher(admin_client: Client, issued: Voucher) -> None:
    assert "••••-001" in admin_client.get(page(issued, "revoke")).content.decode()

    response = admin_client.post(page(issued, "revoke"), {"reason": "Bought twice"})

    assert response.headers["Location"] == page(issued)
    issued.refresh_from_db()
    assert issued.status == Voucher.Status.REVOKED


def test_it_refuses_to_revoke_more_than_can_be_looked_at(
    admin_client: Client, issued: Voucher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vouchers.admin.deeds.AT_ONCE", 1)
    make_pool(issued.course, 1)

    response = admin_client.post(LIST, choose("revoke", issued, select_across="1", reason="all of them"))

    assert "Choose at most 1" in said(response)
    assert not Voucher.objects.filter(status=Voucher.Status.REVOKED).exists()


def test_it_sends_the_email_again(admin_client: Client, issued: Voucher) -> None:
    response = admin_client.post(page(issued, "resend"))

    assert response.headers["Location"] == page(issued)
    again = Delivery.objects.get(issuance__voucher=issued, series=2)
    assert said(response) == "1 email queued to be sent again."
    assert logged(issued) == [f"Sent the email of issuance {again.issuance_id} again (delivery {again.pk})."]


def test_it_sends_no_email_of_a_voucher_that_nobody_holds(admin_client: Client, issued: Voucher) -> None:
    [available] = make_pool(issued.course, 1)

    response = admin_client.post(LIST, choose("resend", issued, available))

    assert "1 voucher belonged to nobody" in said(response)
    assert Delivery.objects.count() == 2


def test_it_sends_no_email_of_a_revoked_voucher(admin_client: Client, issued: Voucher) -> None:
    admin_client.post(page(issued, "revoke"), {"reason": "Bought twice"})

    response = admin_client.post(page(issued, "resend"))

    assert "is revoked" in said(response)
    assert Delivery.objects.count() == 1


def test_it_offers_no_deed_to_those_who_may_only_look(issued: Voucher) -> None:
    client = log_in("view_voucher")

    listed = client.get(LIST)
    shown_page = client.get(page(issued)).content.decode()

    assert listed.context["action_form"] is None
    assert page(issued, "revoke") not in shown_page
    assert page(issued, "resend") not in shown_page
    assert 'name="note"' not in shown_page


@pytest.mark.parametrize("deed", ["revoke", "resend", "change"])
def test_it_refuses_deeds_of_those_who_may_only_look(issued: Voucher, deed: str) -> None:
    client = log_in("view_voucher", "view_issuance", "view_delivery")

    assert client.post(page(issued, deed), {"reason": "mine", "note": "mine"}).status_code == 403
    client.post(LIST, choose("revoke", issued, reason="mine"))
    client.post(LIST, choose("resend", issued))

    issued.refresh_from_db()
    assert (issued.status, issued.note) == (Voucher.Status.ISSUED, "")
    assert Delivery.objects.count() == 1
    assert not LogEntry.objects.exists()
