"""The counts of every course, in one statement and so of one moment.

They are sums of the tallies (docs/decisions/0020), and cost the same however many vouchers there are.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
from hashlib import md5
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from django.core.cache import cache
from django.db import connection
from django.db.models import F, IntegerField, OuterRef, Q, QuerySet, Subquery, Sum
from django.utils import timezone

from courses.models import Course
from vouchers.models import Issuance, Voucher
from vouchers.models.voucher import course_cutoff_in_sql

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations


class Counts(TypedDict):
    """What is counted of a course; `total = issued + remaining` always."""

    total: int
    issued: int
    remaining: int
    redeemed: int
    waiting: int
    expired: int
    revoked: int


class CourseCounts(Counts):
    """A row of the summary."""

    courseId: str
    name: str


COLUMNS = ("courseId", "total", "issued", "remaining", "name", "redeemed", "waiting", "expired", "revoked")
# Two statements whose snapshots have the same name see the same rows; of one server, as long as it runs.
MOMENT = "concat_ws(' ', pg_postmaster_start_time(), pg_current_snapshot())"
KEPT = "summary"

if TYPE_CHECKING:
    CountedCourse = WithAnnotations[Course, Counts]  # a course as `with_counts` gives it


class NumberOf(Subquery):
    """How many rows there are for each row outside. Here those of queues, which an index holds by course: the cost
    grows with the buyers that wait, and not with those who ever did."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS found)"
    output_field = IntegerField()


def with_counts(courses: QuerySet[Course], today: dt.date | None = None) -> QuerySet[CountedCourse]:
    """Annotates courses with what the summary says of them on a day, by default today.

    `issued` has left the pool to a holder (redeemed or since revoked ones too), `remaining` can be issued now.
    What was withdrawn before anyone held it is in neither. `redeemed`, `expired` and `revoked` count vouchers
    by the status a list of them shows.
    """
    today = today or timezone.localdate()
    past = Q(tallies__status__in=Voucher.OPEN, tallies__valid_until__lt=today)
    remaining = Q(tallies__status=Voucher.Status.AVAILABLE, tallies__valid_until__gte=course_cutoff_in_sql(today))
    queue = Issuance.objects.filter(course=OuterRef("id"), status=Issuance.Status.WAITING)
    return courses.annotate(
        issued=Sum("tallies__number", filter=Q(tallies__was_issued=True), default=0),
        remaining=Sum("tallies__number", filter=remaining, default=0),
        redeemed=Sum("tallies__number", filter=Q(tallies__status=Voucher.Status.REDEEMED), default=0),
        expired=Sum("tallies__number", filter=past, default=0),
        revoked=Sum("tallies__number", filter=Q(tallies__status=Voucher.Status.REVOKED), default=0),
        waiting=NumberOf(queue.order_by().values("id")),
        total=F("issued") + F("remaining"),
    )


class Answer(NamedTuple):
    """The summary as JSON, its digest, and of what moment it is."""

    moment: str
    text: str
    digest: str


def answer() -> Answer:
    """A row for each course, in the order of their ids: the last answer where nothing was committed since.

    A transaction sees changes of its own, which no moment tells, and so it asks anew.
    """
    if connection.in_atomic_block:
        return count()
    kept: Answer | None = cache.get(KEPT)
    if kept is None or kept.moment != _now():
        kept = count()
        cache.set(KEPT, kept, timeout=None)
    return kept


def count() -> Answer:
    """Asks anew. PostgreSQL writes the JSON, in a third of the time."""
    today = timezone.localdate()
    with connection.cursor() as cursor:
        cursor.execute(*_statement(today))
        moment, text = cursor.fetchone()
    return Answer(f"{today} {moment}", text, md5(text.encode(), usedforsecurity=False).hexdigest())


def summary() -> list[CourseCounts]:
    """The same rows, read."""
    rows: list[CourseCounts] = json.loads(answer().text)
    return rows


def _now() -> str:
    today = timezone.localdate()
    with connection.cursor() as cursor:
        cursor.execute(f"/* desk: moment of the summary */ SELECT {MOMENT}")
        return f"{today} {cursor.fetchone()[0]}"


@functools.lru_cache(maxsize=1)
def _statement(today: dt.date) -> tuple[str, tuple[Any, ...]]:
    """What is asked on a day: to have Django work that out for each poll would cost more than the answer."""
    courses = with_counts(Course.objects.order_by("id"), today).annotate(courseId=F("id"))
    rows, parameters = courses.values(*COLUMNS).query.sql_with_params()
    # Without the line breaks that json_agg puts between rows.
    document = "'[' || coalesce(string_agg(row_to_json(counted)::text, ','), '') || ']'"
    statement = f"SELECT {MOMENT}, {document} FROM ({rows}) AS counted"  # noqa: S608
    return f"/* desk: summary */ {statement}", parameters
