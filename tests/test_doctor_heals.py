"""Each break of the books that can be healed: the doctor says it, heals it, and changes nothing else.

The breaks are planted past the rules; the rules are in force while it heals.
"""

from __future__ import annotations

import re

import pytest
from django.db import connection

from tests.planting import (
    ANN,
    BOB,
    DEE,
    NOT_ISSUED,
    ODD,
    RED,
    ROB,
    UNHOLD,
    WIM,
    Plant,
    books,
    doctor,
    findings,
    issuance_of,
    of,
    plant,
    shared_books,
)

__all__ = ["shared_books"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shared_books")]

# After these the books are as before.
HEALED = {
    "a seat without an issuance": Plant(
        "seats_issued",
        r"Payment stripe pi_\d+: nothing was issued or queued for 1 of its 1 seats\.",
        (f"DELETE FROM vouchers_issuance WHERE email = '{WIM}'",),
    ),
    "a payment found neither good nor bad": Plant(
        "payments_settled",
        r"Payment stripe pi_\d+ was paid, and was neither found good nor given to anybody to look at\.",
        (f"UPDATE courses_purchase SET completed_at = NULL WHERE email = '{WIM}'",),
    ),
    "a payment without a purchase": Plant(
        "payments_settled",
        r"Payment stripe pi_\d+ was paid, and there is no purchase of it\.",
        (f"DELETE FROM courses_purchase WHERE email = '{ODD}'",),
    ),
    "a payment that its purchase forgot": Plant(
        "payments_settled",
        r"Payment stripe pi_\d+ was paid, and its purchase does not know it\.",
        (f"UPDATE courses_purchase SET paid_at = NULL WHERE email = '{ODD}'",),
    ),
    "a dispute that its purchase forgot": Plant(
        "payments_settled",
        r"Payment stripe pi_\d+ does not say about disputes what its facts say\.",
        (f"UPDATE courses_purchase SET disputed_at = NULL WHERE email = '{DEE}'",),
        also=("holds",),
    ),
    "a refunded voucher that is valid": Plant(
        "seats_taken_back",
        r"Payment stripe pi_\d+: the money went back, and seats of it are still valid \(1\)\.",
        (
            "UPDATE vouchers_voucher SET status = 'issued', revoked_at = NULL, revoked_reason = '' "
            f"WHERE id = {of(ROB)}",
        ),
        also=("summary_adds_up",),
    ),
    "a disputed voucher that is not on hold": Plant(
        "holds",
        r"Issuance \d+ is of a payment with an open dispute, and it is not on hold\.",
        (UNHOLD.format("NULL") + of(DEE),),
    ),
    "a voucher on hold for no dispute": Plant(
        "holds", r"Issuance \d+ is on hold, and no dispute is open\.", (UNHOLD.format("now()") + of(BOB),)
    ),
    "a voucher on hold for no payment": Plant(
        "holds", r"Issuance \d+ is on hold, and no dispute is open\.", (UNHOLD.format("now()") + of(ANN),)
    ),
    "a seat on hold for no dispute": Plant(
        "holds",
        r"Issuance \d+ is on hold, and no dispute is open\.",
        (f"UPDATE vouchers_issuance SET held_since = now() WHERE email = '{WIM}'",),
    ),
    "a voucher that is owed to nobody": Plant(
        "issued_is_owed",
        r"Voucher \d+ of JS101 is issued, and no open issuance says to whom\.",
        (
            f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance_of(ANN)}",
            f"DELETE FROM vouchers_issuance WHERE email = '{ANN}'",
        ),
        also=("vouchers_add_up",),
    ),
    "a paid voucher that is owed to nobody": Plant(
        "issued_is_owed",
        r"Voucher \d+ of JS101 is issued, and no open issuance says to whom\.",
        (
            f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance_of(BOB)}",
            f"DELETE FROM vouchers_issuance WHERE id = {issuance_of(BOB)}",
        ),
        also=("seats_issued", "vouchers_add_up"),
    ),
    "a voucher of another holder": Plant(
        "owed_is_held",
        r"Issuance \d+ says that voucher \d+ was issued, and that voucher names another holder\.",
        (f"UPDATE vouchers_voucher SET issued_to = 'eve@example.com' WHERE id = {of(ANN)}",),
    ),
    "an issued voucher in the pool": Plant(
        "owed_is_held",
        r"Issuance \d+ says that voucher \d+ was issued, and that voucher is still in the pool\.",
        (f"UPDATE vouchers_voucher SET {NOT_ISSUED} WHERE id = {of(ANN)}",),
        also=("vouchers_add_up", "summary_adds_up"),
    ),
    "a voucher without its email": Plant(
        "issued_is_emailed",
        r"Voucher \d+ of JS101 was issued \(issuance \d+\), and there is no email of it\.",
        (f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance_of(ANN)}",),
    ),
    "an email put off for weeks": Plant(
        "emails_within_reach",
        r"Delivery \d+ is queued and put off until 20\d\d-\d\d-\d\d \d\d:\d\d UTC, longer than any wait is\.",
        (f"UPDATE vouchers_delivery SET due_at = now() + interval '3 weeks' WHERE issuance_id = {issuance_of(ANN)}",),
    ),
    "an email whose lease does not end": Plant(
        "emails_within_reach",
        r"Delivery \d+ is sending and put off until .*",
        (
            "UPDATE vouchers_delivery SET status = 'sending', due_at = now() + interval '1 day' "
            f"WHERE issuance_id = {issuance_of(ANN)}",
        ),
    ),
    "a redeemed voucher without a redemption": Plant(
        "redeemed_is_written_down",
        r"Voucher \d+ of JS101 is redeemed, and no redemption says how\.",
        (f"DELETE FROM vouchers_redemption WHERE voucher_id = {of(RED)}",),
        also=("free_purchases_spent", "vouchers_add_up"),
    ),
    "a redeemed voucher of which nothing is known": Plant(
        "redeemed_is_written_down",
        r"Voucher \d+ of JS101 is redeemed, and no redemption says how\.",
        (
            f"DELETE FROM courses_purchase WHERE provider = 'voucher' AND reference = {of(RED)}::text",
            f"DELETE FROM vouchers_redemption WHERE voucher_id = {of(RED)}",
        ),
        also=("vouchers_add_up",),
    ),
    "a redeemed voucher without its purchase": Plant(
        "redeemed_is_written_down",
        r"Voucher \d+ of JS101 is redeemed, and its free purchase is gone\.",
        (f"DELETE FROM courses_purchase WHERE provider = 'voucher' AND reference = {of(RED)}::text",),
        also=("vouchers_add_up",),
    ),
    "a spent voucher that is valid": Plant(
        "spent_is_redeemed",
        r"Voucher \d+ of JS101 was spent, as its redemption says, and it is issued\.",
        (f"UPDATE vouchers_voucher SET status = 'issued', redeemed_at = NULL WHERE id = {of(RED)}",),
        also=("vouchers_add_up", "summary_adds_up"),
    ),
    "a spent voucher in the pool": Plant(
        "spent_is_redeemed",
        r"Voucher \d+ of JS101 was spent, as its redemption says, and it is available\.",
        (f"UPDATE vouchers_voucher SET {NOT_ISSUED}, redeemed_at = NULL WHERE issued_to = '' AND status = 'redeemed'",),
        also=("vouchers_add_up", "summary_adds_up"),
    ),
    "a batch that counts what is not there": Plant(
        "batches_add_up",
        r"Batch \d+ \(stored\) counts 8 vouchers, 1 duplicates and 0 malformed lines; there are 9, 0 and 0\.",
        ("UPDATE vouchers_batch SET inserted = inserted - 1, duplicates = 1, repeated = 1",),
        also=("vouchers_add_up",),
    ),
    "a summary that counts what is not there": Plant(
        "summary_adds_up",
        r"Course JS101: the summary counts 3 available instead of 2\.",
        (
            "UPDATE vouchers_tally SET number = number + 1 WHERE id = (SELECT min(id) FROM vouchers_tally "
            "WHERE status = 'available' AND course_id = 'JS101')",
        ),
    ),
    "a summary that forgot some": Plant(
        "summary_adds_up",
        r"Course JS101: the summary counts 0 revoked instead of 1\.",
        ("DELETE FROM vouchers_tally WHERE id = (SELECT min(id) FROM vouchers_tally WHERE status = 'revoked')",),
    ),
    "a trigger that is off": Plant(
        "rules_on",
        r"Trigger voucher_rules of table vouchers_voucher is switched off\.",
        ("ALTER TABLE vouchers_voucher DISABLE TRIGGER voucher_rules",),
    ),
    "a key's trigger that is off": Plant(
        "rules_on",
        r"Trigger RI_ConstraintTrigger_\w+ of table vouchers_replacement is switched off\.",
        ("ALTER TABLE vouchers_replacement DISABLE TRIGGER ALL",),
    ),
}


@pytest.mark.parametrize("name", HEALED)
def test_it_finds_and_heals(name: str) -> None:
    planted = HEALED[name]
    before = books()
    plant(*planted.statements)

    found = findings()
    assert {planted.check, *planted.also} == set(found)
    assert all(re.fullmatch(planted.sentence, sentence) for sentence in found[planted.check]), found
    printed = doctor()
    assert all(sentence in printed for sentence in found[planted.check])
    assert "\nexit 1: " in printed

    healed = doctor("--heal")
    connection.check_constraints()  # as a commit would
    assert "The books are right" in healed.splitlines()[-1]
    assert books() == before
    assert findings() == {}

    again = doctor("--heal")
    assert "healed" not in again
    assert books() == before


def test_codes_that_are_lost_are_left_to_a_person() -> None:
    """A count that is made to fit would hide them for ever."""
    plant("DELETE FROM vouchers_voucher WHERE id = (SELECT min(id) FROM vouchers_voucher WHERE status = 'available')")
    before = books()

    healed = doctor("--heal")

    assert "may be lost: find out what became of them" in healed
    assert "\nexit 1: " in healed
    assert books() == before
