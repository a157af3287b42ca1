"""Where a voucher is, in a few words: for lists, and as the beginning of what the page of a case says first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from courses.models import Purchase
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.support.places import place_of


@dataclass(frozen=True)
class State:
    """`kind` is one of the marks of `admin.css`, such as `issued` or `bad`."""

    kind: str
    words: str


def state_of_issuance(issuance: Issuance, email: Delivery | None) -> State:
    """`email` is the last one about its voucher; None where there is none."""
    if issuance.status == Issuance.Status.WAITING:
        return _waiting(issuance)
    if issuance.status != Issuance.Status.ISSUED or issuance.voucher is None:
        return State(issuance.status, issuance.get_status_display())
    if issuance.voucher.shown_status != Voucher.Status.ISSUED or issuance.voucher.held_since:
        return state_of_voucher(issuance.voucher)
    if issuance.seen_at:
        return State("issued", "Issued, seen")
    if email is None:
        return State("issued", "Issued, no email")
    words = f"Issued, email {email.state_in_words.lower()}"
    return State("bad" if email.state in UNDELIVERED else "issued", words)


def deciding(emails: Sequence[Delivery]) -> Delivery | None:
    """Of the emails of an issuance, oldest first, the one that says whether its buyer has the voucher: the last that
    brings it, or a reminder that arrived since."""
    brings = [email for email in emails if email.kind == Delivery.Kind.VOUCHER or email.fate in Delivery.ARRIVED]
    return brings[-1] if brings else None


UNDELIVERED = (Delivery.Status.FAILED, *Delivery.LOST)


def _waiting(issuance: Issuance) -> State:
    if issuance.held_since:
        return State("waiting", "Waiting, on hold")
    place = place_of(issuance)
    return State("waiting", f"Waiting, place {place}" if place else "Waiting")


def state_of_voucher(voucher: Voucher) -> State:
    if voucher.held_since and voucher.status == Voucher.Status.ISSUED:
        return State("disputed", "On hold: disputed")
    status = voucher.shown_status
    if status == Voucher.Status.AVAILABLE:
        return State("available", "In the pool")
    return State(status, dict(Voucher.SHOWN_STATUSES)[status])


def state_of_purchase(purchase: Purchase) -> State:
    """By the purchase's own columns; its seats have states of their own."""
    if purchase.review and purchase.reviewed_at is None:
        return State("review", "To be reviewed")
    if purchase.disputed_at:
        return State("disputed", "Disputed")
    if purchase.refunded_at:
        return State("refunded", "Refunded" if purchase.refunded_amount == purchase.amount else "Partly refunded")
    if purchase.paid_at:
        return State("paid", "Paid")
    return State("failed", "Payment failed") if purchase.failed_at else State("pending", "Not paid")
