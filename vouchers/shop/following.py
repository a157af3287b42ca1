"""How far a purchase is, drawn for its buyer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from courses.models import Purchase
from courses.money import in_words
from vouchers.masking import in_outline
from vouchers.payments.progress import Progress, progress_of

LABELS = (_("Paid"), _("Voucher on its way"), _("Sent"))
WAITING = _("Waiting for new codes")
# How many of the steps are behind; a status that is not here has none to go.
BEHIND = {"pending": 0, "review": 1, "paid": 1, "waiting": 1, "issued": 1}
# Seconds between two looks. What a person or the next upload decides takes longer than a payment or an email.
SOON, LATER = 2, 5


@dataclass(frozen=True)
class Step:
    """`state` is `done`, `current` or `ahead`."""

    label: str | Promise
    state: str


def shown(purchase: Purchase) -> dict[str, Any]:
    """What the purchase's page and the part of it that follows have to show: no code, and the email only in outline."""
    progress = progress_of(purchase)
    is_free = purchase.provider == Purchase.Provider.VOUCHER
    return {
        "purchase": purchase,
        "course": purchase.course,
        "progress": progress,
        "steps": [] if is_free else steps_of(progress),
        "is_over": progress.is_over,
        "is_free": is_free,
        "every": LATER if progress.status in ("waiting", "review", "disputed") else SOON,
        "email": in_outline(progress.email),
        "amount": in_words(purchase.amount, purchase.currency),
        "refunded": in_words(purchase.refunded_amount, purchase.currency) if purchase.refunded_amount else "",
    }


def steps_of(progress: Progress) -> list[Step]:
    """Empty where nothing lies ahead any more: failed, refunded, or on hold."""
    if progress.status not in BEHIND:
        return []
    all_sent = progress.status == "issued" and progress.sent >= progress.issued
    behind = len(LABELS) if all_sent else BEHIND[progress.status]
    labels = (LABELS[0], WAITING, LABELS[2]) if progress.status == "waiting" else LABELS
    return [Step(label, _state(number, behind)) for number, label in enumerate(labels)]


def _state(number: int, behind: int) -> str:
    if number == behind:
        return "current"
    return "done" if number < behind else "ahead"
