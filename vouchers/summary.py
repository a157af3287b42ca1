"""The counts of every course, in one statement and so of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, F, Func, IntegerField, Q, QuerySet
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


if TYPE_CHECKING:
    CountedCourse = WithAnnotations[Course, Counts]  # a course as `with_counts` gives it


class Occurrences(Func):
    """How often a value stands in an array. With an array of one subquery that is read once, for all rows."""

    template = "cardinality(array_positions(%(expressions)s))"
    output_field = IntegerField()

    def get_group_by_cols(self) -> list[Any]:
        """Those of its parts: grouped by itself, it would be worked out for every voucher of a course."""
        return [column for part in self.get_source_expressions() for column in part.get_group_by_cols()]


def with_counts(courses: QuerySet[Course]) -> QuerySet[CountedCourse]:
    """Annotates courses with what the summary says of them.

    `issued` has left the pool to a holder (redeemed or since revoked ones too), `remaining` can be issued now.
    What was withdrawn before anyone held it is in neither. `redeemed`, `expired` and `revoked` count vouchers
    by the status a list of them shows.
    """
    today = timezone.localdate()
    past = Q(vouchers__status__in=Voucher.OPEN, vouchers__valid_until__lt=today)
    remaining = Q(vouchers__status=Voucher.Status.AVAILABLE, vouchers__valid_until__gte=course_cutoff_in_sql(today))
    queues = ArraySubquery(Issuance.objects.filter(status=Issuance.Status.WAITING).order_by().values("course"))
    return courses.annotate(
        issued=Count("vouchers", filter=Q(vouchers__issued_at__isnull=False)),
        remaining=Count("vouchers", filter=remaining),
        redeemed=Count("vouchers", filter=Q(vouchers__status=Voucher.Status.REDEEMED)),
        expired=Count("vouchers", filter=past),
        revoked=Count("vouchers", filter=Q(vouchers__status=Voucher.Status.REVOKED)),
        waiting=Occurrences(queues, F("id")),
        total=F("issued") + F("remaining"),
    )


def summary() -> list[CourseCounts]:
    """A row for each course, in the order of their ids."""
    return [
        CourseCounts(
            courseId=course.pk,
            total=course.total,
            issued=course.issued,
            remaining=course.remaining,
            name=course.name,
            redeemed=course.redeemed,
            waiting=course.waiting,
            expired=course.expired,
            revoked=course.revoked,
        )
        for course in with_counts(Course.objects.order_by("id"))
    ]
