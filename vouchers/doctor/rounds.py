"""The doctor's rounds: all checks one after the other, what they found, and the healing of it."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field
from typing import TypedDict

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from procrastinate.contrib.django import app

from vouchers.doctor.check import Check, HealableCheck, Row
from vouchers.doctor.counts import BatchesAddUp, SummaryAddsUp, VouchersAddUp
from vouchers.doctor.emails import EmailsPickedUp, EmailsWithinReach, IssuedIsEmailed
from vouchers.doctor.holders import IssuedIsOwed, OwedIsHeld, OwedOnce
from vouchers.doctor.payments import Holds, PaymentsSettled, SeatsIssued, SeatsOnce, SeatsTakenBack
from vouchers.doctor.queues import QueuesMove
from vouchers.doctor.redemptions import FreePurchasesSpent, RedeemedIsWrittenDown, SpentIsRedeemed
from vouchers.doctor.rules import RulesOn, RulesThere
from vouchers.errors import NotHealable
from vouchers.importing.storing import Watch, nobody
from vouchers.locks import LockTimeout, lock_timeout_as_error
from vouchers.models import Checkup

logger = logging.getLogger(__name__)

# In this order they are healed: the rules first, and what vouchers know before payments are settled, so that a seat
# whose voucher only lost its issuance is not given another one.
CHECKS: list[Check] = [
    RulesOn(),
    RulesThere(),
    SpentIsRedeemed(),
    RedeemedIsWrittenDown(),
    FreePurchasesSpent(),
    OwedOnce(),
    OwedIsHeld(),
    IssuedIsOwed(),
    SeatsOnce(),
    PaymentsSettled(),
    SeatsIssued(),
    SeatsTakenBack(),
    Holds(),
    QueuesMove(),
    IssuedIsEmailed(),
    EmailsWithinReach(),
    EmailsPickedUp(),
    BatchesAddUp(),
    VouchersAddUp(),
    SummaryAddsUp(),
]
HEALED_AT_ONCE = 500
TASK = "vouchers.tasks.check_books"
# Vouchers and issuances that are gone through while somebody waits for the page: about a second.
SMALL_BOOKS = 200_000
# One that has not finished by then never will: its worker was killed.
LONGEST_ROUND = dt.timedelta(hours=1)


class Finding(TypedDict):
    """What one check found; as in `Checkup.findings`."""

    check: str
    count: int
    healable: bool
    sentences: list[str]


@dataclass
class HealResult:
    """`healed` breaks, and a sentence for each that was not: what is broken, and what a person must do. `more` where
    there were more breaks than are healed at once."""

    healed: int = 0
    left: list[str] = field(default_factory=list)
    more: bool = False


def find_check(name: str) -> Check | None:
    return next((check for check in CHECKS if check.name == name), None)


def check_up(actor: str, watch: Watch = nobody) -> Checkup:
    """Goes through the books now. `actor` is who asked, such as `user:7`."""
    return carry_out(Checkup.objects.create(actor=actor), watch)


def carry_out(checkup: Checkup, watch: Watch = nobody) -> Checkup:
    """Does a checkup that was asked for, and stores what it found."""
    findings: list[Finding] = []
    for place, check in enumerate(CHECKS):
        watch(place / len(CHECKS))
        found = check.find()
        if found.count:
            findings.append(
                Finding(
                    check=check.name,
                    count=found.count,
                    healable=isinstance(check, HealableCheck),
                    sentences=[check.say(row) for row in found.rows],
                )
            )
    watch(1)
    checkup.findings, checkup.finished_at = findings, timezone.now()
    checkup.save(update_fields=["findings", "finished_at"])
    logger.info("Books checked", extra={"event": {"checkup": checkup.pk, "broken": [f["check"] for f in findings]}})
    return checkup


def ask_for_checkup(actor: str) -> Checkup:
    """A checkup that is done at once where the books are small; of large ones the worker is asked for it, or for none
    where it is at one."""
    if _number_of_rows() <= SMALL_BOOKS:
        return check_up(actor)
    last = Checkup.objects.first()
    if last and is_running(last):
        return last
    with transaction.atomic():
        checkup = Checkup.objects.create(actor=actor)
        app.configure_task(TASK).defer(checkup_id=checkup.pk)
    return checkup


def is_running(checkup: Checkup) -> bool:
    return checkup.finished_at is None and checkup.started_at > timezone.now() - LONGEST_ROUND


def heal(check_name: str, actor: str) -> HealResult:
    """Heals what one check finds, up to 500 breaks, each in a transaction of its own. Raises `NotHealable`."""
    check = find_check(check_name)
    if not isinstance(check, HealableCheck):
        raise NotHealable(f"{check.advice}" if check else f"There is no check {check_name!r}.")
    found = check.find(HEALED_AT_ONCE)
    result = HealResult(more=found.count > len(found.rows))
    for row in found.rows:
        problem = _heal_one(check, row)
        if problem:
            result.left.append(f"{check.say(row)} {problem}")
        else:
            result.healed += 1
    event = {"check": check.name, "healed": result.healed, "left": len(result.left), "actor": actor}
    logger.info("Books healed", extra={"event": event})
    return result


def _heal_one(check: HealableCheck, row: Row) -> str:
    """What a person must do, where it was not to be healed."""
    try:
        with lock_timeout_as_error(), transaction.atomic():
            check.mend(row)
    except NotHealable as refusal:
        return refusal.message
    except IntegrityError:
        return f"The rules of the database do not allow to heal it. {check.advice}"
    except LockTimeout:
        return "Somebody else is at it: try again in a moment."
    return check.advice if check.has(row["key"]) else ""


def _number_of_rows() -> int:
    """As the planner knows it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class "
            "WHERE oid IN ('vouchers_voucher'::regclass, 'vouchers_issuance'::regclass)"
        )
        return int(cursor.fetchone()[0])
