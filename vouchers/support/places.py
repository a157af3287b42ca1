"""The place in the queue, worked out in the statement that reads the issuances."""

from __future__ import annotations

from django.db.models import Case, Count, IntegerField, OuterRef, Q, QuerySet, Subquery, When

from vouchers.models import Issuance


def with_place(issuances: QuerySet[Issuance]) -> QuerySet[Issuance]:
    """Gives each issuance its `place`: that of `Issuance.position`, from 1, and None for whatever is not in a queue."""
    before = Q(created_at__lt=OuterRef("created_at")) | Q(created_at=OuterRef("created_at"), pk__lte=OuterRef("pk"))
    # The queue of its course, spelt for a subquery: `IssuanceQuerySet.waiting` wants to know the course.
    queue = Issuance.objects.filter(before, course=OuterRef("course"), status=Issuance.Status.WAITING, held_since=None)
    number = queue.order_by().values("course").annotate(number=Count("pk")).values("number")
    return issuances.annotate(
        place=Case(
            When(status=Issuance.Status.WAITING, held_since=None, then=Subquery(number)),
            default=None,
            output_field=IntegerField(),
        )
    )


def place_of(issuance: Issuance) -> int | None:
    """The place of an issuance that was read by `with_place`."""
    place: int | None = getattr(issuance, "place", None)
    return place
