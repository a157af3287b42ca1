"""What staff do to several rows at once: the service is called for each, every deed is logged, and every
refusal is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.contrib import messages
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import pluralize

from vouchers.admin.base import DeskAdmin
from vouchers.delivery.outbox import resend_voucher
from vouchers.errors import DeskError
from vouchers.models import Issuance

# As many as a page can list, and a form may name (DATA_UPLOAD_MAX_NUMBER_FIELDS).
AT_ONCE = 500
REFUSALS_SAID = 10

M = TypeVar("M", bound=Model)


def chosen(request: HttpRequest, queryset: QuerySet[M]) -> list[M]:
    """The rows an action is meant for; none where they are too many to look at."""
    rows = list(queryset[: AT_ONCE + 1])
    if len(rows) > AT_ONCE:
        messages.error(request, f"Choose at most {AT_ONCE} at once. Nothing was done.")
        return []
    return rows


def carry_out(request: HttpRequest, rows: Iterable[M], deed: Callable[[M], None]) -> int:
    """Does a deed to each row by itself, so that one refusal does not undo the rest. Returns how many."""
    done = 0
    refused = []
    for row in rows:
        try:
            with transaction.atomic():  # the deed and its log entry
                deed(row)
            done += 1
        except DeskError as refusal:
            refused.append(refusal.message)
    for message in refused[:REFUSALS_SAID]:
        messages.error(request, message)
    if len(refused) > REFUSALS_SAID:
        messages.error(request, f"{len(refused) - REFUSALS_SAID} more were refused.")
    return done


def send_again(admin: DeskAdmin[Any], request: HttpRequest, issuances: Iterable[Issuance]) -> None:
    def deed(issuance: Issuance) -> None:
        delivery = resend_voucher(issuance)
        about = issuance.voucher or issuance
        admin.log_change(request, about, f"Sent the email of issuance {issuance.pk} again (delivery {delivery.pk}).")

    done = carry_out(request, issuances, deed)
    if done:
        messages.success(request, f"{done} email{pluralize(done)} queued to be sent again.")
