"""The rules the database holds, tried with raw SQL: whatever path a write takes, it meets them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from courses.models import Course, Purchase
from tests.factories import BatchFactory, CourseFactory, PurchaseFactory, VoucherFactory, issue_to, make_pool
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db


def execute(sql: str, *values: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, values)


def refused(rule: str, sql: str, *values: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        execute(sql, *values)
    diagnosis = caught.value.__cause__.diag  # type: ignore[union-attr]
    assert diagnosis.constraint_name == rule


def redeem(voucher: Voucher) -> Redemption:
    return redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))


@pytest.fixture
def issuance(course: Course) -> Issuance:
    make_pool(course, 1)
    return issue_to(course)


@pytest.fixture
def issued(issuance: Issuance) -> Voucher:
    assert issuance.voucher is not None
    return issuance.voucher


@pytest.fixture
def available(course: Course) -> Voucher:
    return make_pool(course, 1)[0]


BACK = "status = 'available', issued_at = NULL, issued_to = '', revoked_at = NULL, redeemed_at = NULL"


class TestVoucher:
    def test_it_never_goes_back_from_issued(self, issued: Voucher) -> None:
        refused("voucher_return", f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", issued.pk)
        issued.refresh_from_db()
        assert issued.status == "issued"

    def test_it_never_goes_back_by_a_stale_save_of_every_column(self, available: Voucher) -> None:
        stale = Voucher.objects.get(pk=available.pk)
        issue_to(available.course)
        stale.note = "a note"
        with pytest.raises(IntegrityError), transaction.atomic():
            stale.save()
        available.refresh_from_db()
        assert available.status == "issued"
        assert available.issued_to == "ann@example.com"

    @pytest.mark.parametrize("status", ["issued", "revoked"])
    def test_it_goes_back_only_with_its_issuance_in_one_transaction(self, issued: Voucher, status: str) -> None:
        if status == "revoked":
            revoke_voucher(issued, reason="refunded")
        with transaction.atomic():
            execute("UPDATE vouchers_issuance SET status = 'returned' WHERE voucher_id = %s", issued.pk)
            execute(f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", issued.pk)
        issued.refresh_from_db()
        assert issued.status == "available"
        assert issue_to(issued.course, "bob@example.com").voucher == issued

    def test_it_never_goes_back_once_its_holder_saw_it(self, issued: Voucher) -> None:
        revoke_voucher(issued, reason="refunded")
        execute(
            "UPDATE vouchers_issuance SET status = 'returned', seen_at = now() WHERE voucher_id = %s",
            issued.pk,
        )
        refused("voucher_return", f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", issued.pk)

    def test_it_never_goes_back_once_an_email_was_tried(self, issued: Voucher) -> None:
        Delivery.objects.update(attempts=1)
        revoke_voucher(issued, reason="refunded")
        execute("UPDATE vouchers_issuance SET status = 'returned' WHERE voucher_id = %s", issued.pk)
        refused("voucher_return", f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", issued.pk)

    def test_it_stays_redeemed(self, issued: Voucher) -> None:
        redeem(issued)
        refused("voucher_moves", f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", issued.pk)
        refused(
            "voucher_moves",
            "UPDATE vouchers_voucher SET status = 'issued', redeemed_at = NULL WHERE id = %s",
            issued.pk,
        )
        refused(
            "voucher_moves",
            "UPDATE vouchers_voucher SET status = 'revoked', redeemed_at = NULL, revoked_at = now() WHERE id = %s",
            issued.pk,
        )

    def test_it_stays_revoked(self, available: Voucher) -> None:
        revoke_voucher(available, reason="leaked")
        refused("voucher_return", f"UPDATE vouchers_voucher SET {BACK} WHERE id = %s", available.pk)
        sql = "UPDATE vouchers_voucher SET status = 'issued', issued_to = 'x', issued_at = now(), revoked_at = NULL"
        refused("voucher_moves", sql)

    @pytest.mark.parametrize(
        "change",
        [
            "code = 'OTHER-1'",
            "position = position + 1",
            "id = id + 1000",
            "batch_id = %s",
            "course_id = %s",
        ],
    )
    def test_it_never_becomes_another(self, available: Voucher, change: str) -> None:
        values: dict[str, list[Any]] = {
            "batch_id = %s": [BatchFactory.create().pk],
            "course_id = %s": [CourseFactory.create().pk],
        }
        refused("voucher_identity", f"UPDATE vouchers_voucher SET {change}", *values.get(change, []))

    @pytest.mark.parametrize("change", ["issued_at = now()", "redeemed_at = now()", "revoked_at = now()"])
    def test_its_times_change_only_with_its_status(self, issued: Voucher, change: str) -> None:
        refused("voucher_times", f"UPDATE vouchers_voucher SET {change} + interval '1 day'")

    def test_its_issue_time_stays_when_it_is_redeemed(self, issued: Voucher) -> None:
        refused(
            "voucher_times",
            "UPDATE vouchers_voucher"
            " SET status = 'redeemed', redeemed_at = now(), issued_at = now() + interval '1 day'",
        )

    @pytest.mark.parametrize(
        "change",
        [
            "status = 'issued'",
            "status = 'issued', issued_at = now()",
            "status = 'issued', issued_to = 'x'",
            "status = 'redeemed', issued_at = now()",
            "status = 'revoked'",
            "issued_to = 'x'",
            "status = 'stolen'",
        ],
    )
    def test_its_status_matches_its_facts(self, available: Voucher, change: str) -> None:
        rule = "voucher_moves" if "stolen" in change else "voucher_status_matches_its_facts"
        refused(rule, f"UPDATE vouchers_voucher SET {change}")

    def test_its_code_is_unique_without_regard_to_case(self, available: Voucher) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            VoucherFactory.create(course=CourseFactory.create(), code=available.code.lower())

    @pytest.mark.parametrize("code", ["abc", "-abcd", "ab cd", "abc\u00e9", "a" * 129, "abcd\n", ""])
    def test_its_code_has_the_form_of_a_code(self, course: Course, code: str) -> None:
        with pytest.raises(Exception, match=r"voucher_code_form|value too long"), transaction.atomic():
            VoucherFactory.create(course=course, code=code)

    def test_it_is_kept_once_it_left_the_pool(self, issued: Voucher) -> None:
        refused("voucher_is_kept", "DELETE FROM vouchers_voucher WHERE id = %s", issued.pk)

    def test_it_may_be_deleted_while_it_is_in_the_pool(self, available: Voucher) -> None:
        execute("DELETE FROM vouchers_voucher WHERE id = %s", available.pk)
        assert not Voucher.objects.exists()

    def test_it_never_goes_back_on_the_word_of_another_issuance(self, issued: Voucher) -> None:
        insert = (
            "INSERT INTO vouchers_issuance"
            " (course_id, email, order_id, voucher_id, status, caller, issued_at, returned_at)"
            " VALUES (%s, 'x@example.com', '', %s, 'returned', 'tests', now(), now())"
        )
        refused("issuance_begins", insert, issued.course_id, issued.pk)

    def test_it_begins_as_available(self, available: Voucher) -> None:
        insert = (
            "INSERT INTO vouchers_voucher"
            " (code, course_id, batch_id, position, status, issued_to, issued_at, revoked_reason, note)"
            " VALUES ('AAAA-1', %s, %s, 1, 'issued', 'x@example.com', now(), '', '')"
        )
        refused("voucher_begins", insert, available.course_id, available.batch_id)

    def test_it_is_in_a_batch_of_its_course(self, available: Voucher) -> None:
        insert = (
            "INSERT INTO vouchers_voucher"
            " (code, course_id, batch_id, position, status, issued_to, revoked_reason, note)"
            " VALUES ('AAAA-1', %s, %s, 1, 'available', '', '', ''); SET CONSTRAINTS ALL IMMEDIATE"
        )
        refused("voucher_of_batch", insert, available.course_id, BatchFactory.create().pk)
        refused("voucher_of_batch", insert, available.course_id, available.batch_id + 1000)
        refused("voucher_of_batch", insert, "NONE", available.batch_id)

    def test_its_batch_is_kept_and_stays_in_its_course(self, available: Voucher) -> None:
        refused("voucher_of_batch", "DELETE FROM vouchers_batch; SET CONSTRAINTS ALL IMMEDIATE")
        change = "UPDATE vouchers_batch SET course_id = %s; SET CONSTRAINTS ALL IMMEDIATE"
        refused("voucher_of_batch", change, CourseFactory.create().pk)

    @pytest.mark.parametrize(
        ("rule", "change"),
        [
            ("voucher_issued_has_issuance", "status = 'issued', issued_at = now(), issued_to = 'x@example.com'"),
            ("voucher_redeemed_has_redemption", "status = 'redeemed', issued_at = now(), redeemed_at = now()"),
        ],
    )
    def test_it_is_accounted_for_when_the_transaction_ends(self, available: Voucher, rule: str, change: str) -> None:
        refused(rule, f"UPDATE vouchers_voucher SET {change}; SET CONSTRAINTS ALL IMMEDIATE")

    def test_it_is_not_left_without_a_holder(self, issued: Voucher) -> None:
        # What the issue itself has yet to be asked at its end is asked now: only the return is left to be.
        execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        change = "UPDATE vouchers_issuance SET status = 'returned'; SET CONSTRAINTS ALL IMMEDIATE"
        refused("voucher_issued_has_issuance", change)

    def test_it_is_on_hold_only_while_somebody_holds_it(self, available: Voucher) -> None:
        refused("voucher_on_hold_is_held", "UPDATE vouchers_voucher SET held_since = now()")


class TestIssuance:
    def test_its_voucher_is_owed_once(self, issuance: Issuance) -> None:
        with pytest.raises(IntegrityError, match="issuance_voucher_once"), transaction.atomic():
            Issuance.objects.create(
                course=issuance.course,
                email="bob@example.com",
                voucher=issuance.voucher,
                status="issued",
                issued_at=timezone.now(),
                caller="tests",
            )

    def test_its_order_is_unique_within_the_course(self, course: Course) -> None:
        Issuance.objects.create(course=course, email="a@example.com", order_id="A-1", caller="tests")
        Issuance.objects.create(course=CourseFactory.create(), email="a@example.com", order_id="A-1", caller="tests")
        with pytest.raises(IntegrityError, match="issuance_once_per_order"), transaction.atomic():
            Issuance.objects.create(course=course, email="a@example.com", order_id="A-1", caller="tests")

    def test_its_unit_of_a_purchase_is_unique(self, course: Course) -> None:
        purchase = PurchaseFactory.create(course=course)
        Issuance.objects.create(course=course, email="a@example.com", purchase=purchase, unit=1, caller="tests")
        with pytest.raises(IntegrityError, match="issuance_once_per_unit"), transaction.atomic():
            Issuance.objects.create(course=course, email="a@example.com", purchase=purchase, unit=1, caller="tests")

    def test_its_voucher_and_course_never_change(self, issuance: Issuance) -> None:
        make_pool(issuance.course, 1)
        other = issue_to(issuance.course, "bob@example.com")
        revoke_voucher(Voucher.objects.get(issuances=other), reason="refunded")
        execute("UPDATE vouchers_issuance SET status = 'returned' WHERE id = %s", other.pk)
        refused(
            "issuance_identity",
            "UPDATE vouchers_issuance SET voucher_id = %s WHERE id = %s",
            other.voucher_id,
            issuance.pk,
        )
        refused("issuance_identity", "UPDATE vouchers_issuance SET course_id = %s", CourseFactory.create().pk)

    @pytest.mark.parametrize(
        "change", ["status = 'waiting', voucher_id = NULL, issued_at = NULL", "status = 'cancelled'"]
    )
    def test_it_makes_only_legal_moves(self, issuance: Issuance, change: str) -> None:
        rule = "issuance_identity" if "NULL" in change else "issuance_moves"
        refused(rule, f"UPDATE vouchers_issuance SET {change}")

    def test_it_stays_returned(self, issuance: Issuance, issued: Voucher) -> None:
        revoke_voucher(issued, reason="refunded")
        execute("UPDATE vouchers_issuance SET status = 'returned'")
        refused("issuance_moves", "UPDATE vouchers_issuance SET status = 'issued', returned_at = NULL")
        refused("issuance_times", "UPDATE vouchers_issuance SET returned_at = now() + interval '1 day'")

    def test_its_voucher_is_an_issued_one_of_its_course(self, issued: Voucher) -> None:
        free = make_pool(issued.course, 1)[0]
        insert = (
            "INSERT INTO vouchers_issuance (course_id, email, order_id, voucher_id, status, caller, issued_at)"
            " VALUES (%s, 'x@example.com', '', %s, 'issued', 'tests', now())"
        )
        refused("issuance_voucher_matches", insert, issued.course_id, free.pk)
        refused("issuance_voucher_matches", insert, CourseFactory.create().pk, issued.pk)

    @pytest.mark.parametrize("change", ["voucher_id = NULL", "issued_at = NULL", "email = ''"])
    def test_its_status_matches_its_facts(self, issuance: Issuance, change: str) -> None:
        with pytest.raises(IntegrityError):
            execute(f"UPDATE vouchers_issuance SET {change}")

    def test_it_is_kept(self, course: Course) -> None:
        issue_to(course)
        refused("issuance_is_kept", "DELETE FROM vouchers_issuance")

    def test_its_email_is_queued_once_a_series(self, issuance: Issuance) -> None:
        with pytest.raises(IntegrityError, match="delivery_once_per_series"), transaction.atomic():
            Delivery.objects.create(issuance=issuance, email="x@example.com", message_id="<1@x>")

    def test_its_delivery_is_sent_at_some_time_or_not_at_all(self, issuance: Issuance) -> None:
        refused("delivery_status_matches_its_facts", "UPDATE vouchers_delivery SET status = 'sent'")


class TestRedemption:
    def test_it_happens_once_per_voucher(self, issued: Voucher) -> None:
        redeem(issued)
        purchase = PurchaseFactory.create(course=issued.course)
        with pytest.raises(IntegrityError), transaction.atomic():
            Redemption.objects.create(voucher=issued, purchase=purchase, caller="tests", redeemed_at=timezone.now())

    def test_it_needs_a_redeemed_voucher(self, issued: Voucher) -> None:
        purchase = PurchaseFactory.create(course=issued.course)
        sql = (
            "INSERT INTO vouchers_redemption (voucher_id, purchase_id, email, caller, idempotency_key, redeemed_at)"
            " VALUES (%s, %s, '', 'tests', '', now())"
        )
        refused("redemption_voucher_matches", sql, issued.pk, purchase.pk)

    def test_it_is_kept(self, issued: Voucher) -> None:
        redeem(issued)
        refused("redemption_is_kept", "DELETE FROM vouchers_redemption")


class TestShop:
    @pytest.mark.parametrize("course_id", ["JS 101", "", "JS/101", "J\u00e9", "a" * 65])
    def test_a_course_id_has_its_form(self, db: None, course_id: str) -> None:
        with pytest.raises(Exception, match=r"course_id_form|value too long"), transaction.atomic():
            CourseFactory.create(id=course_id)

    def test_a_course_id_is_unique_without_regard_to_case(self, course: Course) -> None:
        with pytest.raises(IntegrityError, match="course_id_unique_without_case"), transaction.atomic():
            CourseFactory.create(id="js101")

    @pytest.mark.parametrize("change", ["price = -1", "currency = 'USD'", "redemption = 'anyone'"])
    def test_a_course_keeps_to_what_is_known(self, course: Course, change: str) -> None:
        with pytest.raises(IntegrityError):
            execute(f"UPDATE courses_course SET {change}")

    def test_a_payment_is_kept_once_by_its_reference(self, course: Course) -> None:
        purchase = PurchaseFactory.create(course=course)
        with pytest.raises(IntegrityError, match="purchase_once_per_reference"), transaction.atomic():
            PurchaseFactory.create(course=course, reference=purchase.reference)

    @pytest.mark.parametrize(
        "change",
        [
            "quantity = 0",
            "amount = -1",
            "currency = ''",
            "provider = 'cash'",
            "reference = ''",
        ],
    )
    def test_a_purchase_keeps_to_what_is_known(self, course: Course, change: str) -> None:
        PurchaseFactory.create(course=course)
        with pytest.raises(IntegrityError):
            execute(f"UPDATE courses_purchase SET {change}")

    def test_a_batch_accounts_for_every_line(self, db: None) -> None:
        BatchFactory.create()
        refused("batch_accounts_for_every_line", "UPDATE vouchers_batch SET read = 1")

    def test_a_key_has_known_scopes(self, db: None) -> None:
        insert = (
            "INSERT INTO vouchers_apikey (id, prefix, hashed_key, created, name, revoked, scopes)"
            " VALUES ('a', 'a', 'a', now(), 'a', false, %s)"
        )
        refused("api_key_scopes_known", insert, ["issue", "everything"])
        refused("api_key_scopes_known", insert, [])

    def test_a_course_with_vouchers_is_kept(self, available: Voucher) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            execute("DELETE FROM courses_course; SET CONSTRAINTS ALL IMMEDIATE")

    def test_a_free_purchase_of_a_voucher_exists_once(self, issued: Voucher) -> None:
        redeem(issued)
        assert Purchase.objects.get(provider="voucher").reference == str(issued.pk)
