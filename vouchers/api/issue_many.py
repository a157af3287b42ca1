"""POST /api/admin/vouchers/issue"""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from vouchers.api.base import DeskView, caller_of, validated
from vouchers.api.documents import OF_A_BODY, VoucherDocument, refusals, voucher_document
from vouchers.api.issue import sees_codes
from vouchers.bulk_issuing import BATCH_KEY_MAX, LINES_AT_MOST, LineResult, ListRequest, issue_to_list
from vouchers.models import ApiKey

COUNTED = ["issued", "found", "waiting", "closed", "invalid"]


@extend_schema_field({"type": "array", "items": {}, "minItems": 1, "maxItems": LINES_AT_MOST})
class Emails(serializers.ListField):
    """Of any kind: a line that is no email is answered as such and does not hinder the others."""


class IssueManyBody(serializers.Serializer[Any]):
    courseId = serializers.CharField(max_length=64, trim_whitespace=False)  # noqa: N815
    emails = Emails(
        min_length=1,
        max_length=LINES_AT_MOST,
        help_text=f"Up to {LINES_AT_MOST:,}. One that is no email address is `invalid` and does not hinder the others.",
    )
    batchKey = serializers.CharField(  # noqa: N815
        max_length=BATCH_KEY_MAX,
        required=False,
        allow_null=True,
        trim_whitespace=False,
        validators=[RegexValidator(r"\A[ -~]*\Z", "Use printable ASCII characters.")],
        help_text="Of your choice, unique among your own: the same list again under it leads to the same vouchers, "
        "whatever became of them since.",
    )


class LineDocument(serializers.Serializer[Any]):
    line = serializers.IntegerField(help_text="Counted from 1.")
    email = serializers.CharField(help_text="Trimmed.")
    status = serializers.ChoiceField([(status, status) for status in ("issued", "waiting", "closed", "invalid")])
    created = serializers.BooleanField(help_text="Whether it was done for this line, rather than before.")
    voucher = VoucherDocument(required=False, help_text="Where `issued`.")
    position = serializers.IntegerField(
        required=False, help_text="Where `waiting`: place in the queue of the course, from 1."
    )
    error = serializers.CharField(required=False, help_text="Where `invalid` or `closed`: what is wrong.")


class IssuedMany(serializers.Serializer[Any]):
    courseId = serializers.CharField()  # noqa: N815
    issued = serializers.IntegerField(help_text="Lines for which a code was taken from the pool now.")
    found = serializers.IntegerField(help_text="Lines whose voucher was issued before, or for an earlier line.")
    waiting = serializers.IntegerField(help_text="Lines that wait for a code, since now or before.")
    closed = serializers.IntegerField(help_text="Lines whose voucher was refunded or returned since.")
    invalid = serializers.IntegerField(help_text="Lines that are no email address.")
    results = LineDocument(many=True, help_text="One for each line, in their order.")


class IssueVouchers(DeskView):
    scope = ApiKey.Scope.ISSUE
    staff_permission = "vouchers.issue_voucher"
    max_bytes = 16 * 1024 * 1024  # the most and longest emails, also with every sign escaped

    @extend_schema(
        tags=["Vouchers"],
        summary="Issue vouchers to a list of emails",
        description=(
            "All of it happens, or nothing. What the pool cannot give waits in the queue, in the order of the list. "
            "An email that stands in the list twice is one request. Without `batchKey`, an email that waits or still "
            "holds a valid unredeemed voucher of the course is not given another one. "
            "Staff without the permission to see whole codes are answered with masked ones."
        ),
        request=IssueManyBody,
        responses={200: OpenApiResponse(IssuedMany, description="What became of each line.")}
        | refusals(
            *OF_A_BODY,
            401,
            403,
            s404=["course_not_found"],
            s409=["request_in_progress"],
            s422=["idempotency_key_reused"],
        ),
    )
    def post(self, request: Request) -> Response:
        body = validated(IssueManyBody, request.data)
        results = issue_to_list(
            ListRequest(
                course_id=body["courseId"],
                emails=body["emails"],
                caller=caller_of(request),
                batch_key=body.get("batchKey") or "",
                tells_code=sees_codes(request),
            )
        )
        return answer(body["courseId"], results, tells_code=sees_codes(request))


def answer(course_id: str, results: list[LineResult], *, tells_code: bool) -> Response:
    counts = Counter(result.counted_as for result in results)
    lines = [line_document(result, tells_code=tells_code) for result in results]
    return Response({"courseId": course_id} | {name: counts[name] for name in COUNTED} | {"results": lines})


def line_document(result: LineResult, *, tells_code: bool) -> dict[str, Any]:
    head = {
        "line": result.line.number,
        "email": result.line.email,
        "status": result.status,
        "created": result.created,
    }
    if result.problem:
        return head | {"error": result.problem}
    if result.voucher:
        return head | {"voucher": voucher_document(result.voucher, masked=not tells_code)}
    return head | {"position": result.position}
