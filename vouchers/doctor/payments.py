"""Whether payments came to what their facts imply. `settling.py` brings them there; here is its arithmetic in SQL."""

from __future__ import annotations

from courses.models import PaymentFact, Purchase
from courses.money import THOUSANDTHS, WITHOUT_COINS
from vouchers.delivery.outbox import send_postponed
from vouchers.doctor.check import Check, HealableCheck, Row
from vouchers.errors import NotHealable
from vouchers.models import Issuance, Voucher
from vouchers.payments.settling import settle
from vouchers.revoking import REFUNDED


def _listed(currencies: frozenset[str]) -> str:
    return ", ".join(f"'{currency}'" for currency in sorted(currencies))


COINS = f"""10::numeric ^ (
    CASE WHEN p.currency IN ({_listed(WITHOUT_COINS)}) THEN 0
        WHEN p.currency IN ({_listed(THOUSANDTHS)}) THEN 3
        ELSE 2 END
)"""
# `seats_for` of `courses/money.py`, for a purchase `p`.
SEATS_TAKEN_BACK = f"""(CASE
    WHEN p.refunded_amount <= 0 THEN 0
    WHEN p.refunded_amount >= p.amount THEN p.quantity
    ELSE least(p.quantity, coalesce(
        div(round(p.refunded_amount * {COINS}), nullif(div(round(p.amount * {COINS}), p.quantity), 0)), 0
    ))
END)::int"""
OPEN_DISPUTE = """EXISTS (
    SELECT FROM courses_paymentfact d
    WHERE d.provider = p.provider AND d.reference = p.reference AND d.kind = 'disputed' AND NOT EXISTS (
        SELECT FROM courses_paymentfact e
        WHERE e.provider = d.provider AND e.key = d.key AND e.kind IN ('dispute_won', 'dispute_lost')
    )
)"""


def settle_again(provider: str, reference: str) -> None:
    """Raises `NotHealable` where no fact says that it was paid: settling it would make it unpaid."""
    if not PaymentFact.objects.filter(provider=provider, reference=reference, kind=PaymentFact.Kind.PAID).exists():
        raise NotHealable(f"No fact says that {provider} {reference} was paid: look at it with the provider.")
    # A payment that has no purchase yet is named by just these, too.
    settle(Purchase(provider=provider, reference=reference))


class SettlingCheck(HealableCheck):
    advice = "Look at the payment with its provider, and settle it by hand."

    def mend(self, row: Row) -> None:
        settle_again(row["provider"], row["reference"])


class PaymentsSettled(SettlingCheck):
    name = "payments_settled"
    title = "Every payment was found good, is for review, or is closed"
    breaks = f"""
        SELECT f.provider || ' ' || f.reference AS key, f.provider, f.reference, min(
            CASE WHEN p.id IS NULL THEN 'was paid, and there is no purchase of it'
                ELSE 'was paid, and its purchase does not know it' END
        ) AS why
        FROM courses_paymentfact f
        LEFT JOIN courses_purchase p ON p.provider = f.provider AND p.reference = f.reference
        WHERE f.kind = 'paid' AND p.paid_at IS NULL
        GROUP BY f.provider, f.reference
        UNION ALL
        SELECT p.provider || ' ' || p.reference, p.provider, p.reference,
            CASE WHEN p.completed_at IS NULL AND p.review = ''
                THEN 'was paid, and was neither found good nor given to anybody to look at'
                ELSE 'does not say about disputes what its facts say' END
        FROM courses_purchase p
        WHERE p.provider <> 'voucher' AND p.paid_at IS NOT NULL
            AND (p.completed_at IS NULL AND p.review = '' OR (p.disputed_at IS NOT NULL) <> {OPEN_DISPUTE})
    """  # noqa: S608  # made of constants
    sentence = "Payment {provider} {reference} {why}."


class SeatsIssued(SettlingCheck):
    name = "seats_issued"
    title = "Every paid seat has a voucher or a place in the queue"
    # A seat that staff took back may stand beside one that was refunded before it was issued: what is revoked for
    # another reason than a refund explains no seat here, and what a refund took does so once.
    breaks = f"""
        SELECT p.id AS key, p.provider, p.reference, p.quantity,
            p.quantity - coalesce(s.known, 0) - greatest(0, {SEATS_TAKEN_BACK} - gone.seats) AS missing
        FROM courses_purchase p
        LEFT JOIN (
            SELECT purchase_id, count(*) AS known FROM vouchers_issuance WHERE purchase_id IS NOT NULL GROUP BY 1
        ) AS s ON s.purchase_id = p.id
        CROSS JOIN LATERAL (
            SELECT count(*) AS seats FROM vouchers_issuance i LEFT JOIN vouchers_voucher v ON v.id = i.voucher_id
            WHERE i.purchase_id = p.id
                AND (i.status = 'cancelled'
                    OR i.status = 'issued' AND v.status = 'revoked' AND v.revoked_reason = '{REFUNDED}')
        ) AS gone
        WHERE p.completed_at IS NOT NULL AND p.quantity > coalesce(s.known, 0)
            AND p.quantity - coalesce(s.known, 0) > greatest(0, {SEATS_TAKEN_BACK} - gone.seats)
    """  # noqa: S608  # made of constants
    sentence = "Payment {provider} {reference}: nothing was issued or queued for {missing} of its {quantity} seats."


class SeatsOnce(Check):
    name = "seats_once"
    title = "No seat was issued twice"
    breaks = """
        SELECT i.purchase_id || ' ' || i.unit AS key, i.unit, min(p.provider) AS provider,
            min(p.reference) AS reference, string_agg(i.id::text, ', ' ORDER BY i.id) AS issuances
        FROM vouchers_issuance i JOIN courses_purchase p ON p.id = i.purchase_id
        GROUP BY i.purchase_id, i.unit HAVING count(*) > 1
    """
    sentence = "Payment {provider} {reference}: seat {unit} was issued more than once, by issuances {issuances}."
    advice = "Revoke the vouchers that are too many, and find out who removed the constraint issuance_once_per_unit."


class SeatsTakenBack(SettlingCheck):
    name = "seats_taken_back"
    title = "What was refunded, or lost to a dispute, is no longer valid"
    breaks = f"""
        SELECT p.id AS key, p.provider, p.reference,
            least({SEATS_TAKEN_BACK} - s.closed - (p.quantity - s.known), s.valid) AS seats
        FROM courses_purchase p
        CROSS JOIN LATERAL (
            SELECT count(*) AS known,
                count(*) FILTER (WHERE v.status = 'revoked' OR i.status IN ('returned', 'cancelled')) AS closed,
                count(*) FILTER (WHERE i.status = 'waiting' OR i.status = 'issued' AND v.status = 'issued') AS valid
            FROM vouchers_issuance i LEFT JOIN vouchers_voucher v ON v.id = i.voucher_id WHERE i.purchase_id = p.id
        ) AS s
        WHERE p.completed_at IS NOT NULL AND p.refunded_amount > 0 AND s.valid > 0
            AND {SEATS_TAKEN_BACK} > s.closed + p.quantity - s.known
    """  # noqa: S608  # made of constants
    sentence = "Payment {provider} {reference}: the money went back, and seats of it are still valid ({seats})."


class Holds(HealableCheck):
    name = "holds"
    title = "What is disputed is on hold, and nothing else is"
    breaks = """
        SELECT i.id AS key, i.voucher_id AS voucher, p.provider, p.reference,
            'is of a payment with an open dispute, and it is not on hold' AS why
        FROM courses_purchase p
        JOIN vouchers_issuance i ON i.purchase_id = p.id
        LEFT JOIN vouchers_voucher v ON v.id = i.voucher_id
        WHERE p.completed_at IS NOT NULL AND p.disputed_at IS NOT NULL AND (
            i.status = 'waiting' AND i.held_since IS NULL
            OR i.status = 'issued' AND v.status = 'issued' AND v.held_since IS NULL
        )
        UNION ALL
        SELECT i.id, i.voucher_id, p.provider, p.reference, 'is on hold, and no dispute is open'
        FROM vouchers_issuance i LEFT JOIN courses_purchase p ON p.id = i.purchase_id
        WHERE p.disputed_at IS NULL AND i.status = 'waiting' AND i.held_since IS NOT NULL
        UNION ALL
        SELECT i.id, i.voucher_id, p.provider, p.reference, 'is on hold, and no dispute is open'
        FROM vouchers_voucher v
        JOIN vouchers_issuance i ON i.voucher_id = v.id
        LEFT JOIN courses_purchase p ON p.id = i.purchase_id
        WHERE p.disputed_at IS NULL AND i.status = 'issued' AND v.held_since IS NOT NULL
    """
    sentence = "Issuance {key} {why}."
    advice = "Look at the payment with its provider."

    def mend(self, row: Row) -> None:
        if row["reference"]:
            settle_again(row["provider"], row["reference"])
            return
        # Without a payment there is nobody else who would ever release it.
        issuance = Issuance.objects.lock(row["key"])
        if issuance.purchase_id is None:
            this = Issuance.objects.filter(pk=issuance.pk)
            this.update(held_since=None)
            Voucher.objects.filter(issuances__in=this, held_since__isnull=False).update(held_since=None)
            send_postponed(this)
