"""Send me my codes again: a buyer asks by an address alone, and only who reads its emails learns anything.

The page writes down what was asked, the same for every address; a worker looks up what belongs to it.
"""

from __future__ import annotations

import contextlib
import datetime as dt

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now

from vouchers.delivery.outbox import resend_voucher
from vouchers.errors import NotResendable, TooManyGuesses, TooManyRequests
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, ResendRequest, Voucher

# However often somebody asks, a voucher is not emailed again within this time, nor more than so often a day: the page
# is no way to flood an inbox.
EVERY = dt.timedelta(hours=1)
A_DAY = 3
# Requests in one run of the worker, and emails in one transaction; what is left waits for the next one.
REQUESTS = 100
CHUNK = 50


@transaction.atomic
def ask_again(*, email: str, language: str, asker: Guesser) -> None:
    """Writes down that the codes of an address are to be sent to it again. Raises `TooManyRequests`."""
    try:
        asker.check()
    except TooManyGuesses as refusal:
        raise TooManyRequests(refusal.retry_after or 1) from None
    asker.record()
    ResendRequest.objects.create(email=email, language=language)


def carry_out_requests(limit: int = REQUESTS) -> int:
    """Does what was asked, oldest first, up to a limit; returns how many transactions that took.

    Any number of these may run at once.
    """
    done = 0
    while done < limit and _carry_out_next():
        done += 1
    return done


@transaction.atomic
def _carry_out_next() -> bool:
    """Whether there was a request that nobody else is at."""
    request = ResendRequest.objects.select_for_update(skip_locked=True).order_by("id").first()
    if request is None:
        return False
    owed = list(_owed_to(request.email).select_for_update(of=("self",))[:CHUNK])
    # Looked at again now that they are locked: a worker at another request of this address may have been faster.
    for issuance in _rested(Issuance.objects.filter(pk__in=[issuance.pk for issuance in owed])):
        with contextlib.suppress(NotResendable):  # redeemed or disputed in this moment
            resend_voucher(issuance, language=request.language)
    if len(owed) < CHUNK:
        request.delete()
    return True


def _owed_to(email: str) -> QuerySet[Issuance]:
    """What is to be sent to an address: vouchers it holds that can be redeemed and have not been emailed just now."""
    valid = Voucher.objects.shown_as(Voucher.Status.ISSUED).filter(held_since=None)
    held = Issuance.objects.filter(email__iexact=email, status=Issuance.Status.ISSUED, voucher__in=valid)
    return _rested(held)


def _rested(issuances: QuerySet[Issuance]) -> QuerySet[Issuance]:
    """Those of which no email is on its way or left within `EVERY`, in the order in which rows are locked."""
    since = Now() - EVERY
    recent = Delivery.objects.filter(
        Q(status__in=[Delivery.Status.QUEUED, Delivery.Status.SENDING])
        | Q(created_at__gt=since)
        | Q(sent_at__gt=since),
        issuance=OuterRef("pk"),
    )
    emails = Delivery.objects.filter(issuance=OuterRef("pk"), created_at__gt=Now() - dt.timedelta(days=1))
    number = Subquery(emails.order_by().values("issuance").annotate(number=Count("pk")).values("number"))
    rested = issuances.annotate(emails_of_the_day=Coalesce(number, 0)).filter(
        ~Exists(recent), emails_of_the_day__lt=A_DAY
    )
    return rested.order_by("pk")
