"""POST /issue-voucher"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from vouchers.api.base import DeskView, caller_of, idempotency_key_of, validated
from vouchers.api.documents import IDEMPOTENCY_KEY, OF_A_BODY, VoucherDocument, refusals, voucher_document
from vouchers.issuing import IssueRequest, IssueResult, issue_voucher, note_told
from vouchers.models import ApiKey, Issuance, Voucher


class IssueBody(serializers.Serializer[Any]):
    courseId = serializers.CharField(max_length=64, trim_whitespace=False)  # noqa: N815
    email = serializers.EmailField(max_length=254)
    orderId = serializers.CharField(max_length=255, required=False, allow_null=True)  # noqa: N815


Issued = inline_serializer(
    "Issued",
    {
        "status": serializers.ChoiceField([("issued", "issued")]),
        "message": serializers.CharField(),
        "voucher": VoucherDocument(),
    },
)
Waiting = inline_serializer(
    "Waiting",
    {
        "status": serializers.ChoiceField([("waiting", "waiting")]),
        "message": serializers.CharField(),
        "position": serializers.IntegerField(help_text="Place in the queue of the course, from 1."),
    },
)


class IssueVoucher(DeskView):
    scope = ApiKey.Scope.ISSUE
    staff_permission = "vouchers.issue_voucher"

    @extend_schema(
        tags=["Vouchers"],
        summary="Issue a voucher to a buyer",
        description=(
            "Takes an unused code from the course's pool, binds it to the email and sends it there. "
            "Staff without the permission to see whole codes are answered with a masked one."
        ),
        parameters=[IDEMPOTENCY_KEY],
        request=IssueBody,
        responses={
            201: OpenApiResponse(Issued, description="A code was taken from the pool and its email is on its way."),
            200: OpenApiResponse(Issued, description="The same request did it before."),
            202: OpenApiResponse(Waiting, description="The pool is empty; the buyer is queued."),
        }
        | refusals(
            *OF_A_BODY,
            401,
            403,
            s404=["course_not_found"],
            s409=["request_in_progress", "issuance_closed", "payment_pending", "payment_in_review"],
            s422=["idempotency_key_reused"],
        ),
    )
    def post(self, request: Request) -> Response:
        body = validated(IssueBody, request.data)
        result = issue_voucher(
            IssueRequest(
                course_id=body["courseId"],
                email=body["email"],
                order_id=body.get("orderId") or "",
                caller=caller_of(request),
                idempotency_key=idempotency_key_of(request),
                tells_code=sees_codes(request),
            )
        )
        return answer(result, tells_code=sees_codes(request))


def sees_codes(request: Request) -> bool:
    """Programs, and staff with the permission to see whole codes; others of staff are answered with a masked one."""
    return isinstance(request.auth, ApiKey) or request.user.has_perm("vouchers.reveal_voucher")


def answer(result: IssueResult, *, tells_code: bool) -> Response:
    issuance = result.issuance
    if issuance.voucher is None and not (position := issuance.position):
        issuance = Issuance.objects.select_related("voucher", "course").get(pk=issuance.pk)  # filled since
    if issuance.voucher is None:
        message = f"The pool of {issuance.course.name} is empty; {issuance.email} is number {position} in the queue."
        return Response({"status": "waiting", "message": message, "position": position}, status=202)
    if tells_code:
        note_told(issuance)
    message = f"A voucher for {issuance.course.name} is issued to {issuance.email} and sent by email."
    now = issuance.voucher.shown_status
    if now != Voucher.Status.ISSUED:
        message = f"A voucher for {issuance.course.name} was issued to {issuance.email} before, and is {now} now."
    body = {
        "status": "issued",
        "message": message,
        "voucher": voucher_document(issuance.voucher, masked=not tells_code),
    }
    return Response(body, status=201 if result.created else 200)
