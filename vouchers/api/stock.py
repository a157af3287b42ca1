"""What is in the pools: GET /admin/vouchers-summary and GET /admin/vouchers/:course"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.http import conditional_page
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from courses.models import Course
from vouchers.api.base import DeskView, validated
from vouchers.api.documents import VoucherDocument, refusals, voucher_document
from vouchers.api.exporting import voucher_csv
from vouchers.issuing import find_course
from vouchers.models import ApiKey, Voucher
from vouchers.models.voucher import VoucherQuerySet
from vouchers.summary import summary

PAGE = 100
PAGE_MAX = 1000
SAW_CODES = "Saw whole codes, by the list of vouchers."


class CourseCountsDocument(serializers.Serializer[Any]):
    courseId = serializers.CharField()  # noqa: N815
    total = serializers.IntegerField(help_text="issued + remaining")
    issued = serializers.IntegerField(help_text="Has left the pool to a holder, redeemed included.")
    remaining = serializers.IntegerField(help_text="Can be issued now.")
    name = serializers.CharField()
    redeemed = serializers.IntegerField()
    waiting = serializers.IntegerField(help_text="Buyers in the queue.")
    expired = serializers.IntegerField(help_text="Unredeemed vouchers past their last day.")
    revoked = serializers.IntegerField()


@method_decorator(conditional_page, name="dispatch")
class VouchersSummary(DeskView):
    cache_control = "private, no-cache"
    scope = ApiKey.Scope.MANAGE
    staff_permission = "vouchers.view_voucher"

    @extend_schema(
        tags=["Vouchers"],
        summary="Count the vouchers of every course",
        parameters=[OpenApiParameter("If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER)],
        responses={
            200: CourseCountsDocument(many=True),
            304: OpenApiResponse(description="Nothing has changed."),
        }
        | refusals(401, 403),
    )
    def get(self, request: Request) -> Response:
        return Response(summary())


class ListQuery(serializers.Serializer[Any]):
    status = serializers.ChoiceField(Voucher.SHOWN_STATUSES, required=False)
    email = serializers.CharField(max_length=254, required=False, help_text="Of the holder.")
    batch = serializers.IntegerField(min_value=1, max_value=2**63 - 1, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=PAGE_MAX, default=PAGE)
    cursor = serializers.IntegerField(
        min_value=0, max_value=2**63 - 1, default=0, help_text="From the Link header of the page before."
    )
    format = serializers.ChoiceField([("json", "json"), ("csv", "csv")], default="json")


class CourseVouchers(DeskView):
    scope = ApiKey.Scope.MANAGE
    staff_permission = "vouchers.view_voucher"

    @extend_schema(
        tags=["Vouchers"],
        summary="List the vouchers of a course",
        description=(
            'Pages follow by the `Link` header (`rel="next"`); `format=csv` streams all of them. '
            "Staff without the permission to see whole codes get masked ones."
        ),
        parameters=[ListQuery],
        responses={
            (200, "application/json"): VoucherDocument(many=True),
            (200, "text/csv"): OpenApiTypes.STR,
        }
        | refusals(400, 401, 403, s404=["course_not_found"]),
    )
    def get(self, request: Request, course_id: str) -> Response | StreamingHttpResponse:
        course = find_course(course_id)
        query = validated(ListQuery, request.query_params)
        vouchers = chosen(Voucher.objects.filter(course=course).order_by("id"), query)
        masked = not sees_codes(request, course)
        if query["format"] == "csv":
            return StreamingHttpResponse(
                voucher_csv(course, vouchers, masked=masked),
                content_type="text/csv; charset=utf-8",
                headers={
                    "Content-Disposition": f'attachment; filename="{course.pk}.csv"',
                    "Cache-Control": "no-store",
                },
            )
        page = list(vouchers.filter(pk__gt=query["cursor"])[: query["limit"] + 1])
        return Response(
            [voucher_document(voucher, masked=masked) for voucher in page[: query["limit"]]],
            headers=next_page(request, page, query["limit"]),
        )


def sees_codes(request: Request, course: Course) -> bool:
    """Whether whoever asks may see whole codes; that staff do is written down first."""
    if isinstance(request.auth, ApiKey):
        return True
    if not request.user.has_perm("vouchers.reveal_voucher"):
        return False
    LogEntry.objects.log_actions(str(request.user.pk), [course], CHANGE, SAW_CODES, single_object=True)
    return True


def chosen(vouchers: VoucherQuerySet, query: dict[str, Any]) -> VoucherQuerySet:
    if "status" in query:
        vouchers = vouchers.shown_as(query["status"])
    if "email" in query:
        vouchers = vouchers.held_by(query["email"])
    if "batch" in query:
        vouchers = vouchers.filter(batch=query["batch"])
    return vouchers


def next_page(request: Request, page: list[Voucher], limit: int) -> dict[str, str]:
    """The header that leads to the page after this one, where there is one."""
    if len(page) <= limit:
        return {}
    query = {**request.query_params.dict(), "cursor": str(page[limit - 1].pk)}
    return {"Link": f'<{request.build_absolute_uri(request.path)}?{urlencode(query)}>; rel="next"'}
