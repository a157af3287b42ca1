from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from vouchers import pool
from vouchers.importing.lines import Line
from vouchers.importing.storing import Upload, import_codes
from vouchers.issuing import give_or_queue
from vouchers.models import Issuance, Voucher
from vouchers.pool import Holder, give_codes

pytestmark = pytest.mark.django_db

SOON = timezone.localdate() + dt.timedelta(days=30)


def code_for(course: Course, email: str) -> str:
    issuance = issue_to(course, email)
    assert issuance.voucher is not None
    return issuance.voucher.code


class TestPlace:
    """Where a process goes on in a pool."""

    def test_it_goes_on_behind_the_code_it_took_last(self, course: Course) -> None:
        codes = [voucher.code for voucher in make_pool(course, 3)]
        assert [code_for(course, f"{n}@example.com") for n in range(3)] == codes

    def test_what_came_back_before_it_is_taken_once_there_is_none_behind_it(self, course: Course) -> None:
        first, _, third = make_pool(course, 3)
        taken = [issue_to(course, f"{n}@example.com") for n in range(2)]
        give_back(taken[0])
        assert code_for(course, "next@example.com") == third.code
        assert code_for(course, "last@example.com") == first.code

    def test_what_came_back_is_next_after_a_minute(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        first, *_ = make_pool(course, 3)
        taken = issue_to(course, "ann@example.com")
        give_back(taken)
        monkeypatch.setattr(pool, "PLACE_SECONDS", -1.0)
        assert code_for(course, "bob@example.com") == first.code

    def test_an_upload_that_expires_sooner_is_seen_at_once(self, course: Course) -> None:
        make_pool(course, 3)
        issue_to(course, "ann@example.com")
        lines = [Line(1, "SOONER-1")]
        import_codes(Upload(course=course, actor="tests", source="command", expires_on=SOON), lines)
        assert code_for(course, "bob@example.com") == "SOONER-1"

    def test_codes_that_another_minimum_lets_in_are_seen_at_once(self, course: Course) -> None:
        (short,) = make_pool(course, 1, expires_on=SOON)
        make_pool(course, 2)
        Course.objects.update(minimum_validity_days=60)
        assert code_for(course, "ann@example.com") != short.code
        Course.objects.update(minimum_validity_days=0)
        assert code_for(course, "bob@example.com") == short.code

    def test_each_course_has_its_own(self, course: Course) -> None:
        other = CourseFactory.create()
        mine, yours = make_pool(course, 2), make_pool(other, 2)
        codes = [code_for(one, f"{n}@example.com") for n in range(2) for one in (course, other)]
        assert codes == [mine[0].code, yours[0].code, mine[1].code, yours[1].code]


def give_back(issuance: Issuance) -> None:
    """What staff do with the code of a refunded seat."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE vouchers_issuance SET status = 'returned' WHERE id = %s", [issuance.pk])
        cursor.execute(
            "UPDATE vouchers_voucher SET status = 'available', issued_at = NULL, issued_to = '' WHERE id = %s",
            [issuance.voucher_id],
        )


class TestMany:
    HOLDERS = [Holder(email=f"{n}@example.com", order_id=f"A-{n}") for n in range(5)]

    def test_they_get_the_next_codes_in_their_order(self, course: Course) -> None:
        vouchers = make_pool(course, 7)
        given = give_codes(course, self.HOLDERS, caller="tests")
        assert [(i.email, i.order_id, i.voucher) for i in given] == [
            (holder.email, holder.order_id, voucher) for holder, voucher in zip(self.HOLDERS, vouchers, strict=False)
        ]
        for issuance in given:
            stored = Issuance.objects.get(pk=issuance.pk)
            assert (stored.email, stored.voucher, stored.issued_at) == (
                issuance.email,
                issuance.voucher,
                issuance.issued_at,
            )
            assert stored.deliveries.get().email == issuance.email

    def test_the_first_get_what_there_is_and_the_others_wait_in_order(self, course: Course) -> None:
        make_pool(course, 3)
        issuances = give_or_queue(course, self.HOLDERS, caller="tests")
        assert [issuance.status for issuance in issuances] == ["issued"] * 3 + ["waiting"] * 2
        assert list(Issuance.objects.waiting(course)) == issuances[3:]

    def test_codes_before_and_behind_the_place_are_given_once(self, course: Course) -> None:
        make_pool(course, 4)
        taken = [issue_to(course, f"{n}@example.org") for n in range(3)]
        for issuance in taken[:2]:
            give_back(issuance)
        given = give_codes(course, self.HOLDERS, caller="tests")
        assert len({issuance.voucher_id for issuance in given}) == 3
        assert not Voucher.objects.filter(status="available").exists()

    def test_it_is_the_same_statement_for_any_number(self, course: Course, django_assert_num_queries: Any) -> None:
        make_pool(course, 5)
        with django_assert_num_queries(1):
            give_codes(course, self.HOLDERS, caller="tests")
