"""Whether vouchers and issuances say the same: who holds what, and everything once."""

from __future__ import annotations

from courses.models import Purchase
from vouchers.delivery.outbox import queue_email
from vouchers.doctor.check import Check, HealableCheck, Row, rows_of
from vouchers.doctor.payments import SeatsIssued
from vouchers.errors import NotHealable
from vouchers.models import Issuance, Voucher
from vouchers.payments.settling import lock_payment
from vouchers.tombstones import is_tombstone

DOCTOR = "doctor"


class IssuedIsOwed(HealableCheck):
    name = "issued_is_owed"
    title = "Every issued voucher is owed to somebody"
    breaks = """
        SELECT v.id AS key, v.course_id AS course FROM vouchers_voucher v
        WHERE v.status = 'issued' AND NOT EXISTS (
            SELECT FROM vouchers_issuance i WHERE i.voucher_id = v.id AND i.status = 'issued'
        )
    """
    sentence = "Voucher {key} of {course} is issued, and no open issuance says to whom."
    advice = "Find out to whom it was issued, or revoke it."

    def mend(self, row: Row) -> None:
        """Writes the issuance for the holder. Where a payment of theirs lacks a seat, this is it: nobody is to be given
        another voucher for it."""
        purchase = _purchase_lacking_a_seat(Voucher.objects.get(pk=row["key"]))
        unit = None
        if purchase:
            lock_payment(purchase)
            unit = _missing_unit(purchase)
        if unit is None:
            purchase = None  # somebody else filled it in the meantime
        voucher = Voucher.objects.select_for_update(of=("self",)).select_related("course").get(pk=row["key"])
        if not self.has(voucher.pk):
            return
        issuance = Issuance(
            course=voucher.course,
            email=voucher.issued_to,
            voucher=voucher,
            status=Issuance.Status.ISSUED,
            issued_at=voucher.issued_at,
            caller=DOCTOR,
            purchase=purchase,
            unit=unit,
        )
        issuance.save(force_insert=True)
        if not is_tombstone(issuance.email):
            queue_email(issuance)


class OwedIsHeld(HealableCheck):
    name = "owed_is_held"
    title = "Every voucher is held by whom it is owed to"
    breaks = """
        SELECT i.id AS key, i.voucher_id AS voucher, CASE
            WHEN v.id IS NULL THEN 'does not exist'
            WHEN v.course_id <> i.course_id THEN 'is of another course'
            WHEN v.status = 'available' THEN 'is still in the pool'
            ELSE 'names another holder' END AS why
        FROM vouchers_issuance i LEFT JOIN vouchers_voucher v ON v.id = i.voucher_id
        WHERE i.status = 'issued'
            AND (v.id IS NULL OR v.course_id <> i.course_id OR v.status = 'available' OR v.issued_to <> i.email)
    """
    sentence = "Issuance {key} says that voucher {voucher} was issued, and that voucher {why}."
    advice = "Find out which of the two is right; give the buyer another voucher where it is the voucher."

    def mend(self, row: Row) -> None:
        """The issuance's email is the ledger. A voucher that is still in the pool is bound to it."""
        issuance = Issuance.objects.lock(row["key"])
        voucher = Voucher.objects.select_for_update().filter(pk=row["voucher"]).first()
        if not self.has(issuance.pk):
            return
        if voucher is None or voucher.course_id != issuance.course_id:
            raise NotHealable(self.advice)
        refuse_if_owed_twice(issuance)
        held = Voucher.objects.filter(pk=voucher.pk)
        if voucher.status == Voucher.Status.AVAILABLE:
            held.update(status=Voucher.Status.ISSUED, issued_to=issuance.email, issued_at=issuance.issued_at)
        else:
            held.update(issued_to=issuance.email)


class OwedOnce(Check):
    name = "owed_once"
    title = "No voucher is owed to two people"
    breaks = """
        SELECT voucher_id AS key, string_agg(id::text, ', ' ORDER BY id) AS issuances
        FROM vouchers_issuance WHERE status <> 'returned' AND voucher_id IS NOT NULL
        GROUP BY voucher_id HAVING count(*) > 1
    """
    sentence = "Voucher {key} is owed more than once, by issuances {issuances}."
    advice = "Issue another voucher to whoever is not to keep this one."


def refuse_if_owed_twice(issuance: Issuance) -> None:
    """Raises `NotHealable` where somebody else is owed the same voucher: neither of the two is to get it by this."""
    same = Issuance.objects.filter(voucher=issuance.voucher).exclude(status=Issuance.Status.RETURNED)
    if same.exclude(pk=issuance.pk).exists():
        raise NotHealable(f"That voucher is owed more than once. {OwedOnce.advice}")


def _purchase_lacking_a_seat(voucher: Voucher) -> Purchase | None:
    lacking, parameters = SeatsIssued().statement()
    rows = rows_of(
        f"SELECT key FROM ({lacking}) AS found JOIN courses_purchase p ON p.id = key "  # noqa: S608
        "WHERE p.course_id = %s AND upper(p.email) = upper(%s) ORDER BY p.created_at LIMIT 1",
        [*parameters, voucher.course_id, voucher.issued_to],
    )
    return Purchase.objects.get(pk=rows[0]["key"]) if rows else None


def _missing_unit(purchase: Purchase) -> int | None:
    """Of a locked purchase."""
    taken = {*Issuance.objects.filter(purchase=purchase).values_list("unit", flat=True)}
    return next((unit for unit in range(1, purchase.quantity + 1) if unit not in taken), None)
