"""Taking codes from a pool for new holders: one statement, whoever asks and for however many (docs/decisions/0018).

The statements are functions of the database (migration 0008). Every process remembers for each course the place of the
code it took last, and has the next scan begin there.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import F
from django.utils import timezone

from courses.models import Course, Purchase
from vouchers.delivery.outbox import language_for, new_message_id
from vouchers.models import Issuance, Voucher

# What comes back to a pool before the place that a process remembers is passed over for so long, unless nothing else is
# left.
PLACE_SECONDS = 60.0

ISSUE_AT_ONCE = """
SELECT * FROM vouchers_issue_at_once(
    %(shared_locks)s::bigint[], %(locks)s, %(key)s, %(fingerprint)s, %(course)s, %(today)s, %(email)s, %(order)s,
    %(message)s, %(caller)s, %(language)s, %(tells_code)s, %(uploads)s, %(cutoff)s, %(day)s, %(position)s
)
"""
GIVE = """
SELECT * FROM vouchers_give(
    %(course)s, %(today)s, %(emails)s, %(orders)s, %(units)s::int[], %(messages)s, %(purchase)s, %(caller)s,
    %(language)s, %(tells_code)s, %(waits)s, %(uploads)s, %(cutoff)s, %(day)s, %(position)s
)
"""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who is to get a code, and what for: an order, or a seat of a payment, counted from 1."""

    email: str
    order_id: str = ""
    unit: int | None = None


@dataclass(frozen=True)
class Place:
    """The code of a course that was taken last: its last valid day and position, with the course as it was then."""

    uploads: int
    cutoff: dt.date
    day: dt.date
    position: int
    since: float


_places: dict[str, Place] = {}


def forget_places() -> None:
    """Has every scan begin at the start of its pool again."""
    _places.clear()


def note_upload(course: Course) -> None:
    """Has what was added to a pool be seen by all processes at once, also where it expires sooner than the rest.

    Locks the row of the course until the transaction ends, so it comes last.
    """
    Course.objects.filter(pk=course.pk).update(uploads=F("uploads") + 1)


def issue_at_once(
    *,
    course_id: str,
    email: str,
    order_id: str,
    caller: str,
    key: str,
    fingerprint: str,
    locks: Sequence[int],
    shared_locks: Sequence[int],
    tells_code: bool,
) -> Issuance | None:
    """Issues the next code, as a transaction of its own unless one is open, where nothing is unusual about the request.

    None, and nothing is written, where the same request was made before or is being made, somebody waits, the pool is
    empty, or there is no such course.
    """
    request = {"key": key, "fingerprint": fingerprint, "email": email, "order": order_id, "message": new_message_id()}
    asked = _asked(course_id, caller=caller, tells_code=tells_code, language=settings.SHOP_LANGUAGE)
    asked |= {"locks": list(locks), "shared_locks": list(shared_locks)}
    for row in _execute(ISSUE_AT_ONCE, {**asked, **request}):
        return _issuance(row, Holder(email=email, order_id=order_id), asked)
    return None


def give_codes(
    course: Course,
    holders: Sequence[Holder],
    *,
    caller: str,
    purchase: Purchase | None = None,
    tells_code: bool = False,
    waits: bool = False,
) -> list[Issuance]:
    """Gives the next codes to the first holders, as many as the pool has, and queues their emails.

    With `waits` those codes count too that other transactions hold, once these have let them go.
    """
    asked = _asked(course.pk, caller=caller, tells_code=tells_code, language=language_for(purchase))
    wanted = {
        "emails": [holder.email for holder in holders],
        "orders": [holder.order_id for holder in holders],
        "units": [holder.unit for holder in holders],
        "messages": [new_message_id() for _ in holders],
        "purchase": purchase.pk if purchase else None,
        "waits": waits,
    }
    rows = _execute(GIVE, {**asked, **wanted})
    issuances = [_issuance(row, holder, asked) for holder, row in zip(holders, rows, strict=False)]
    for issuance in issuances:
        issuance.course, issuance.purchase = course, purchase
    return issuances


def _asked(course_id: str, *, caller: str, tells_code: bool, language: str) -> dict[str, Any]:
    place = _places.get(course_id)
    if place and time.monotonic() - place.since > PLACE_SECONDS:
        place = None
    return {
        "course": course_id,
        "today": timezone.localdate(),
        "caller": caller,
        "language": language,
        "tells_code": tells_code,
        "uploads": place.uploads if place else None,
        "cutoff": place.cutoff if place else None,
        "day": place.day if place else None,
        "position": place.position if place else None,
        "since": place.since if place else None,
    }


def _execute(statement: str, asked: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows that a statement gave, once the place of the last of them is remembered."""
    with connection.cursor() as cursor:
        cursor.execute(statement, asked)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    if rows:
        uploads, cutoff, day, position = rows[-1][6:]
        goes_on = (uploads, cutoff) == (asked["uploads"], asked["cutoff"])
        since = asked["since"] if goes_on else time.monotonic()
        _places[asked["course"]] = Place(uploads, cutoff, day, position, since)
    return rows


def _issuance(row: tuple[Any, ...], holder: Holder, asked: dict[str, Any]) -> Issuance:
    """What was stored, without asking for it again; what is not named here is looked up once it is needed."""
    pk, voucher_pk, code, expires_on, issued_at, course_name, *_ = row
    course_id = asked["course"]
    told_at = issued_at if asked["tells_code"] else None
    issuance = Issuance.from_db(
        None,
        [
            *("id", "course_id", "email", "order_id", "unit", "purchase_id", "voucher_id"),
            *("status", "caller", "issued_at", "told_at"),
        ],
        [
            *(pk, course_id, holder.email, holder.order_id, holder.unit, None, voucher_pk),
            *(Issuance.Status.ISSUED, asked["caller"], issued_at, told_at),
        ],
    )
    issuance.course = Course.from_db(None, ["id", "name"], [course_id, course_name])
    issuance.voucher = Voucher.from_db(
        None,
        ["id", "code", "course_id", "status", "expires_on", "issued_to", "issued_at", "redeemed_at"],
        [voucher_pk, code, course_id, Voucher.Status.ISSUED, expires_on, holder.email, issued_at, None],
    )
    return issuance
