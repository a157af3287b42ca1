"""The timeline of a case: everything that happened, in one list, each deed once."""

from __future__ import annotations

from collections.abc import Iterator

from vouchers.models import Issuance, Voucher
from vouchers.support.cases import Case
from vouchers.support.emails import email_entries
from vouchers.support.entries import NOTE, Entry, Log, name_of
from vouchers.support.holding import holding_entries
from vouchers.support.payments import payment_entries
from vouchers.support.spending import spending_entries


def timeline_of(case: Case) -> list[Entry]:
    """Oldest first; what is still ahead comes last. Of the same moment, in the order of cause and effect."""
    log = Log(case.log)
    entries = [
        *payment_entries(case, log),
        *holding_entries(case, log),
        *email_entries(case, log),
        *spending_entries(case),
    ]
    return sorted([*entries, *_deeds(case, log)], key=lambda entry: entry.at)


def _deeds(case: Case, log: Log) -> Iterator[Entry]:
    """What only the log tells of. Of a code that was in the pool again: nothing from before it was owed here."""
    since = min((seat.created_at for seat in case.seats), default=None) if isinstance(case.subject, Issuance) else None
    for entry in log.left:
        of_voucher = entry.content_type is not None and entry.content_type.model == Voucher._meta.model_name
        if since and of_voucher and entry.action_time < since:
            continue
        said = entry.get_change_message()
        what, detail = ("Note", said.removeprefix(NOTE)) if said.startswith(NOTE) else (said or "Looked after", "")
        yield Entry(at=entry.action_time, kind="staff", what=what, detail=detail, who=name_of(entry))
