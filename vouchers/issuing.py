"""Issue: one unused code leaves the pool, bound to a buyer's email, and its email is queued; or the buyer waits.

The voucher, the issuance and the delivery commit together or not at all, and nothing here touches the
network. Why it is written as it is: docs/decisions/0003.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from courses.models import COURSE_ID, Course, Purchase
from vouchers.errors import (
    CourseNotFound,
    IdempotencyKeyReused,
    IssuanceClosed,
    PaymentInReview,
    PaymentPending,
    RequestInProgress,
)
from vouchers.filling import fill_waiting
from vouchers.locks import (
    LockTimeout,
    limit_lock_wait,
    lock_names,
    lock_timeout_as_error,
    numbers_of,
)
from vouchers.models import IdempotencyKey, Issuance
from vouchers.outgoing.announcing import Event, announce_issued, is_anybody_told
from vouchers.pool import Holder, give_codes, issue_at_once

SAME_REQUEST_SECONDS = 5
LAST_CODE_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class IssueRequest:
    """What a caller asks for; `caller` is who asks, such as `key:AbCd1234`, and owns its request keys.

    `tells_code` is whether the caller is answered with the code, so that it counts as known to somebody.
    """

    course_id: str
    email: str
    caller: str
    order_id: str = ""
    idempotency_key: str = ""
    tells_code: bool = False

    @property
    def fingerprint(self) -> str:
        parts = "\n".join([self.course_id, self.email.upper(), self.order_id])
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def names(self) -> list[str]:
        """What makes this request the same as another one, as names of locks."""
        names = []
        if self.idempotency_key:
            names.append(f"key {self.caller} {self.idempotency_key}")
        if self.order_id:
            names.append(order_name(self.course_id, self.order_id))
        return names or [f"email {self.course_id} {self.email.upper()}"]

    @property
    def shared_names(self) -> list[str]:
        """What a request that is known by its email alone has together with all such requests of the course: a list of
        emails has it for itself (`vouchers.bulk_issuing`)."""
        return [] if self.idempotency_key or self.order_id else [emails_name(self.course_id)]


@dataclass(frozen=True)
class IssueResult:
    """`created` is whether this call made the issuance, rather than finding it."""

    issuance: Issuance
    created: bool


def order_name(course_id: str, order_id: str) -> str:
    """The name of the lock on an order, which may also be the reference of a payment."""
    return f"order {course_id} {order_id}"


def emails_name(course_id: str) -> str:
    """The name of the lock on all emails of a course."""
    return f"emails {course_id}"


def find_course(course_id: str) -> Course:
    """The course of an id, matched as given. Raises `CourseNotFound`."""
    if not re.fullmatch(COURSE_ID, course_id):
        raise CourseNotFound(course_id)
    try:
        return Course.objects.get(pk=course_id)
    except Course.DoesNotExist:
        raise CourseNotFound(course_id) from None


def issue_voucher(request: IssueRequest) -> IssueResult:
    """Issues a voucher, queues the buyer, or finds what the same request did before.

    Raises `CourseNotFound`, `IdempotencyKeyReused` where a key or an order is used for something else, `IssuanceClosed`
    where what it names was returned, `PaymentPending` and `PaymentInReview` where the order is a payment that is not
    (found) good yet, and `RequestInProgress` where the same request is still being worked on after 5 s.
    """
    if issuance := _issue_at_once(request):
        return IssueResult(issuance, created=True)
    course = find_course(request.course_id)
    try:
        with lock_timeout_as_error(), transaction.atomic():
            lock_names(*request.names, shared=request.shared_names, seconds=SAME_REQUEST_SECONDS)
            known = _find_known(request, course)
            if known:
                return IssueResult(_still_open(known), created=False)
            return IssueResult(_issue_new(request, course), created=True)
    except LockTimeout:
        raise RequestInProgress from None


def _issue_at_once(request: IssueRequest) -> Issuance | None:
    """What nearly every request comes to, in one statement; None where the desk has to look closer."""
    if not re.fullmatch(COURSE_ID, request.course_id):
        return None
    # The statement is a transaction by itself: without another round trip to begin it and one to end it.
    with transaction.atomic() if is_anybody_told(Event.VOUCHER_ISSUED) else nullcontext():
        issuance = issue_at_once(
            course_id=request.course_id,
            email=request.email,
            order_id=request.order_id,
            caller=request.caller,
            key=request.idempotency_key,
            fingerprint=request.fingerprint,
            locks=numbers_of(request.names),
            shared_locks=numbers_of(request.shared_names),
            tells_code=request.tells_code,
        )
        if issuance:
            announce_issued([issuance])
    return issuance


def _find_known(request: IssueRequest, course: Course) -> Issuance | None:
    issuances = Issuance.objects.select_related("voucher", "course")
    if not request.order_id and not request.idempotency_key:
        return issuances.still_owed_to(request.email, course).first()

    if request.idempotency_key:
        used = IdempotencyKey.objects.filter(caller=request.caller, key=request.idempotency_key).first()
        if used:
            if used.fingerprint != request.fingerprint:
                raise IdempotencyKeyReused(
                    "This Idempotency-Key was used for another course, email or order. Use a new key for each request."
                )
            return issuances.get(pk=used.issuance_id)
    if not request.order_id:
        return None

    known = issuances.filter(course=course, order_id=request.order_id).first()
    if known is None:
        known = _find_of_payment(request, course)
    if known:
        if not _is_of(known, request.email):
            raise IdempotencyKeyReused("This order of the course belongs to another email.")
        _remember_key(request, known)
    return known


def _is_of(issuance: Issuance, email: str) -> bool:
    """Whether it is owed to this email, or was until its address was corrected: a retry knows the first one only."""
    return issuance.email.upper() == email.upper() or issuance.address_changes.filter(old_email__iexact=email).exists()


def _find_of_payment(request: IssueRequest, course: Course) -> Issuance | None:
    """What is owed for the payment that an order is the reference of; None where it is no payment we know."""
    of_course = Q(course=course) | Q(course=None)  # one that names no course we have is for staff to look at
    purchase = Purchase.objects.payments().named(request.order_id).filter(of_course).first()
    if purchase is None:
        return None
    seats = Issuance.objects.select_related("voucher", "course").filter(purchase=purchase).order_by("unit")
    known = seats.exclude(status__in=Issuance.CLOSED).first() or seats.first()
    if purchase.email.upper() != request.email.upper() and not (known and _is_of(known, request.email)):
        raise IdempotencyKeyReused("This order is a payment of another email.")
    if known:
        return known
    if purchase.completed_at:
        raise IssuanceClosed  # refunded before anything was issued
    raise PaymentInReview if purchase.paid_at else PaymentPending


def _still_open(issuance: Issuance) -> Issuance:
    if issuance.status in Issuance.CLOSED:
        raise IssuanceClosed
    return issuance


def _issue_new(request: IssueRequest, course: Course) -> Issuance:
    holder = Holder(email=request.email, order_id=request.order_id)
    (issuance,) = give_or_queue(course, [holder], caller=request.caller, tells_code=request.tells_code)
    _remember_key(request, issuance)
    return issuance


def note_told(issuance: Issuance) -> None:
    """Writes down that a program is being answered with the code of an issuance: it never goes back to the pool.

    Raises `IssuanceClosed` where it went there since the issuance was read.
    """
    if issuance.told_at:
        return
    still = Issuance.objects.filter(pk=issuance.pk, status=Issuance.Status.ISSUED, voucher=issuance.voucher)
    if not still.update(told_at=Coalesce("told_at", Now())):
        raise IssuanceClosed


def caller_of(purchase: Purchase) -> str:
    """Who asks for the seats of a payment, as kept with them."""
    return f"payment:{purchase.provider}"


def issue_seats(purchase: Purchase, units: Sequence[int], *, held_since: dt.datetime | None = None) -> None:
    """Issues the voucher of each of these seats of a payment, or queues them, in the payment's own transaction.

    The first seat takes the payment's reference for its order, so that a request with that order finds it; unless that
    order was issued before, and taken back again. With `held_since` all of them wait, outside the queue, until the
    dispute is over.
    """
    assert purchase.course is not None  # noqa: S101  # for mypy: the database says so of what is completed
    is_used = Issuance.objects.filter(course=purchase.course, order_id=purchase.reference).exists()
    holders = [
        Holder(email=purchase.email, order_id=purchase.reference if unit == 1 and not is_used else "", unit=unit)
        for unit in units
    ]
    if held_since:
        _queue(purchase.course, holders, caller=caller_of(purchase), purchase=purchase, held_since=held_since)
    else:
        give_or_queue(purchase.course, holders, caller=caller_of(purchase), purchase=purchase)


def give_or_queue(
    course: Course,
    holders: Sequence[Holder],
    *,
    caller: str,
    purchase: Purchase | None = None,
    tells_code: bool = False,
) -> list[Issuance]:
    """Codes for new holders and their emails, or places at the end of the queue; in the order of the holders."""
    queue_exists = Issuance.objects.waiting(course).exists()
    given = [] if queue_exists else _give(course, holders, caller=caller, purchase=purchase, tells_code=tells_code)
    announce_issued(given)
    left = holders[len(given) :]
    waiting = _queue(course, left, caller=caller, purchase=purchase) if left else []
    if queue_exists and fill_waiting(course):
        stored = Issuance.objects.select_related("voucher", "course").in_bulk([issuance.pk for issuance in waiting])
        waiting = [stored[issuance.pk] for issuance in waiting]
    return given + waiting


def _give(
    course: Course, holders: Sequence[Holder], *, caller: str, purchase: Purchase | None, tells_code: bool
) -> list[Issuance]:
    given = give_codes(course, holders, caller=caller, purchase=purchase, tells_code=tells_code)
    left = holders[len(given) :]
    last = _give_last(course, left, caller=caller, purchase=purchase, tells_code=tells_code) if left else []
    return given + last


def _give_last(
    course: Course, holders: Sequence[Holder], *, caller: str, purchase: Purchase | None, tells_code: bool
) -> list[Issuance]:
    """A pool is only believed to be empty once the holders of its last codes have committed, or have not for 2 s;
    the sweeper then makes good what they give back."""
    try:
        with lock_timeout_as_error(), transaction.atomic():
            limit_lock_wait(LAST_CODE_SECONDS)
            return give_codes(course, holders, caller=caller, purchase=purchase, tells_code=tells_code, waits=True)
    except LockTimeout:
        return []


def _queue(
    course: Course,
    holders: Sequence[Holder],
    *,
    caller: str,
    purchase: Purchase | None,
    held_since: dt.datetime | None = None,
) -> list[Issuance]:
    return Issuance.objects.bulk_create(
        Issuance(
            course=course,
            email=holder.email,
            order_id=holder.order_id,
            unit=holder.unit,
            caller=caller,
            purchase=purchase,
            held_since=held_since,
        )
        for holder in holders
    )


def _remember_key(request: IssueRequest, issuance: Issuance) -> None:
    if request.idempotency_key:
        IdempotencyKey.objects.create(
            caller=request.caller,
            key=request.idempotency_key,
            fingerprint=request.fingerprint,
            issuance=issuance,
        )
