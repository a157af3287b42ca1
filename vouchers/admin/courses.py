"""The courses, whose list is the summary. Here and not in `courses`, which does not know of vouchers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Count, F, Func, IntegerField, JSONField, Min, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from courses.models import Course, Purchase
from vouchers.admin.base import DeskAdmin, add_to, link, list_of, minute
from vouchers.admin.deliveries import ALL, LATE, late_emails
from vouchers.admin.live import live_page
from vouchers.models import Batch, Checkup, Delivery, Issuance, Voucher
from vouchers.summary import Counts, with_counts

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    from vouchers.summary import CountedCourse


class Watched(Counts):
    """What the list shows of a course: the summary, and how many emails did not arrive."""

    undelivered: int


if TYPE_CHECKING:
    WatchedCourse = WithAnnotations[Course, Watched]

LOW_STOCK = 20  # percent of all codes that are or were good
# Deleting is refused by the database; asking which rows are in the way would list a whole pool.
IN_USE = ("batches", "issuances", "purchases")
# Undelivered emails that are counted: at 13 µs each, by course for the list, and for the sentence above it.
MOST = 5000
MANY = 500


class ByCourse(Subquery):
    """How many rows of a queryset each course has, as one JSON object: read once, for all rows of another. The queryset
    has one column, `of_course`."""

    template = (
        "(SELECT jsonb_object_agg(counted.of_course, counted.number) FROM ("
        "SELECT found.of_course, count(*) AS number FROM (%(subquery)s) AS found GROUP BY 1) AS counted)"
    )
    output_field = JSONField()

    def get_group_by_cols(self) -> list[Any]:
        """None: grouped by it, it would be worked out for every row that is counted of a course."""
        return []


class NumberOf(Func):
    """The number of a key in such an object; 0 where it has none."""

    template = "coalesce((%(expressions)s)::int, 0)"
    arg_joiner = " ->> "
    output_field = IntegerField()

    def get_group_by_cols(self) -> list[Any]:
        return [column for part in self.get_source_expressions() for column in part.get_group_by_cols()]


class Summary(ChangeList):
    """The list in one statement: to count the courses first would add up all their vouchers once more."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        # Here and not in the admin's own: the page of one course shows no counts.
        self.root_queryset = with_undelivered(with_counts(self.model_admin.get_queryset(request)))
        return super().get_queryset(request, exclude_parameters)

    def get_results(self, request: HttpRequest) -> None:
        courses = list(self.queryset)
        self.paginator = Paginator(courses, self.list_per_page)
        self.result_list = cast(Any, self.paginator.get_page(self.page_num).object_list)
        self.result_count = len(courses)
        self.multi_page = self.paginator.num_pages > 1
        self.can_show_all = False
        self.show_full_result_count = False
        self.full_result_count = None
        self.show_admin_actions = True


@admin.register(Course)
class CourseAdmin(DeskAdmin[Course]):
    list_display = ["id", "name", "total", "issued", "stock", "redeemed", "queue", "trouble", "on_sale"]
    search_fields = ["id", "name"]
    ordering = ["id"]
    actions = ["upload_codes"]
    fieldsets = [
        (None, {"fields": ["id", "name", "description"]}),
        ("In the shop", {"fields": ["price", "currency", "on_sale", "stop_when_empty", "offer_refund_days"]}),
        ("Its vouchers", {"fields": ["redemption", "reveal", "minimum_validity_days"]}),
        ("Emails", {"fields": ["remind_after_days", "warn_before_days"]}),
    ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Summary

    def get_list_display(self, request: HttpRequest) -> list[str | Callable[[Any], str | bool]]:
        return [*self.list_display, doors_for(request)]

    def get_readonly_fields(self, request: HttpRequest, obj: Course | None = None) -> list[str]:
        return ["id"] if obj else []

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: Course | None = None) -> bool:
        allowed = super().has_delete_permission(request, obj)
        return allowed and (obj is None or not any(getattr(obj, rows).exists() for rows in IN_USE))

    def has_upload_permission(self, request: HttpRequest) -> bool:
        return may_upload(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        page = super().changelist_view(request, {"to_do": to_do(request)} | (extra_context or {}))
        return live_page(request, page, "admin/courses/course/results.html")

    def beside(self, request: HttpRequest, row: Course) -> dict[str, Any]:
        return {"doors": doors(request, row.pk)}

    @admin.action(description="Upload codes…", permissions=["upload"])
    def upload_codes(self, request: HttpRequest, queryset: QuerySet[Course]) -> HttpResponse | None:
        try:
            course = queryset.get()
        except Course.MultipleObjectsReturned:
            messages.error(request, "Choose one course: an upload is for one.")
            return None
        return redirect(add_to(Batch, course=course.pk))

    @admin.display(ordering="total")
    def total(self, course: WatchedCourse) -> int:
        return course.total

    @admin.display(ordering="issued")
    def issued(self, course: WatchedCourse) -> int:
        return course.issued

    @admin.display(description="remaining", ordering="remaining")
    def stock(self, course: WatchedCourse) -> SafeString:
        return stock_bar(course.remaining, course.total)

    @admin.display(ordering="redeemed")
    def redeemed(self, course: WatchedCourse) -> int:
        return course.redeemed

    @admin.display(description="waiting", ordering="waiting")
    def queue(self, course: WatchedCourse) -> SafeString | int:
        if not course.waiting:
            return 0
        queue = list_of(Issuance, course__id__exact=course.pk, status__exact=Issuance.Status.WAITING)
        return format_html('<a class="desk-badge desk-waiting" href="{}">{}</a>', queue, course.waiting)

    @admin.display(description="undelivered", ordering="undelivered")
    def trouble(self, course: WatchedCourse) -> SafeString | int:
        if not course.undelivered:
            return 0
        lost = list_of(Delivery, trouble=course.pk)
        return format_html('<a class="desk-badge desk-failed" href="{}">{}</a>', lost, course.undelivered)


def with_undelivered(courses: QuerySet[CountedCourse]) -> QuerySet[WatchedCourse]:
    """Annotates courses with the number of emails that their buyers did not get and still need, of the newest 5,000.

    Those emails are looked for once, for all courses: a count for each course would go through the index of all
    trouble as often as there are courses. And the course is looked up for each of them: joined, all issuances are read.
    """
    issuances = Issuance.objects.filter(pk=OuterRef("issuance")).order_by().values("course")
    purchases = Purchase.objects.filter(pk=OuterRef("purchase")).order_by().values("course")
    undelivered = Delivery.objects.undelivered().order_by("-pk")[:MOST]
    of_courses = undelivered.values(of_course=Coalesce(Subquery(issuances), Subquery(purchases)))
    return courses.annotate(undelivered=NumberOf(ByCourse(of_courses), F("id")))


def stock_bar(remaining: int, total: int) -> SafeString:
    percent = 100 * remaining / total if total else 0
    level = "empty" if remaining == 0 else "low" if percent < LOW_STOCK else "good"
    return format_html(
        '<span class="desk-stock desk-{}"><span class="desk-number">{}</span>'
        '<svg role="img" aria-label="{} of {} remaining" viewBox="0 0 100 8" preserveAspectRatio="none">'
        '<rect class="desk-track" width="100" height="8"/><rect class="desk-left" width="{}" height="8"/>'
        "</svg></span>",
        level,
        remaining,
        remaining,
        total,
        f"{percent:.1f}",
    )


def to_do(request: HttpRequest) -> list[tuple[str, str]]:
    """What waits for a person, of what they may see: a sentence, and the page about it."""
    every = [
        ("courses.view_purchase", _payments_to_do),
        ("vouchers.view_delivery", _emails_to_do),
        ("vouchers.view_checkup", _books_to_do),
    ]
    return [todo for permission, find in every if request.user.has_perm(permission) for todo in find()]


def _payments_to_do() -> Iterator[tuple[str, str]]:
    reviews = Purchase.objects.for_review().count()
    if reviews:
        yield f"{reviews} payment{pluralize(reviews)} to be reviewed", list_of(Purchase, state="review")
    too_long = Issuance.objects.waiting_too_long().values("purchase").distinct().count()
    if too_long:
        yield f"{too_long} buyer{pluralize(too_long)} waiting too long", list_of(Purchase, state="refund")


def _emails_to_do() -> Iterator[tuple[str, str]]:
    lost = Delivery.objects.undelivered().order_by()[: MANY + 1].count()
    if lost:
        number = str(lost) if lost <= MANY else f"More than {MANY}"
        yield f"{number} email{pluralize(lost)} could not be delivered", list_of(Delivery, trouble=ALL)
    late = late_emails().aggregate(number=Count("pk"), since=Min("created_at"))
    if number := late["number"]:
        waits = f"{number} email{pluralize(number)} waiting for the mail server since {minute(late['since'])}"
        yield waits, list_of(Delivery, state=LATE)


def _books_to_do() -> Iterator[tuple[str, str]]:
    last = Checkup.objects.filter(finished_at__isnull=False).first()
    breaks = sum(finding["count"] for finding in last.findings) if last else 0
    if breaks:
        yield f"{breaks} break{pluralize(breaks)} in the books", reverse("admin:doctor")


def may_upload(request: HttpRequest) -> bool:
    return request.user.has_perm("vouchers.add_batch")


def doors(request: HttpRequest, course_id: str) -> list[tuple[str, str]]:
    """Where this person may go from a course: address and name of each page."""
    every = [
        ("vouchers.add_batch", add_to(Batch, course=course_id), "Upload"),
        ("vouchers.issue_voucher", add_to(Issuance, course=course_id), "Issue"),
        ("vouchers.view_voucher", list_of(Voucher, course__id__exact=course_id), "Vouchers"),
    ]
    return [(address, name) for permission, address, name in every if request.user.has_perm(permission)]


def doors_for(request: HttpRequest) -> Callable[[Course], SafeString]:
    @admin.display(description="go to")
    def go_to(course: Course) -> SafeString:
        links = [(link(address, name),) for address, name in doors(request, course.pk)]
        return format_html('<span class="desk-doors">{}</span>', format_html_join(" ", "{}", links))

    return go_to
