"""The rules on seen codes, holders and replaced vouchers, tried with raw SQL."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from tests.test_rules import BACK, execute, refused
from vouchers.models import Delivery, Issuance, Replacement, Voucher

pytestmark = pytest.mark.django_db


@pytest.fixture
def issuance(course: Course) -> Issuance:
    make_pool(course, 2)
    return issue_to(course)


def voucher_of(issuance: Issuance) -> Voucher:
    assert issuance.voucher is not None
    return issuance.voucher


def voucher_now(issuance: Issuance) -> Voucher:
    return Voucher.objects.get(issuances=issuance)


def take_back(issuance: Issuance) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE vouchers_issuance SET status = 'returned' WHERE id = %s", [issuance.pk])
        cursor.execute(f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", [issuance.voucher_id])


class TestReturn:
    def test_a_code_goes_back_whose_email_held_only_a_link(self, issuance: Issuance) -> None:
        Delivery.objects.update(attempts=1, carries_code=False)
        take_back(issuance)
        assert voucher_now(issuance).status == "available"

    @pytest.mark.parametrize("evidence", ["seen_at", "told_at"])
    def test_a_code_never_goes_back_that_somebody_saw(self, issuance: Issuance, evidence: str) -> None:
        Issuance.objects.update(**{evidence: issuance.issued_at})
        with pytest.raises(IntegrityError, match="may not go back"):
            take_back(issuance)
        assert voucher_now(issuance).status == "issued"

    def test_a_code_never_goes_back_that_an_email_carried(self, issuance: Issuance) -> None:
        Delivery.objects.update(attempts=1)
        with pytest.raises(IntegrityError, match="may not go back"):
            take_back(issuance)


class TestHolder:
    def test_the_voucher_alone_does_not_change_hands(self, issuance: Issuance) -> None:
        refused(
            "voucher_issued_has_issuance",
            "SET CONSTRAINTS ALL IMMEDIATE; UPDATE vouchers_voucher SET issued_to = 'eve@example.com' WHERE id = %s",
            issuance.voucher_id,
        )

    def test_the_issuance_alone_does_not_change_hands(self, issuance: Issuance) -> None:
        refused(
            "voucher_issued_has_issuance",
            "SET CONSTRAINTS ALL IMMEDIATE; UPDATE vouchers_issuance SET email = 'eve@example.com' WHERE id = %s",
            issuance.pk,
        )

    def test_both_together_do(self, issuance: Issuance) -> None:
        execute("UPDATE vouchers_issuance SET email = 'bob@example.com'")
        execute("UPDATE vouchers_voucher SET issued_to = 'bob@example.com' WHERE status = 'issued'")
        execute("SET CONSTRAINTS ALL IMMEDIATE")


class TestReplacement:
    def prepare(self, issuance: Issuance) -> None:
        """What has to be there before the other voucher takes its place."""
        Voucher.objects.filter(issuances=issuance).update(status="revoked", revoked_at=issuance.issued_at)
        Replacement.objects.create(issuance=issuance, voucher=voucher_of(issuance), reason="tests", actor="tests")

    def other(self, issuance: Issuance) -> Voucher:
        return Voucher.objects.exclude(issuances=issuance).get()

    def replace(self, issuance: Issuance, voucher: Voucher) -> tuple[str, int, int]:
        return "UPDATE vouchers_issuance SET voucher_id = %s WHERE id = %s", voucher.pk, issuance.pk

    def test_a_revoked_voucher_gives_its_place_to_another(self, issuance: Issuance) -> None:
        self.prepare(issuance)
        other = self.other(issuance)
        Voucher.objects.filter(pk=other.pk).update(
            status="issued", issued_to=issuance.email, issued_at=issuance.issued_at
        )
        execute(*self.replace(issuance, other))
        execute("SET CONSTRAINTS ALL IMMEDIATE")

    def test_it_is_written_down(self, issuance: Issuance) -> None:
        self.prepare(issuance)
        Replacement.objects.all().delete()
        refused("issuance_identity", *self.replace(issuance, self.other(issuance)))

    def test_the_old_one_is_revoked(self, issuance: Issuance) -> None:
        Replacement.objects.create(issuance=issuance, voucher=voucher_of(issuance), reason="tests", actor="tests")
        refused("issuance_identity", *self.replace(issuance, self.other(issuance)))

    def test_the_new_one_is_issued(self, issuance: Issuance) -> None:
        self.prepare(issuance)
        refused("issuance_voucher_matches", *self.replace(issuance, self.other(issuance)))

    def test_the_new_one_is_of_the_same_course(self, issuance: Issuance) -> None:
        self.prepare(issuance)
        other = CourseFactory.create()
        make_pool(other, 1)
        refused("issuance_voucher_matches", *self.replace(issuance, voucher_of(issue_to(other))))

    def test_a_voucher_is_not_simply_taken_away(self, issuance: Issuance) -> None:
        self.prepare(issuance)
        refused("issuance_identity", "UPDATE vouchers_issuance SET voucher_id = NULL WHERE id = %s", issuance.pk)


class TestDelivery:
    def test_it_belongs_to_what_its_kind_is_about(self, issuance: Issuance, course: Course) -> None:
        for kind in ("waiting", "confirmation", "alert"):
            refused("delivery_kind_matches_its_subject", "UPDATE vouchers_delivery SET kind = %s", kind)
        for kind in ("reminder", "expiry"):
            execute("UPDATE vouchers_delivery SET kind = %s", kind)
        refused("delivery_kind_matches_its_subject", "UPDATE vouchers_delivery SET course_id = %s", course.pk)

    def test_its_fate_has_a_time(self, issuance: Issuance) -> None:
        refused("delivery_fate_has_its_time", "UPDATE vouchers_delivery SET fate = 'bounced'")

    def test_a_reminder_goes_out_once(self, issuance: Issuance) -> None:
        for message_id in ("<1@desk>", "<2@desk>"):
            row = Delivery(issuance=issuance, kind="reminder", email=issuance.email, message_id=message_id)
            Delivery.objects.bulk_create([row], ignore_conflicts=True)
        assert Delivery.objects.filter(kind="reminder").count() == 1
