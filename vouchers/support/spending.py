"""What a timeline tells of redemptions, those that were refused too."""

from __future__ import annotations

from collections.abc import Iterator

from vouchers.models import RedeemAttempt, Redemption
from vouchers.support.cases import Case
from vouchers.support.entries import Entry, code_of, moment, seat_of


def spending_entries(case: Case) -> Iterator[Entry]:
    vouchers = {voucher.pk: voucher for voucher in case.vouchers}
    for attempt in case.attempts:
        seat = seat_of(case.seat_of_voucher(attempt.voucher_id))
        yield _refused(attempt, code_of(vouchers.get(attempt.voucher_id)), case.people.name(attempt.caller), seat)
    for redemption in case.redemptions:
        seat = seat_of(case.seat_of_voucher(redemption.pk))
        yield _redeemed(redemption, code_of(vouchers.get(redemption.pk)), case.people.name(redemption.caller), seat)


def _refused(attempt: RedeemAttempt, code: str, who: str, seat: int | None) -> Entry:
    times = f" {attempt.times} times" if attempt.times > 1 else ""
    details = [f"first {moment(attempt.first_at)}"] if attempt.times > 1 else []
    details += [f"course given: {attempt.course}"] if attempt.course else []
    details += [f"email given: {attempt.email}"] if attempt.email else []
    reason = RedeemAttempt.Reason(attempt.reason).label
    return Entry(
        at=attempt.last_at,
        kind="redemption",
        what=f"Redeeming {code} was refused{times}: {reason[:1].lower()}{reason[1:]}",
        tone="bad",
        detail=", ".join(details),
        who=who,
        seat=seat,
    )


def _redeemed(redemption: Redemption, code: str, who: str, seat: int | None) -> Entry:
    by = f" by {redemption.email}" if redemption.email else ""
    return Entry(
        at=redemption.redeemed_at,
        kind="redemption",
        what=f"{code} redeemed{by}, a free purchase made",
        tone="good",
        who=who,
        seat=seat,
        about=redemption.purchase,
    )
