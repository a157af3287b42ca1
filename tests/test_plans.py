"""The plans of the statements that everything else waits for, pinned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet

from courses.models import Course, Purchase
from tests.factories import BatchFactory, CourseFactory
from vouchers.admin.deliveries import sent_to
from vouchers.admin.vouchers import issuances_of
from vouchers.models import Delivery, Issuance, Voucher

pytestmark = pytest.mark.django_db


def nodes(queryset: QuerySet[Any]) -> list[dict[str, Any]]:
    plan = json.loads(queryset.explain(format="json"))[0]["Plan"]
    found = []
    while plan:
        found.append(plan)
        plan = plan.get("Plans", [None])[0]
    return found


@pytest.fixture
def full_course(course: Course) -> Course:
    """A course that fills the table, most of it gone: where a wrong plan costs most."""
    other = BatchFactory.create(course=CourseFactory.create(id="PY201"))
    batch = BatchFactory.create(course=course)
    rows = """
        INSERT INTO vouchers_voucher
            (code, course_id, batch_id, position, status, issued_to, revoked_reason, note)
        SELECT %s || n, %s, %s, n, 'available', '', '', '' FROM generate_series(1, %s) AS n
    """
    taken = """
        UPDATE vouchers_voucher SET status = 'revoked', revoked_at = now(), issued_at = now(),
            issued_to = position || '@example.com'
        WHERE position %% 10 > 0
    """
    with connection.cursor() as cursor:
        cursor.execute(rows, ["JS-AAAA-", "JS101", batch.pk, 30_000])
        cursor.execute(rows, ["PY-AAAA-", "PY201", other.pk, 100])
        cursor.execute(taken, [])
        cursor.execute("ANALYZE vouchers_voucher")
    return course


@pytest.mark.parametrize("course_id", ["JS101", "PY201"])
def test_a_claim_walks_the_pool_s_own_index_in_order(full_course: Course, course_id: str) -> None:
    course = Course.objects.get(pk=course_id)
    claim = nodes(Voucher.objects.pool(course).select_for_update(skip_locked=True)[:1])
    assert [node["Node Type"] for node in claim] == ["Limit", "LockRows", "Index Scan"]
    assert claim[-1]["Index Name"] == "voucher_pool"


def generic_plan(function: str, first: str, inside: str, last: str, types: dict[str, str]) -> list[dict[str, Any]]:
    """The nodes of the plan that a function of the database keeps for the piece of it from `first` to `last`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [function])
        (source,) = cursor.fetchone()
        begin = source.rindex(first, 0, source.index(inside))
        statement = source[begin : source.index(last, begin) + len(last)]
        for number, (variable, type_) in enumerate(types.items(), 1):
            statement = statement.replace(variable, f"${number}::{type_}")
        cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}")
        return list(walked(cursor.fetchone()[0][0]["Plan"]))


def walked(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from walked(part)


@pytest.mark.parametrize("from_place", [">", "<="])
def test_giving_codes_walks_the_pool_s_own_index_in_order(full_course: Course, from_place: str) -> None:
    types = {"the_course": "text", "course.cutoff": "date", "place_day": "date", "place_position": "bigint"}
    types |= {"cardinality(emails)": "int", "cardinality(taken)": "int"}
    inside = f"(v.valid_until, v.position) {from_place} (place_day, place_position)"
    claim = generic_plan("vouchers_give", "SELECT v.id FROM", inside, "FOR UPDATE SKIP LOCKED", types)
    assert [node["Node Type"] for node in claim] == ["Limit", "LockRows", "Index Scan"]
    assert claim[-1]["Index Name"] == "voucher_pool"
    assert "ROW(valid_until" in claim[-1]["Index Cond"]


@pytest.mark.parametrize(("course_id", "index"), [("JS101", "vouchers_voucher_pkey"), ("PY201", "voucher_of_course")])
def test_a_page_of_the_list_begins_at_its_cursor(full_course: Course, course_id: str, index: str) -> None:
    """Where a course is the whole table, the primary key is as good as its own index."""
    vouchers = Voucher.objects.filter(course=course_id).order_by("pk")
    limit, scan = nodes(vouchers.filter(pk__gt=vouchers[50].pk)[:101])
    assert (limit["Node Type"], scan["Node Type"], scan["Index Name"]) == ("Limit", "Index Scan", index)
    assert "id >" in scan["Index Cond"]


def test_a_code_is_found_by_its_unique_index(full_course: Course) -> None:
    (scan,) = nodes(Voucher.objects.with_code("js-aaaa-77"))
    assert scan["Index Name"] == "voucher_code_unique_without_case"


def test_a_holder_is_found_by_the_index_of_holders(full_course: Course) -> None:
    scan = nodes(Voucher.objects.held_by("77@EXAMPLE.com").order_by())[-1]
    assert scan["Index Name"] == "voucher_holder"


def test_the_queue_is_read_from_its_own_index(full_course: Course) -> None:
    Issuance.objects.bulk_create(
        Issuance(course=full_course, email=f"{n}@example.com", caller="tests") for n in range(2000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE vouchers_issuance")
    scan = nodes(Issuance.objects.waiting(full_course)[:10])[-1]
    assert scan["Index Name"] == "issuance_queue"


def test_what_emails_still_hold_is_looked_up_and_not_gathered(full_course: Course) -> None:
    one = Issuance.objects.still_owed_to("7@example.com", full_course)
    many = Issuance.objects.still_owed(full_course).of_emails([f"{n}@example.com" for n in range(1000)])
    for asked in (one, many.select_related("voucher")):
        plan = asked.explain()
        assert "using vouchers_voucher_pkey" in plan or "using voucher_status" in plan  # which has the key too
        assert "Seq Scan on vouchers_voucher" not in plan


def test_what_left_the_pool_is_listed_by_the_index_of_statuses(full_course: Course) -> None:
    scan = nodes(Voucher.objects.shown_as("revoked").order_by("-id")[:100])[-1]
    assert scan["Index Name"] == "voucher_status"


def test_what_expires_is_listed_by_the_index_of_expiry(full_course: Course) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE vouchers_voucher SET expires_on = '2026-01-01' WHERE position > 15000")
        cursor.execute("ANALYZE vouchers_voucher")
    expired = Voucher.objects.shown_as("expired").order_by("-valid_until", "-course_id", "-id")
    for vouchers in (expired, expired.filter(course=full_course)):
        found = nodes(vouchers[:100])
        assert [node["Node Type"] for node in found] == ["Limit", "Index Scan"]
        assert found[-1]["Index Name"] == "voucher_expiry"


PAID = """
    INSERT INTO courses_purchase (id, token, provider, reference, checkout, course_id, email, language, quantity,
            began_here, agreed_currency, amount, currency, refunded_amount, review, paid_at, created_at)
        SELECT md5(n::text)::uuid, md5(n::text), 'stripe', 'pi_' || n, '',
            CASE WHEN n % 99 = 0 THEN 'PY201' ELSE 'JS101' END, n || '@example.com', '', 1, false,
            '', 49, 'usd', 0, '', now(), now() - n * interval '1 min'
        FROM generate_series(1, 5000) AS n;
    INSERT INTO vouchers_issuance (course_id, email, order_id, status, caller, purchase_id, unit)
        SELECT course_id, email, '', 'waiting', 'tests', id, 1 FROM courses_purchase;
    INSERT INTO vouchers_delivery (kind, series, email, status, attempts, message_id, provider_id, last_error,
            carries_code, fate, fate_reason, language, purchase_id)
        SELECT 'waiting', 1, email, CASE WHEN reference LIKE '%00' THEN 'failed' ELSE 'queued' END, 1,
            reference, '', '', false, '', '', '', id
        FROM courses_purchase;
    INSERT INTO vouchers_delivery (kind, series, email, status, attempts, message_id, provider_id, last_error,
            carries_code, fate, fate_reason, language, issuance_id)
        SELECT 'voucher', 1, email, CASE WHEN id % 100 = 0 THEN 'failed' ELSE 'queued' END, 1,
            'of ' || id, '', '', false, '', '', '', id
        FROM vouchers_issuance;
    ANALYZE courses_purchase, vouchers_issuance, vouchers_delivery;
"""


@pytest.fixture
def sold(full_course: Course) -> Course:
    """And five thousand payments, nearly all of one course; a hundredth of their emails failed."""
    with connection.cursor() as cursor:
        cursor.execute(PAID)
    return full_course


@pytest.mark.usefixtures("sold")
def test_lists_of_one_course_are_read_from_the_indexes_of_courses() -> None:
    purchases = nodes(Purchase.objects.filter(course="PY201").order_by("-created_at", "-id")[:100])[-1]
    assert purchases["Index Name"] == "purchase_of_course"
    issuances = nodes(Issuance.objects.filter(course="PY201").order_by("-id")[:100])[-1]
    assert issuances["Index Name"] == "issuance_of_course"


@pytest.mark.usefixtures("sold")
def test_what_is_rare_is_listed_by_indexes_that_hold_nothing_else() -> None:
    for rare, index in [
        (Purchase.objects.filter(paid_at=None).order_by("-created_at"), "purchase_not_paid"),
        (Purchase.objects.filter(refunded_at__isnull=False).order_by("-created_at"), "purchase_refunded"),
        (Purchase.objects.filter(disputed_at__isnull=False).order_by("-created_at"), "purchase_disputed"),
        (Issuance.objects.filter(status="returned"), "issuance_closed"),
        (Issuance.objects.filter(held_since__isnull=False), "issuance_on_hold"),
        (Delivery.objects.filter(kind="alert"), "delivery_kind"),
        (Delivery.objects.filter(fate="opened"), "delivery_fate"),
    ]:
        assert nodes(rare[:100])[-1].get("Index Name") == index


@pytest.mark.usefixtures("sold")
def test_what_did_not_arrive_is_found_without_reading_what_did() -> None:
    plan = Delivery.objects.undelivered().explain()
    assert "delivery_in_trouble" in plan
    assert "Seq Scan on vouchers_issuance" not in plan
    assert "Seq Scan on vouchers_voucher" not in plan


@pytest.mark.usefixtures("sold")
def test_the_emails_of_an_address_are_found_by_what_they_are_about() -> None:
    plan = Delivery.objects.filter(pk__in=sent_to("77@example.com")).explain()
    assert "issuance_email" in plan
    assert "purchase_email" in plan
    assert "Seq Scan" not in plan


@pytest.mark.usefixtures("sold")
def test_whose_a_voucher_is_and_was_is_found_by_its_key() -> None:
    plan = issuances_of(Voucher.objects.all()[0]).explain()
    assert "Seq Scan on vouchers_issuance" not in plan


@pytest.mark.usefixtures("sold")
def test_one_index_serves_both_a_seat_and_all_seats_of_a_payment() -> None:
    purchase = Purchase.objects.filter(course="JS101")[0]
    for seats in (Issuance.objects.filter(purchase=purchase), Issuance.objects.filter(purchase__in=[purchase])):
        assert nodes(seats.order_by())[-1]["Index Name"] == "issuance_once_per_unit"
    emails = Delivery.objects.filter(purchase=purchase, kind="waiting", series=1)
    assert nodes(emails.order_by())[-1]["Index Name"] == "delivery_once_per_purchase"
