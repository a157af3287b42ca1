"""Issue to a list of emails: all of it or nothing, a result for each line, and the same list again is safe.

Under a batch key every email of the list is a request of its own, and the list as a whole is remembered. Without one,
an email is the same request as a single one with neither order nor key.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from courses.models import Course
from vouchers.email_lists import EmailList, Line
from vouchers.errors import IdempotencyKeyReused, RequestInProgress
from vouchers.issuing import SAME_REQUEST_SECONDS, emails_name, find_course, give_or_queue
from vouchers.locks import LockTimeout, lock_names, lock_timeout_as_error
from vouchers.models import AddressChange, IdempotencyKey, Issuance, Voucher
from vouchers.pool import Holder

LINES_AT_MOST = 10_000
BATCH_KEY_MAX = 200
CLOSED = "What this line named was refunded or returned. Use another batch key to issue a voucher again."
# By itself: of 5,000 emails, `bulk_create` took longer over their keys than all the rest.
REMEMBER = """
/* desk: remember list */ INSERT INTO vouchers_idempotencykey (caller, key, fingerprint, issuance_id)
SELECT %(owner)s, made.key, %(fingerprint)s, made.issuance
FROM unnest(%(keys)s::text[], %(issuances)s::bigint[]) AS made (key, issuance)
"""
HOLDERS_AT_ONCE = 1000  # keeps each statement far from the time limit of the database


@dataclass(frozen=True, kw_only=True)
class ListRequest:
    """What a caller asks for; `emails` are as they were given, whatever they are. `caller` and `tells_code` are as in
    `vouchers.issuing.IssueRequest`."""

    course_id: str
    emails: Sequence[object]
    caller: str
    batch_key: str = ""
    tells_code: bool = False

    @property
    def key_owner(self) -> str:
        """To whom the keys of the list belong: no `Idempotency-Key` of this caller is ever one of them."""
        return f"{self.caller} batch"

    @property
    def lock_name(self) -> str:
        """Of the list, or of all emails of the course: 10,000 locks would not fit into PostgreSQL's table of them."""
        return f"key {self.key_owner} {self.batch_key}" if self.batch_key else emails_name(self.course_id)

    def keys(self, number: int) -> list[str]:
        """The request keys of the emails of the list that differ, by their places and not by their addresses: there is
        nothing in them that would have to be erased."""
        return [f"{place} {self.batch_key}" for place in range(1, number + 1)]


@dataclass(frozen=True)
class LineResult:
    """What became of a line. `created` is whether this line made the issuance, rather than finding it; `position` is
    its place in the queue while it waits. There is no issuance of a line with a fault."""

    line: Line
    issuance: Issuance | None = None
    created: bool = False
    position: int | None = None

    @property
    def status(self) -> str:
        """`issued`, `waiting`, `closed` for what was refunded or returned since, or `invalid`."""
        if self.issuance is None:
            return "invalid"
        return "closed" if self.issuance.status in Issuance.CLOSED else self.issuance.status

    @property
    def voucher(self) -> Voucher | None:
        return None if self.issuance is None or self.status == "closed" else self.issuance.voucher

    @property
    def problem(self) -> str:
        """Why there is neither a voucher nor a place in the queue."""
        return CLOSED if self.status == "closed" else self.line.fault

    @property
    def counted_as(self) -> str:
        """The same, with `found` for what was issued before."""
        return "found" if self.status == Issuance.Status.ISSUED and not self.created else self.status


def issue_to_list(request: ListRequest) -> list[LineResult]:
    """Issues a voucher to each email of a list, or queues it, or finds what the same request did before.

    Raises `CourseNotFound`, `IdempotencyKeyReused` where the batch key was used for another course or list, and
    `RequestInProgress` where the same list (without a batch key: anything that is known by its email alone, in this
    course) is still being worked on after 5 s. Then nothing is done.
    """
    course = find_course(request.course_id)
    emails = EmailList.read(request.emails)
    try:
        with lock_timeout_as_error(), transaction.atomic():
            lock_names(request.lock_name, seconds=SAME_REQUEST_SECONDS)
            return _issue(request, course, emails)
    except LockTimeout:
        raise RequestInProgress from None


def issue_in_parts(request: ListRequest) -> Iterator[list[LineResult]]:
    """The same for a list of any length, `LINES_AT_MOST` lines after the other, under a batch key for each.

    Each part is a transaction of its own: one for all would keep single requests of the course waiting for minutes.
    Broken off, it goes on where it was once it is repeated. An email is one request in all parts together.
    """
    lines = EmailList.read(request.emails).lines
    times = Counter(line.same for line in lines)
    done: dict[str, LineResult] = {}
    for number, start in enumerate(range(0, len(lines), LINES_AT_MOST), 1):
        part = lines[start : start + LINES_AT_MOST]
        key = f"{request.batch_key} part {number}" if request.batch_key else ""
        asked = [request.emails[line.number - 1] for line in part if line.same not in done]
        results = iter(issue_to_list(replace(request, emails=asked, batch_key=key)))
        shown = [
            replace(done[line.same], line=line, created=False)
            if line.same in done
            else replace(next(results), line=line)
            for line in part
        ]
        yield shown
        done |= {result.line.same: result for result in shown if result.issuance and times[result.line.same] > 1}


def _issue(request: ListRequest, course: Course, emails: EmailList) -> list[LineResult]:
    known = _find_list(request, emails) if request.batch_key else _find_owed(course, emails)
    new = [line for line in emails.different if line.same not in known]
    made = _issue_new(request, course, new)
    if request.batch_key and made:
        _remember(request, emails, made)
    owed = known | {line.same: issuance for line, issuance in zip(new, made, strict=True)}
    if request.tells_code:
        _note_told(owed.values())
    places = _places(course, owed.values())
    made_by = {line.number for line in new}
    return [
        LineResult(line)
        if line.fault
        else LineResult(line, issuance := owed[line.same], line.number in made_by, places.get(issuance.pk))
        for line in emails.lines
    ]


def _find_owed(course: Course, emails: EmailList) -> dict[str, Issuance]:
    """What the emails wait for or still hold, the newest of each."""
    asked = [line.email for line in emails.different]
    return {i.email.upper(): i for i in _locked(Issuance.objects.still_owed(course).of_emails(asked))}


def _find_list(request: ListRequest, emails: EmailList) -> dict[str, Issuance]:
    """What the same list led to, or nothing where its batch key is new. Raises `IdempotencyKeyReused`."""
    keys = IdempotencyKey.objects.filter(caller=request.key_owner)
    first = keys.filter(key__in=request.keys(1)).first()
    if first is None:
        return {}
    if first.fingerprint != _fingerprint(request, emails):
        raise _reused()
    names = request.keys(len(emails.different))
    numbers = dict(keys.filter(key__in=names).values_list("key", "issuance"))
    issuances = {i.pk: i for i in _locked(Issuance.objects.filter(pk__in=numbers.values()))}
    found = {line: issuances[numbers[name]] for name, line in zip(names, emails.different, strict=True)}
    _check_addresses(found)
    return {line.same: issuance for line, issuance in found.items()}


def _fingerprint(request: ListRequest, emails: EmailList) -> str:
    return hashlib.sha256(f"{request.course_id}\n{emails.pattern}".encode()).hexdigest()


def _reused() -> IdempotencyKeyReused:
    return IdempotencyKeyReused(
        "This batchKey was used for another course or other emails. Use a new key for each list."
    )


def _check_addresses(found: dict[Line, Issuance]) -> None:
    """That each line asks for what was owed to its email, or was until the address was corrected. Compared with what
    is stored rather than by a hash, from which an address could be guessed after it was erased."""
    others = {(i.pk, line.same) for line, i in found.items() if i.email.upper() != line.same}
    if others:
        changes = AddressChange.objects.filter(issuance__in={pk for pk, _ in others})
        corrected = {(pk, old.upper()) for pk, old in changes.values_list("issuance", "old_email")}
        if others - corrected:
            raise _reused()


def _locked(issuances: QuerySet[Issuance]) -> list[Issuance]:
    """In the order in which the queue is filled; none is returned to the pool while its code is being told."""
    return list(
        issuances.select_related("voucher").select_for_update(of=("self",), no_key=True).order_by("created_at", "pk")
    )


def _issue_new(request: ListRequest, course: Course, lines: Sequence[Line]) -> list[Issuance]:
    holders = [Holder(email=line.email) for line in lines]
    made: list[Issuance] = []
    for start in range(0, len(holders), HOLDERS_AT_ONCE):
        some = holders[start : start + HOLDERS_AT_ONCE]
        made += give_or_queue(course, some, caller=request.caller, tells_code=request.tells_code)
    waiting = [issuance.pk for issuance in made if issuance.voucher is None]
    # Those of one part may have been filled together with the next.
    now = Issuance.objects.select_related("voucher").in_bulk(waiting) if waiting else {}
    return [now.get(issuance.pk, issuance) for issuance in made]


def _remember(request: ListRequest, emails: EmailList, made: Sequence[Issuance]) -> None:
    given: dict[str, Any] = {
        "owner": request.key_owner,
        "fingerprint": _fingerprint(request, emails),
        "keys": request.keys(len(made)),
        "issuances": [issuance.pk for issuance in made],
    }
    with connection.cursor() as cursor:
        cursor.execute(REMEMBER, given)


def _note_told(issuances: Collection[Issuance]) -> None:
    """As `vouchers.issuing.note_told` does for one."""
    held = [i.pk for i in issuances if i.status == Issuance.Status.ISSUED and not i.told_at]
    if held:
        Issuance.objects.filter(pk__in=held).update(told_at=Now())


def _places(course: Course, issuances: Collection[Issuance]) -> dict[int, int]:
    """The place in the queue of each of these that wait, counted from 1; without a question for each of them."""
    waiting = sorted((i.created_at, i.pk) for i in issuances if i.status == Issuance.Status.WAITING)
    if not waiting:
        return {}
    first, last = waiting[0][0], waiting[-1][0]
    queue = Issuance.objects.waiting(course)
    before = queue.filter(created_at__lt=first).count()
    there = list(queue.filter(created_at__range=(first, last)).values_list("created_at", "pk"))
    return {at_and_pk[1]: before + bisect_right(there, at_and_pk) for at_and_pk in waiting}
