"""manage.py doctor, and the breaks that it leaves to a person. Those it heals: tests/test_doctor_heals.py"""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection

from tests.planting import (
    ANN,
    DEE,
    RED,
    WIM,
    Plant,
    books,
    doctor,
    findings,
    issuance_of,
    of,
    plant,
    plant_rows,
    reference_of,
    shared_books,
)
from vouchers.doctor import rounds
from vouchers.doctor.check import HealableCheck, rows_of
from vouchers.doctor.rounds import CHECKS, find_check
from vouchers.errors import NotHealable
from vouchers.locks import LockTimeout
from vouchers.models import Checkup, Issuance, Voucher
from vouchers.payments import settling

__all__ = ["shared_books"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shared_books")]

PLANTED_TWICE = "INSERT INTO vouchers_issuance ({0}) SELECT {0} FROM vouchers_issuance WHERE id = {1}"
COLUMNS = "course_id, email, order_id, {}voucher_id, status, caller, created_at, issued_at"
OTHER = 'INSERT INTO courses_course SELECT (jsonb_populate_record(c, \'{"id": "SQL110"}\')).* FROM courses_course c'

# These are for a person: said, and left as they are.
LEFT = {
    "a seat issued twice": Plant(
        "seats_once",
        r"Payment stripe pi_\d+: seat 1 was issued more than once, by issuances \d+, \d+\.",
        (
            "DROP INDEX issuance_once_per_unit",
            "DROP INDEX issuance_once_per_order",
            PLANTED_TWICE.format(
                "course_id, email, order_id, purchase_id, unit, status, caller, created_at", f"{issuance_of(WIM)}"
            ),
        ),
        also=("rules_there",),
    ),
    "a voucher owed twice": Plant(
        "owed_once",
        r"Voucher \d+ is owed more than once, by issuances \d+, \d+\.",
        (
            "DROP INDEX issuance_voucher_once",
            PLANTED_TWICE.format(COLUMNS.format(""), issuance_of(ANN)),
        ),
        also=("rules_there", "issued_is_emailed", "vouchers_add_up"),
    ),
    "a voucher owed to two": Plant(
        "owed_once",
        r"Voucher \d+ is owed more than once, by issuances \d+, \d+\.",
        (
            "DROP INDEX issuance_voucher_once",
            PLANTED_TWICE.format(COLUMNS.format(""), issuance_of(ANN)),
            f"UPDATE vouchers_issuance SET email = 'eve@example.com' WHERE id = {issuance_of(ANN)}",
        ),
        also=("rules_there", "issued_is_emailed", "owed_is_held", "vouchers_add_up"),
    ),
    "a voucher of another course": Plant(
        "owed_is_held",
        r"Issuance \d+ says that voucher \d+ was issued, and that voucher is of another course\.",
        (f"UPDATE vouchers_issuance SET course_id = 'PY201' WHERE email = '{ANN}'",),
        also=("vouchers_add_up",),
    ),
    "a spent voucher that was revoked": Plant(
        "spent_is_redeemed",
        r"Voucher \d+ of JS101 was spent, as its redemption says, and it is revoked\.",
        (
            "UPDATE vouchers_voucher SET status = 'revoked', redeemed_at = NULL, revoked_at = now() "
            f"WHERE id = {of(RED)}",
        ),
        also=("vouchers_add_up", "summary_adds_up"),
    ),
    "a free purchase for nothing": Plant(
        "free_purchases_spent",
        r"Free purchase [0-9a-f-]{36} \(voucher 0\) has no redemption\.",
        (
            "INSERT INTO courses_purchase SELECT (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid(), "
            "'token', 'another', 'reference', '0'))).* FROM courses_purchase p WHERE provider = 'voucher' LIMIT 1",
        ),
    ),
    "a payment of which no fact is left": Plant(
        "payments_settled",
        r"Payment stripe pi_\d+ was paid, and was neither found good nor given to anybody to look at\.",
        (
            f"UPDATE courses_purchase SET completed_at = NULL WHERE email = '{WIM}'",
            f"DELETE FROM courses_paymentfact WHERE reference = {reference_of(WIM)}",
        ),
    ),
    "codes of a batch that was undone": Plant(
        "batches_add_up",
        r"Batch \d+ \(undone\) counts 9 vouchers, 0 duplicates and 0 malformed lines; there are 9, 0 and 0\.",
        ("UPDATE vouchers_batch SET status = 'undone'",),
        also=("vouchers_add_up",),
    ),
    "an email that nobody sends": Plant(
        "emails_picked_up",
        r"Delivery \d+ is queued and has been due since 20\d\d-\d\d-\d\d \d\d:\d\d UTC\.",
        (f"UPDATE vouchers_delivery SET due_at = now() - interval '2 hours' WHERE issuance_id = {issuance_of(ANN)}",),
    ),
    "a sender that never came back": Plant(
        "emails_picked_up",
        r"Delivery \d+ is sending and has been due since .*",
        (
            "UPDATE vouchers_delivery SET status = 'sending', due_at = now() - interval '2 hours' "
            f"WHERE issuance_id = {issuance_of(ANN)}",
        ),
    ),
    "a trigger that is gone": Plant(
        "rules_there",
        r"The trigger redemption_rules is missing\.",
        ("DROP TRIGGER redemption_rules ON vouchers_redemption",),
    ),
    "a constraint that is gone": Plant(
        "rules_there",
        r"The constraint or index issuance_has_email is missing\.",
        ("ALTER TABLE vouchers_issuance DROP CONSTRAINT issuance_has_email",),
    ),
    "a foreign key that is gone": Plant(
        "rules_there",
        r"The constraint or index voucher_of_batch is missing\.",
        ("ALTER TABLE vouchers_voucher DROP CONSTRAINT voucher_of_batch",),
    ),
    "an index that is gone": Plant(
        "rules_there", r"The constraint or index voucher_pool is missing\.", ("DROP INDEX voucher_pool",)
    ),
    "a constraint that was never validated": Plant(
        "rules_there",
        r"The constraint by_hand is not validated\.",
        ("ALTER TABLE vouchers_voucher ADD CONSTRAINT by_hand CHECK (note <> 'x') NOT VALID",),
    ),
    "an index that is not valid": Plant(
        "rules_there",
        r"The index purchase_email is not valid\.",
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'purchase_email'::regclass",),
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_it_leaves_to_a_person(name: str) -> None:
    planted = LEFT[name]
    plant(*planted.statements)
    before = books()

    found = findings()
    assert {planted.check, *planted.also} == set(found)
    assert any(re.fullmatch(planted.sentence, sentence) for sentence in found[planted.check]), found

    printed = doctor("--heal")
    check = find_check(planted.check)
    assert check is not None
    assert check.advice in printed or "No fact says that" in printed
    assert "\nexit 1: " in printed
    assert planted.check in findings()
    assert books() == before


MORE_WAITING = """
    INSERT INTO vouchers_issuance (course_id, email, order_id, status, caller, created_at)
    SELECT 'JS101', n || '@example.com', '', 'waiting', 'tests', now() - interval '2 minutes'
    FROM generate_series(1, 3) n
"""


def test_it_fills_a_queue_that_stands_still() -> None:
    plant_rows(MORE_WAITING)
    left = Voucher.objects.filter(course="JS101", status="available").count()
    assert 0 < left < 3

    assert findings() == {"queues_move": ["Course JS101: 3 wait although the pool has a code."]}
    healed = doctor("--heal")
    connection.check_constraints()

    assert "1 break healed. The books are right" in healed
    filled = Issuance.objects.filter(email__regex=r"^\d@").order_by("id").values_list("status", flat=True)
    assert list(filled) == ["issued"] * left + ["waiting"] * (3 - left)


def test_a_queue_is_not_said_to_stand_still_at_once() -> None:
    plant_rows(MORE_WAITING.replace("2 minutes", "2 seconds"))
    assert findings() == {}


class TestCommand:
    def test_it_says_that_the_books_are_right(self) -> None:
        *lines, end = doctor().splitlines()
        assert lines == [f"✓ {check.title}: well" for check in CHECKS]
        assert end == f"The books are right: {len(CHECKS)} checks found nothing."
        assert Checkup.objects.get().actor == "command line"

    def test_it_counts_all_and_spells_out_a_hundred(self) -> None:
        plant_rows(
            "INSERT INTO vouchers_delivery (issuance_id, kind, series, email, language, carries_code, status, due_at, "
            "attempts, message_id, provider_id, last_error, created_at, fate, fate_reason) "
            f"SELECT {issuance_of(ANN)}, 'voucher', n, '{ANN}', '', true, 'queued', now() + interval '1 month', "
            "0, n, '', '', now(), '', '' FROM generate_series(2, 131) n"
        )

        printed = doctor()

        assert "✗ No email is put off for longer than any wait: 130 broken" in printed
        assert printed.count("    Delivery ") == 100
        assert "    … and 30 more.\n  → --heal heals it." in printed
        assert printed.endswith("exit 1: 130 breaks in the books, found by 1 of 20 checks.\n")
        assert "130 breaks healed. The books are right" in doctor("--heal")

    def test_it_goes_on_where_there_are_more_than_it_heals_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rounds, "HEALED_AT_ONCE", 1)
        plant(*(f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance_of(email)}" for email in (ANN, DEE)))
        assert "2 breaks healed." in doctor("--heal")

    def test_it_does_not_heal_unasked(self) -> None:
        plant(f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance_of(ANN)}")
        before = books()
        doctor()
        assert books() == before

    def test_it_speaks_to_programs(self) -> None:
        plant(f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance_of(ANN)}", "DROP INDEX voucher_pool")

        told, _, end = doctor("--json", "--heal").rpartition("exit 1: ")

        answer = json.loads(told)
        assert end == "1 break healed. 1 break in the books, found by 1 of 20 checks.\n"
        assert (answer["broken"], answer["healed"]) == (1, {"issued_is_emailed": 1})
        assert [check["check"] for check in answer["checks"]] == [check.name for check in CHECKS]
        assert {check["check"]: check["sentences"] for check in answer["checks"] if check["count"]} == {
            "rules_there": ["The constraint or index voucher_pool is missing."]
        }

    def test_it_logs_neither_codes_nor_buyers(self, caplog: pytest.LogCaptureFixture) -> None:
        plant(*LEFT["a voucher of another course"].statements)
        with caplog.at_level("INFO"):
            doctor("--heal")
        logged = str([vars(record) for record in caplog.records])
        assert "owed_is_held" in logged
        assert "@example.com" not in logged
        assert not [code for code in Voucher.objects.values_list("code", flat=True) if code in logged]


def test_a_check_that_takes_long_is_not_cut_off() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '1ms'")
    assert rows_of("SELECT pg_sleep(0.01) AS slept", []) == [{"slept": ""}]


def test_every_check_has_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len({check.title for check in CHECKS}) == len(CHECKS) == 20


@pytest.mark.parametrize("name", [check.name for check in CHECKS if not isinstance(check, HealableCheck)])
def test_what_is_for_a_person_is_not_healed(name: str) -> None:
    with pytest.raises(NotHealable):
        rounds.heal(name, "tests")


def test_who_is_at_a_payment_keeps_it_from_being_healed_only_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(f"DELETE FROM vouchers_issuance WHERE email = '{WIM}'")

    def busy(*names: str, seconds: float) -> None:
        raise LockTimeout

    monkeypatch.setattr(settling, "lock_names", busy)
    result = rounds.heal("seats_issued", "tests")
    assert (result.healed, len(result.left)) == (0, 1)
    assert result.left[0].endswith("Somebody else is at it: try again in a moment.")
