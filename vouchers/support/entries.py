"""One line of a timeline, and the words that all of them share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.utils import timezone
from django.utils.formats import date_format

from vouchers.masking import mask_code
from vouchers.models import Issuance, Voucher

NOTE = "Note: "  # what a note of staff begins with in the log


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What happened at a moment, as a sentence without a code.

    `kind` is what it is about: payment, voucher, email, redemption, buyer or staff. `tone` is how good that is: good,
    low, bad, calm, or nothing. `seat` is of which seat of a payment, where the case has several. `about` is a row whose
    page says more.
    """

    at: dt.datetime
    kind: str
    what: str
    tone: str = ""
    detail: str = ""
    who: str = ""
    seat: int | None = None
    about: Model | None = None

    @property
    def is_ahead(self) -> bool:
        return self.at > timezone.now()


class Log:
    """What staff did, of which each deed is told once: those that a row tells of too are taken for that row's entry."""

    def __init__(self, entries: Iterable[LogEntry]) -> None:
        self.left = list(entries)

    def take(self, row: Model, words: str) -> str:
        """The name of whoever did what the first entry about this row says with these words; empty where there is
        none."""
        for entry in self.left:
            is_note = entry.change_message.startswith(NOTE)
            if _is_about(entry, row) and not is_note and words in entry.change_message:
                self.left.remove(entry)
                return name_of(entry)
        return ""


def _is_about(entry: LogEntry, row: Model) -> bool:
    of = entry.content_type
    return of is not None and (of.model, entry.object_id) == (row._meta.model_name, str(row.pk))


def name_of(entry: LogEntry) -> str:
    return entry.user.get_username()


def moment(at: dt.datetime) -> str:
    """In the shop's time zone, such as `3 Aug 2026 10:01`."""
    return date_format(timezone.localtime(at), "j M Y H:i")


def last_day(date: dt.date) -> str:
    return date_format(date, "j M Y")


def end_of_day(date: dt.date) -> dt.datetime:
    return timezone.make_aware(dt.datetime.combine(date, dt.time.max))


def code_of(voucher: Voucher | None) -> str:
    return mask_code(voucher.code) if voucher else "the code"


def seat_of(issuance: Issuance | None) -> int | None:
    """Which seat of its purchase, where that has several."""
    several = issuance is not None and issuance.purchase is not None and issuance.purchase.quantity > 1
    return issuance.unit if issuance and several else None


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
