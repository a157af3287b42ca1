"""What a timeline tells of vouchers that are or were owed: asked for, issued, seen, corrected, replaced, taken back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.timesince import timesince

from vouchers.models import AddressChange, Issuance, Replacement, Voucher
from vouchers.support.cases import Case
from vouchers.support.entries import Entry, Log, code_of, end_of_day, last_day, seat_of
from vouchers.support.places import place_of

# Issuing waits for locks for no longer than this; who got the code later was in the queue.
AT_ONCE = dt.timedelta(seconds=10)


@dataclass(frozen=True)
class Held:
    """A voucher as it was held by an issuance, and the evidence that its code was seen."""

    voucher: Voucher | None
    seen_at: dt.datetime | None
    told_at: dt.datetime | None


def holding_entries(case: Case, log: Log) -> Iterator[Entry]:
    for issuance in case.seats:
        held = _held(issuance, case.replacements_of(issuance))
        yield _asked(issuance, case, log)
        yield from _fate(issuance, held[0].voucher, log)
        for one in held:
            yield from _seen(one, issuance)
    for change in case.changes:
        yield _corrected(change, case, log)
    for replacement in case.replacements:
        yield _replaced(replacement, case, log)
    replaced = {replacement.voucher_id for replacement in case.replacements}
    for voucher in case.vouchers:
        if voucher.pk not in replaced:
            yield from _voucher(voucher, case, log)


def _held(issuance: Issuance, replacements: list[Replacement]) -> list[Held]:
    """Oldest first; the last one is held now."""
    before = [Held(row.voucher, row.seen_at, row.told_at) for row in replacements]
    return [*before, Held(issuance.voucher, issuance.seen_at, issuance.told_at)]


def _asked(issuance: Issuance, case: Case, log: Log) -> Entry:
    who = log.take(issuance, "Asked for by hand") or case.people.name(issuance.caller)
    # An address that was corrected since is told by the correction.
    email = next((row.old_email for row in case.changes if row.issuance_id == issuance.pk), issuance.email)
    # The row is written after its code was taken.
    at = min(issuance.created_at, issuance.issued_at or issuance.created_at)
    return Entry(
        at=at,
        kind="voucher",
        what=f"Voucher of {issuance.course_id} asked for, for {email}",
        detail=f"Order {issuance.order_id}" if issuance.order_id else "",
        who=who,
        seat=seat_of(issuance),
        about=issuance,
    )


def _fate(issuance: Issuance, first: Voucher | None, log: Log) -> Iterator[Entry]:
    seat = seat_of(issuance)
    if issuance.issued_at:
        waited = issuance.issued_at - issuance.created_at > AT_ONCE
        after = f" after {timesince(issuance.created_at, issuance.issued_at, depth=1)} in the queue" if waited else ""
        what = f"Issued{after}: {code_of(first)}"
        yield Entry(at=issuance.issued_at, kind="voucher", what=what, tone="good", seat=seat, about=first)
    elif issuance.status == Issuance.Status.WAITING:
        place = place_of(issuance)
        what = f"Put into the queue, now at place {place}" if place else "Put into the queue"
        yield Entry(at=issuance.created_at, kind="voucher", what=what, tone="low", seat=seat)
    if issuance.held_since:
        what = "On hold, not filled meanwhile: the payment is disputed"
        yield Entry(at=issuance.held_since, kind="voucher", what=what, tone="low", seat=seat)
    if issuance.status == Issuance.Status.CANCELLED and issuance.purchase and issuance.purchase.refunded_at:
        what = "Left the queue: refunded before it was issued"
        yield Entry(at=issuance.purchase.refunded_at, kind="voucher", what=what, tone="bad", seat=seat)
    if issuance.returned_at:
        who = log.take(issuance, "back into the pool")
        what = "Code put back into the pool: nobody had seen it"
        yield Entry(at=issuance.returned_at, kind="staff", what=what, seat=seat, who=who)


def _seen(held: Held, issuance: Issuance) -> Iterator[Entry]:
    seat, code = seat_of(issuance), code_of(held.voucher)
    if held.told_at:
        what = f"The program that asked was answered with {code}"
        yield Entry(at=held.told_at, kind="voucher", what=what, seat=seat)
    if held.seen_at:
        yield Entry(at=held.seen_at, kind="buyer", what=f"The buyer saw {code}", tone="good", seat=seat)


def _corrected(change: AddressChange, case: Case, log: Log) -> Entry:
    issuance = next(seat for seat in case.seats if seat.pk == change.issuance_id)
    for row in filter(None, [issuance.voucher, issuance, *case.vouchers]):
        if log.take(row, f"Corrected the address of issuance {issuance.pk} "):
            break
    return Entry(
        at=change.changed_at,
        kind="staff",
        what=f"Address corrected: {change.old_email} → {change.new_email}",
        who=case.people.name(change.actor),
        seat=seat_of(issuance),
    )


def _replaced(replacement: Replacement, case: Case, log: Log) -> Entry:
    issuance = next(seat for seat in case.seats if seat.pk == replacement.issuance_id)
    rows = case.replacements_of(issuance)
    following = [*(row.voucher for row in rows), issuance.voucher][rows.index(replacement) + 1]
    log.take(replacement.voucher, "Replaced the code of issuance")
    return Entry(
        at=replacement.replaced_at,
        kind="staff",
        what=f"Code replaced: {code_of(replacement.voucher)} is revoked, {code_of(following)} issued",
        tone="low",
        detail=replacement.reason,
        who=case.people.name(replacement.actor),
        seat=seat_of(issuance),
        about=following,
    )


def _voucher(voucher: Voucher, case: Case, log: Log) -> Iterator[Entry]:
    seat = seat_of(case.seat_of_voucher(voucher.pk))
    if voucher.held_since:
        what = f"{code_of(voucher)} on hold: the payment is disputed"
        yield Entry(at=voucher.held_since, kind="voucher", what=what, tone="low", seat=seat)
    if voucher.revoked_at:
        yield Entry(
            at=voucher.revoked_at,
            kind="voucher",
            what=f"{code_of(voucher)} revoked",
            tone="bad",
            detail=voucher.revoked_reason,
            who=log.take(voucher, "Revoked: "),
            seat=seat,
        )
    elif voucher.expires_on and not voucher.redeemed_at:
        expires = "expired" if voucher.is_past else "expires"
        what = f"{code_of(voucher)} {expires} at the end of {last_day(voucher.expires_on)}"
        tone = "bad" if voucher.is_past else ""
        yield Entry(at=end_of_day(voucher.expires_on), kind="voucher", what=what, tone=tone, seat=seat)
