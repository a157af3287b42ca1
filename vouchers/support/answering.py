"""The answer at the top of a case's page, in one sentence: where the code is, and why it is not where it should be."""

from __future__ import annotations

from collections import Counter

from courses.models import Purchase
from courses.money import in_words
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.support.cases import Case
from vouchers.support.entries import last_day, moment, plural
from vouchers.support.places import place_of
from vouchers.support.states import State, deciding, state_of_issuance, state_of_purchase, state_of_voucher


def answer_of(case: Case) -> State:
    """The sentence, and the mark of `admin.css` for how good the news is."""
    if isinstance(case.subject, Issuance):
        return answer_of_issuance(case.subject, _last_email(case, case.subject))
    if isinstance(case.subject, Purchase):
        return _answer_of_purchase(case, case.subject)
    return _answer_of_voucher(case.subject, was_owed=bool(case.seats))


def answer_of_issuance(issuance: Issuance, email: Delivery | None) -> State:
    state = state_of_issuance(issuance, email)
    voucher = issuance.voucher
    if issuance.status == Issuance.Status.WAITING:
        return State(state.kind, _waiting(issuance))
    if voucher is None:
        return State("bad", "Cancelled: the payment was refunded before a code was there.")
    if issuance.status == Issuance.Status.RETURNED:
        returned = f" on {moment(issuance.returned_at)}" if issuance.returned_at else ""
        return State("bad", f"The code went back into the pool{returned}: nothing is owed any more.")
    if voucher.shown_status != Voucher.Status.ISSUED or voucher.held_since:
        return _answer_of_voucher(voucher, was_owed=True)
    issued = f"Issued on {moment(issuance.issued_at)}" if issuance.issued_at else "Issued"
    seen = f"seen {_time(issuance)}" if issuance.seen_at else ""
    if email and not email.carries_code and not seen:
        seen = "not seen"
    parts = [issued, _email_in_words(email), seen, "not redeemed"]
    return State(state.kind, ", ".join(filter(None, parts)) + ".")


def _time(issuance: Issuance) -> str:
    return moment(issuance.seen_at) if issuance.seen_at else ""


def _waiting(issuance: Issuance) -> str:
    since = f"since {moment(issuance.created_at)}"
    if issuance.held_since:
        return f"Waiting {since}, on hold: the payment is disputed."
    place = place_of(issuance)
    return f"Waiting {since}, place {place} in the queue." if place else f"Waiting {since}."


def _email_in_words(email: Delivery | None) -> str:
    if email is None:
        return "no email"
    reason = f": {email.reason}" if email.reason else ""
    match email.state:
        case Delivery.Status.QUEUED:
            tried = f" after {plural(email.attempts, 'attempt')}" if email.attempts else ""
            return f"email queued, due {moment(email.due_at)}{tried}{reason}"
        case Delivery.Status.SENDING:
            return "email being sent"
        case Delivery.ACCEPTED:
            return f"email accepted by the mail server {moment(email.sent_at or email.created_at)}"
        case _:
            when = f" {moment(email.fate_at)}" if email.fate_at else ""
            return f"email {email.state_in_words.lower()}{when}{reason}"


def _answer_of_voucher(voucher: Voucher, *, was_owed: bool) -> State:
    kind = state_of_voucher(voucher).kind
    never = "" if voucher.issued_to or was_owed else ", never issued to anybody"
    if voucher.redeemed_at:
        return State(kind, f"Redeemed on {moment(voucher.redeemed_at)}{never}.")
    if voucher.revoked_at:
        reason = f": {voucher.revoked_reason}" if voucher.revoked_reason else ""
        return State(kind, f"Revoked on {moment(voucher.revoked_at)}{never}{reason}")
    if voucher.is_past and voucher.expires_on:
        return State(kind, f"Expired at the end of {last_day(voucher.expires_on)}, not redeemed{never}.")
    if voucher.held_since:
        return State(kind, f"On hold since {moment(voucher.held_since)}: the payment is disputed. Not redeemed.")
    return State(kind, "In the pool: nobody holds this code.")


def _answer_of_purchase(case: Case, purchase: Purchase) -> State:
    state = state_of_purchase(purchase)
    price = in_words(purchase.amount, purchase.currency)
    when = moment(purchase.paid_at or purchase.failed_at or purchase.created_at)
    states = Counter(_seat_in_words(case, seat) for seat in case.seats)
    seats = "; ".join(f"{number} {words}" for words, number in states.items())
    lost = any(state_of_issuance(seat, _last_email(case, seat)).kind == "bad" for seat in case.seats)
    which = f"first {len(case.seats)} " if case.has_more_seats else ""
    of_seats = f" Of its {which}seats: {seats}." if seats else ""
    return State("bad" if lost else state.kind, f"{state.words}, {price}, {when}.{of_seats}")


def _seat_in_words(case: Case, seat: Issuance) -> str:
    words = state_of_issuance(seat, _last_email(case, seat)).words
    return "waiting" if seat.status == Issuance.Status.WAITING else f"{words[:1].lower()}{words[1:]}"


def _last_email(case: Case, issuance: Issuance) -> Delivery | None:
    return deciding(case.emails_of(issuance))


def seats_of(case: Case) -> list[tuple[Issuance, State]]:
    """Each seat and where it is, for the list of them."""
    return [(seat, state_of_issuance(seat, _last_email(case, seat))) for seat in case.seats]
