"""The search of the support desk: what a buyer may tell, and what it leads to."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course, Purchase
from tests.factories import BatchFactory, PurchaseFactory, VoucherFactory, issue_to, make_pool
from vouchers.correcting import correct_address
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.deeds import return_voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.revoking import revoke_voucher
from vouchers.support.searching import SHOWN, Subject, find_cases, issuances_of, purchases_of, with_part

pytestmark = pytest.mark.django_db


def found(term: str) -> list[Subject]:
    return [hit.subject for hit in find_cases(term).hits]


def state(term: str) -> str:
    """Of the one case that is found."""
    (hit,) = find_cases(term).hits
    return hit.state.words


def seats_of(course: Course, number: int, email: str = "ann@example.com", **fields: Any) -> Purchase:
    """A payment with this many seats, each with a voucher."""
    purchase = PurchaseFactory.create(course=course, email=email, quantity=number, **fields)
    make_pool(course, number)
    for unit in range(1, number + 1):
        issuance = issue_to(course, email, order_id=f"{purchase.reference} {unit}")
        Issuance.objects.filter(pk=issuance.pk).update(purchase=purchase, unit=unit, order_id="")
    return purchase


@pytest.fixture
def issuance(course: Course) -> Issuance:
    VoucherFactory.create(course=course, code="JS101-XZ4B7Q-001")
    return issue_to(course, "Ann@Example.com", order_id="order-77")


@pytest.mark.parametrize(
    "term",
    [
        "ann@example.com",
        " ANN@EXAMPLE.COM ",
        "order-77",
        "JS101-XZ4B7Q-001",
        "js101-xz4b7q-001",
        "z4b7",
        "4B7Q-0",
        "JS101–XZ4B7Q",  # noqa: RUF001  # a dash of a word processor
        "-001",
    ],
)
def test_it_finds_what_is_owed_by_whatever_a_buyer_tells(issuance: Issuance, term: str) -> None:
    assert found(term) == [issuance]


@pytest.mark.parametrize(
    "term", ["", "  ", "ann", "ann@example", "order-7", "Z4B", "%4B7", "____", "Z4B7_", "\x00", "ß4B7"]
)
def test_it_finds_nothing_by_less_than_that(issuance: Issuance, term: str) -> None:
    assert found(term) == []


def test_a_wildcard_in_a_part_of_a_code_means_itself(course: Course) -> None:
    odd = VoucherFactory.create(course=course, code="A%B_C\\D-100")
    VoucherFactory.create(course=course, code="AXBYCZD-100")
    wanted, _ = issue_to(course, "a@example.com"), issue_to(course, "b@example.com")

    assert found("A%B_C") == found("_C\\D") == [wanted]
    assert wanted.voucher == odd


def test_it_shows_the_code_masked_and_everything_else_in_full(issuance: Issuance) -> None:
    (hit,) = find_cases("order-77").hits

    assert hit.code == "••••-001"
    assert (hit.email, hit.order, hit.course_id) == ("Ann@Example.com", "order-77", "JS101")
    assert (hit.state.words, hit.at) == ("Issued, email queued", issuance.issued_at)


def test_an_address_from_before_a_correction_leads_to_what_it_was_owed(issuance: Issuance) -> None:
    correct_address(issuance, email="bob@example.com", actor="user:1")

    assert found("ann@example.com") == found("bob@example.com") == [issuance]


def test_a_replaced_code_leads_to_the_issuance_it_belonged_to(issuance: Issuance, course: Course) -> None:
    make_pool(course, 1)
    replace_voucher(issuance, reason="posted in a forum", actor="user:1")

    assert found("XZ4B7Q") == [issuance]


def test_a_code_of_the_pool_is_found_whole_and_not_by_a_part(course: Course) -> None:
    voucher = VoucherFactory.create(course=course, code="JS101-INPOOL-001")

    assert found("js101-inpool-001") == [voucher]
    assert state("js101-inpool-001") == "In the pool"
    assert found("INPOOL") == []


def test_a_whole_code_is_not_also_a_part_of_others(course: Course) -> None:
    VoucherFactory.create(course=course, code="JS101-001")
    VoucherFactory.create(course=course, code="JS101-0011")
    wanted, other = issue_to(course, "a@example.com"), issue_to(course, "b@example.com")

    assert found("JS101-001") == [wanted]
    assert found("JS101-00") == [other, wanted]


def test_a_code_on_paper_that_was_redeemed_is_found_by_its_buyer_too(course: Course) -> None:
    voucher = VoucherFactory.create(course=course, code="PAPER-0001")
    redeem_voucher(RedeemRequest(code="PAPER-0001", guesser=Guesser("tests", 10), email="eve@example.com"))

    assert found("eve@example.com") == found("PAPER") == [voucher]
    assert state("PAPER") == "Redeemed"


def test_a_free_purchase_is_part_of_the_case_of_its_voucher(issuance: Issuance) -> None:
    redeem_voucher(RedeemRequest(code="JS101-XZ4B7Q-001", guesser=Guesser("tests", 10), email="eve@example.com"))

    assert found("eve@example.com") == found("ann@example.com") == [issuance]


def test_a_code_that_went_back_into_the_pool_is_found_beside_what_was_owed(course: Course) -> None:
    course.reveal = Course.Reveal.LINK
    course.save(update_fields=["reveal"])
    voucher = VoucherFactory.create(course=course, code="JS101-BACK-001")
    issuance = issue_to(course)
    revoke_voucher(voucher, reason="refunded")
    return_voucher(issuance)

    assert set(found("JS101-BACK-001")) == {issuance, voucher}
    assert state("ann@example.com") == "Returned to the pool"


@pytest.mark.parametrize("term", ["pi_77", "cs_77", "ann@example.com"])
def test_a_payment_of_one_seat_leads_to_that_seat(course: Course, term: str) -> None:
    seats_of(course, 1, reference="pi_77", checkout="cs_77")

    assert found(term) == [Issuance.objects.get()]


@pytest.mark.parametrize("term", ["pi_77", "cs_77", "ann@example.com"])
def test_a_payment_of_several_seats_is_one_case_with_all_of_them(course: Course, term: str) -> None:
    purchase = seats_of(course, 3, reference="pi_77", checkout="cs_77", paid_at=timezone.now())

    assert found(term) == [purchase]
    assert state(term) == "Paid, 3 issued"


def test_a_seat_that_moved_to_another_address_is_found_by_that(course: Course) -> None:
    seats_of(course, 2)
    seat = Issuance.objects.earliest("pk")
    correct_address(seat, email="bob@example.com", actor="user:1")

    assert found("bob@example.com") == [seat]


def test_a_payment_that_is_owed_nothing_yet_is_found_by_itself(course: Course) -> None:
    purchase = PurchaseFactory.create(course=course, reference="pi_77", review="Paid too little.")

    assert found("pi_77") == found("ann@example.com") == [purchase]
    assert state("pi_77") == "To be reviewed"


def fail(delivery: Delivery, **fields: Any) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(**fields)


def test_it_says_where_each_is(course: Course) -> None:
    make_pool(course, 4)
    for email in ("queued", "bounced", "seen", "revoked", "first", "second"):
        issue_to(course, f"{email}@example.com")
    bounced = Delivery.objects.get(email="bounced@example.com")
    fail(bounced, status="sent", sent_at=timezone.now(), fate="bounced", fate_at=timezone.now())
    Issuance.objects.filter(email="seen@example.com").update(seen_at=timezone.now())
    revoke_voucher(Voucher.objects.get(issued_to="revoked@example.com"), reason="stolen")

    assert [hit.state.kind for hit in find_cases("bounced@example.com").hits] == ["bad"]
    assert {name: state(f"{name}@example.com") for name in ("queued", "bounced", "seen", "revoked", "second")} == {
        "queued": "Issued, email queued",
        "bounced": "Issued, email bounced",
        "seen": "Issued, seen",
        "revoked": "Revoked",
        "second": "Waiting, place 2",
    }


def test_a_payment_says_how_many_of_its_emails_did_not_arrive(course: Course) -> None:
    seats_of(course, 3, reference="pi_77", paid_at=timezone.now())
    fail(Delivery.objects.earliest("pk"), status="failed")

    (hit,) = find_cases("pi_77").hits
    assert (hit.state.kind, hit.state.words) == ("bad", "Paid, 3 issued, 1 not delivered")


def test_it_shows_the_newest_first_and_says_that_there_are_more(course: Course) -> None:
    make_pool(course, SHOWN + 2)
    issuances = [issue_to(course, order_id=f"order-{n}") for n in range(SHOWN + 2)]

    result = find_cases("ann@example.com")

    assert [hit.subject for hit in result.hits] == issuances[:1:-1]
    assert result.has_more
    assert not find_cases("order-3").has_more


def test_it_takes_the_same_number_of_statements_however_much_is_found(
    course: Course, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_pool(course, 20, expires_on=timezone.localdate() + dt.timedelta(days=9))
    seats_of(course, 2)
    issue_to(course, order_id="first")
    with CaptureQueriesContext(connection) as few:
        find_cases("ann@example.com")
    for number in range(15):
        issue_to(course, order_id=f"order-{number}")
    for _ in range(4):
        seats_of(course, 3)

    with django_assert_num_queries(len(few)):
        assert len(find_cases("ann@example.com").hits) == 21
    assert len(few) == 9


# Which index serves which search, in tables that are full enough for the planner to care.

SMALL = ("courses_course", "vouchers_replacement")
FULL = """
    INSERT INTO vouchers_voucher (code, course_id, batch_id, position, status, issued_to, revoked_reason, note)
        SELECT 'JS101-' || md5(n::text), 'JS101', %s, n, 'available', '', '', '' FROM generate_series(1, 6000) AS n;
    UPDATE vouchers_voucher SET status = 'revoked', revoked_at = now(), issued_at = now(), issued_to = 'a@example.com';
    INSERT INTO vouchers_issuance (course_id, email, order_id, status, caller)
        SELECT 'JS101', n || '@example.com', 'order-' || n, 'waiting', 'tests' FROM generate_series(1, 3000) AS n;
    INSERT INTO vouchers_addresschange (issuance_id, old_email, new_email, actor)
        SELECT id, 'old-' || email, email, 'tests' FROM vouchers_issuance;
    INSERT INTO courses_purchase (id, token, provider, reference, checkout, email, language, quantity, began_here,
            agreed_currency, amount, currency, refunded_amount, review)
        SELECT gen_random_uuid(), md5(n::text), 'stripe', 'pi_' || n, 'cs_' || n, n || '@example.com', '', 1, false,
            '', 49, 'usd', 0, '' FROM generate_series(1, 3000) AS n;
    ANALYZE vouchers_voucher, vouchers_issuance, vouchers_addresschange, courses_purchase;
    SET LOCAL enable_seqscan = off;
"""


@pytest.fixture
def full_tables(course: Course) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FULL, [BatchFactory.create(course=course).pk])


def indexes(queryset: QuerySet[Any, Any]) -> set[str]:
    """Every index of a plan that is searched by a condition, rather than walked from one end to the other."""
    plans, names = [json.loads(queryset.explain(format="json"))[0]["Plan"]], set()
    while plans:
        plan = plans.pop()
        plans += plan.get("Plans", [])
        if "Index Cond" in plan:
            names.add(plan["Index Name"])
        assert plan["Node Type"] != "Seq Scan" or plan["Relation Name"] in SMALL, plan
    return names


@pytest.mark.usefixtures("full_tables")
def test_a_part_of_a_code_is_found_by_the_index_of_parts() -> None:
    assert indexes(with_part("xz4b")) == {"voucher_code_parts"}


@pytest.mark.usefixtures("full_tables")
def test_a_payment_is_found_by_the_indexes_of_its_email_and_its_names() -> None:
    assert indexes(purchases_of("ann@example.com")) >= {"purchase_email", "purchase_once_per_reference"}


@pytest.mark.usefixtures("full_tables")
def test_what_is_owed_is_found_by_the_indexes_of_emails_and_orders() -> None:
    served_by = indexes(issuances_of("ann@example.com", [], [1]))
    assert served_by >= {"issuance_email", "address_change_old_email", "issuance_once_per_order"}
