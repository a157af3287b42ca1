"""POST /api/admin/vouchers/upload"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from vouchers.api.base import DeskJSONParser, DeskView, actor_of, content_length, validated
from vouchers.api.documents import OF_A_BODY, refusals
from vouchers.errors import InvalidRequest, NothingOffered, TooLarge
from vouchers.importing.reading import Line, opened, read_file, read_list, sha256_of
from vouchers.importing.storing import Report, Upload, import_codes
from vouchers.issuing import find_course
from vouchers.models import ApiKey, Batch, RejectedLine


class UploadBody(serializers.Serializer[Any]):
    courseId = serializers.CharField(max_length=64, trim_whitespace=False)  # noqa: N815
    expiresOn = serializers.DateField(required=False, allow_null=True)  # noqa: N815


class UploadJSON(UploadBody):
    vouchers = serializers.ListField(child=serializers.CharField(allow_blank=True), help_text="The codes.")


class UploadForm(UploadBody):
    file = serializers.FileField(help_text="Text, CSV, TSV, XLSX or JSON; told by its content.")


class UploadCounts(serializers.Serializer[Any]):
    batchId = serializers.IntegerField()  # noqa: N815
    read = serializers.IntegerField(help_text="inserted + duplicates + invalid, all of them counted.")
    inserted = serializers.IntegerField()
    duplicates = serializers.ListField(
        child=serializers.DictField(), help_text="The first 1,000: line, code, where it already is."
    )
    invalid = serializers.ListField(child=serializers.DictField(), help_text="The first 1,000: line, code, reason.")


class Uploaded(UploadCounts):
    message = serializers.CharField()


class UploadedWithSkips(UploadCounts):
    error = serializers.CharField()
    code = serializers.ChoiceField(["duplicates_skipped", "invalid_codes_skipped"])
    requestId = serializers.CharField()  # noqa: N815


class UploadVouchers(DeskView):
    scope = ApiKey.Scope.MANAGE
    staff_permission = "vouchers.add_batch"
    parser_classes = [DeskJSONParser, MultiPartParser]
    max_bytes = settings.UPLOAD_MAX_BYTES

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        is_json = request.content_type.lower().startswith("application/json")
        if is_json and content_length(request) > settings.JSON_UPLOAD_MAX_BYTES:
            raise TooLarge(
                f"A JSON list may have {settings.JSON_UPLOAD_MAX_BYTES:,} bytes. Upload a file instead: "
                f"it may have {settings.UPLOAD_MAX_BYTES:,}."
            )
        super().initial(request, *args, **kwargs)

    @extend_schema(
        tags=["Vouchers"],
        summary="Upload codes into a course's pool",
        description="Duplicates and malformed codes are skipped and named; everything else is stored.",
        request={"application/json": UploadJSON, "multipart/form-data": UploadForm},
        responses={
            200: OpenApiResponse(Uploaded, description="Every code offered is now in the pool."),
            409: OpenApiResponse(UploadedWithSkips, description="Some codes already exist; the rest was stored."),
        }
        | refusals(
            *OF_A_BODY,
            401,
            403,
            s400=["missing_course_or_vouchers", "unreadable_file"],
            s404=["course_not_found"],
        )
        | {422: OpenApiResponse(UploadedWithSkips, description="No duplicates, but some codes are malformed.")},
    )
    def post(self, request: Request) -> Response:
        lines = offered(request)
        body = validated(UploadBody, request.data)
        file = request.FILES.get("file")
        report = import_codes(
            Upload(
                course=find_course(body["courseId"]),
                actor=actor_of(request),
                source=Batch.Source.API,
                expires_on=body.get("expiresOn"),
                file_name=(file.name or "") if file else "",
                sha256=sha256_of(opened(file)) if file else "",
            ),
            lines,
        )
        return answer(report, request.META["REQUEST_ID"])


def offered(request: Request) -> Iterable[Line]:
    """The codes of a request. Raises `NothingOffered`, or `InvalidRequest` for a list with more than strings in it."""
    data = request.data
    file = request.FILES.get("file")
    codes = data.get("vouchers") if hasattr(data, "get") else None
    if not hasattr(data, "get") or not data.get("courseId") or (file is None and not isinstance(codes, list)):
        raise NothingOffered
    if len(request.FILES.getlist("file")) > 1 or (file is not None and codes is not None):
        fault = "Send one file, or one list of vouchers. Nothing was stored."
        raise InvalidRequest(fault, fields={"file": [fault]})
    if file is not None:
        return read_file(opened(file), file.name or "")
    return read_list(only_strings(cast("list[object]", codes)))


def only_strings(codes: list[object]) -> list[str]:
    for at, code in enumerate(codes):
        if not isinstance(code, str):
            fault = f"vouchers[{at}] is {type(code).__name__}, not a string. Nothing was stored."
            raise InvalidRequest(fault, fields={"vouchers": [fault]})
    return cast("list[str]", codes)


def answer(report: Report, request_id: str) -> Response:
    batch = cast(Batch, report.batch)
    duplicates = [
        {"line": rejected.line, "code": rejected.code, "where": rejected.reason}
        for rejected in report.of_kind(RejectedLine.Kind.DUPLICATE)
    ]
    invalid = [
        {"line": rejected.line, "code": rejected.code, "reason": rejected.reason}
        for rejected in report.of_kind(RejectedLine.Kind.INVALID)
    ]
    result = {
        "batchId": batch.pk,
        "read": report.read,
        "inserted": report.inserted,
        "duplicates": duplicates,
        "invalid": invalid,
    }
    if duplicates:
        skipped = {"error": "Some vouchers already exist (duplicates skipped)", "code": "duplicates_skipped"}
        return Response({**skipped, "requestId": request_id, **result}, status=409)
    if invalid:
        skipped = {"error": "Some codes are malformed (skipped)", "code": "invalid_codes_skipped"}
        return Response({**skipped, "requestId": request_id, **result}, status=422)
    return Response({"message": "Vouchers uploaded successfully", **result})
