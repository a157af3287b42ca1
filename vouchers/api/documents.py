"""The shapes of what the API takes and gives, for validation and for the OpenAPI schema."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from functools import cache
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from vouchers.importing.storing import Rejected
from vouchers.masking import mask_code
from vouchers.models import Voucher

# Why each status is answered, and with which codes; the contract's tables.
REFUSALS = {
    400: ("Something is missing or malformed.", ["invalid_request", "malformed_body"]),
    401: ("No credentials, or not good ones.", ["not_authenticated", "authentication_failed"]),
    403: ("Not with these credentials.", ["permission_denied"]),
    404: ("No such thing.", ["not_found"]),
    405: ("Not with this method.", ["method_not_allowed"]),
    411: ("No Content-Length.", ["length_required"]),
    413: ("Too large.", ["too_large"]),
    415: ("Not in this format.", ["unsupported_media_type"]),
    500: ("A fault of ours.", ["server_error"]),
    503: ("The database did not answer.", ["unavailable"]),
}
ALWAYS = (405, 500, 503)
OF_A_BODY = (400, 411, 413, 415)
CSV_LINES = 500


class VoucherDocument(serializers.Serializer[Any]):
    _id = serializers.CharField(help_text="The code.")
    courseId = serializers.CharField()  # noqa: N815
    used = serializers.BooleanField(help_text="Redeemed.")
    issuedTo = serializers.CharField(allow_null=True)  # noqa: N815
    usedOn = serializers.DateField(allow_null=True, help_text="Day in the shop's time zone.")  # noqa: N815
    status = serializers.ChoiceField(Voucher.SHOWN_STATUSES)
    issuedOn = serializers.DateTimeField(allow_null=True)  # noqa: N815
    expiresOn = serializers.DateField(  # noqa: N815
        allow_null=True, help_text="Last valid day in the shop's time zone."
    )


def voucher_document(voucher: Voucher, *, masked: bool = False) -> dict[str, Any]:
    """A voucher as the API shows it; needs no further query."""
    return {
        "_id": mask_code(voucher.code) if masked else voucher.code,
        "courseId": voucher.course_id,
        "used": voucher.status == Voucher.Status.REDEEMED,
        "issuedTo": voucher.issued_to or None,
        "usedOn": timezone.localdate(voucher.redeemed_at).isoformat() if voucher.redeemed_at else None,
        "status": voucher.shown_status,
        "issuedOn": voucher.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ") if voucher.issued_at else None,
        "expiresOn": voucher.expires_on.isoformat() if voucher.expires_on else None,
    }


def rejected_csv(rejected: Iterable[Rejected]) -> Iterator[str]:
    """Lines that were not stored, as a CSV that can be mended and uploaded again."""
    header = ["line", "code", "courseId", "expiresOn", "kind", "reason"]
    return csv_of(header, (astuple(line) for line in rejected))


def csv_of(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Lines of CSV, some hundred at a time, and no cell that a spreadsheet would run."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    for number, row in enumerate(rows, 1):
        writer.writerow(map(harmless_cell, row))
        if number % CSV_LINES == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def harmless_cell(value: Any) -> Any:
    """A cell that a spreadsheet shows and does not run (OWASP, CSV injection)."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


@cache  # the schema wants one component of a name, and one object behind it
def error_document(codes: tuple[str, ...]) -> serializers.Serializer[Any]:
    name = "".join(word.title() for code in codes for word in code.split("_"))
    return inline_serializer(
        f"{name}Error",
        {
            "error": serializers.CharField(help_text="A sentence a person can act on."),
            "code": serializers.ChoiceField([(code, code) for code in codes]),
            "fields": serializers.DictField(required=False, help_text="The problems of each field at fault."),
            "requestId": serializers.CharField(help_text="Also in the X-Request-ID header."),
        },
    )


def refusals(*statuses: int, **codes: list[str]) -> dict[int, OpenApiResponse]:
    """The refusals of a route by status: the common ones, and `s404=["course_not_found"]` for its own codes."""
    own = {int(status.removeprefix("s")): names for status, names in codes.items()}
    documents = {}
    for status in sorted({*statuses, *ALWAYS, *own}):
        description, common = REFUSALS.get(status, ("Refused.", []))
        names = own[status] if status in own and status not in statuses else common + own.get(status, [])
        documents[status] = OpenApiResponse(error_document(tuple(names)), description=description)
    return documents


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Makes a retry safe; 1 to 255 characters.",
)
# Routes that anybody may call, and some see more of: OpenAPI's "none, or a key".
PUBLIC: Any = [{}, {"ApiKey": []}]
