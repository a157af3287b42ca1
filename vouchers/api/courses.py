"""GET /api/courses and GET /api/courses/:course"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from courses.models import Course
from vouchers.api.base import DeskView, may_call
from vouchers.api.documents import PUBLIC, refusals
from vouchers.issuing import find_course
from vouchers.models import ApiKey
from vouchers.summary import with_counts


class CourseDocument(serializers.Serializer[Any]):
    _id = serializers.CharField()
    name = serializers.CharField()
    price = serializers.DecimalField(
        max_digits=12,
        decimal_places=2,
        allow_null=True,
        help_text="In major units; null where any amount will do.",
    )
    currency = serializers.CharField(help_text="ISO 4217, in lower case.")
    onSale = serializers.BooleanField()  # noqa: N815
    totalVouchers = serializers.IntegerField(  # noqa: N815
        required=False, help_text="For staff and scope manage only."
    )


class CourseView(DeskView):
    cache_control = "private, no-cache"
    scope = ApiKey.Scope.MANAGE
    staff_permission = "vouchers.view_voucher"
    anonymous = True
    permission_classes = []

    def sees_stock(self, request: Request) -> bool:
        return may_call(request, self.scope, self.staff_permission)


class Courses(CourseView):
    @extend_schema(
        tags=["Courses"],
        summary="List the courses",
        auth=PUBLIC,
        responses={200: CourseDocument(many=True)} | refusals(s401=["authentication_failed"]),
    )
    def get(self, request: Request) -> Response:
        courses = Course.objects.order_by("id")
        if self.sees_stock(request):
            return Response([course_document(course) for course in with_counts(courses)])
        return Response([course_document(course) for course in courses])


class CourseDetail(CourseView):
    @extend_schema(
        tags=["Courses"],
        summary="Show a course",
        auth=PUBLIC,
        responses={200: CourseDocument} | refusals(s401=["authentication_failed"], s404=["course_not_found"]),
    )
    def get(self, request: Request, course_id: str) -> Response:
        course = find_course(course_id)
        if self.sees_stock(request):
            course = with_counts(Course.objects.filter(pk=course.pk)).get()
        return Response(course_document(course))


def course_document(course: Course) -> dict[str, Any]:
    """A course as the API shows it; with its stock where the caller may see that, and so it was counted."""
    document = {
        "_id": course.pk,
        "name": course.name,
        "price": None if course.price is None else str(course.price),
        "currency": course.currency,
        "onSale": course.on_sale,
    }
    total = getattr(course, "total", None)
    return document if total is None else document | {"totalVouchers": total}
