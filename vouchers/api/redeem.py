"""POST /redeem-voucher"""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from vouchers.api.authentication import ApiKeyAuthentication
from vouchers.api.base import DeskView, caller_of, idempotency_key_of, validated
from vouchers.api.documents import IDEMPOTENCY_KEY, OF_A_BODY, PUBLIC, refusals
from vouchers.guesses import Guesser
from vouchers.models import ApiKey
from vouchers.redeeming import RedeemRequest, redeem_voucher


@extend_schema_field(str)
class CodeField(serializers.Field[str, Any, str, Any]):
    """Anything: what has not the form of a code is for the service to refuse, whatever its type."""

    def to_internal_value(self, data: Any) -> str:
        return data if isinstance(data, str) else str(data) if type(data) is int else ""


class RedeemBody(serializers.Serializer[Any]):
    """Empty and null are as good as absent: a checkout form sends its empty fields too."""

    code = CodeField(required=False, allow_null=True, help_text="`voucherCode` is accepted too.")
    voucherCode = CodeField(required=False, allow_null=True)  # noqa: N815
    courseId = serializers.CharField(  # noqa: N815
        max_length=64, required=False, allow_blank=True, allow_null=True, trim_whitespace=False
    )
    email = serializers.EmailField(max_length=254, required=False, allow_blank=True, allow_null=True)


Redeemed = inline_serializer(
    "Redeemed",
    {
        "status": serializers.ChoiceField([("redeemed", "redeemed")]),
        "courseId": serializers.CharField(),
        "purchaseId": serializers.UUIDField(help_text="The free purchase."),
        "usedOn": serializers.DateField(help_text="Day in the shop's time zone."),
    },
)


class RedeemVoucher(DeskView):
    scope = ApiKey.Scope.REDEEM
    anonymous = True
    # Not the admin's session: a member of staff who shops is a shopper.
    authentication_classes = [ApiKeyAuthentication]

    @extend_schema(
        tags=["Vouchers"],
        summary="Redeem a voucher for a free purchase",
        auth=PUBLIC,
        parameters=[IDEMPOTENCY_KEY],
        request=RedeemBody,
        responses={200: OpenApiResponse(Redeemed, description="This call, and only this call, spent the voucher.")}
        | refusals(
            *OF_A_BODY,
            403,
            s400=["invalid_code"],
            s401=["authentication_failed"],
            s404=["voucher_not_found"],
            s409=["already_redeemed", "voucher_on_hold"],
            s410=["voucher_expired", "voucher_revoked"],
            s429=["too_many_guesses"],
        ),
    )
    def post(self, request: Request) -> Response:
        body = validated(RedeemBody, request.data)
        redemption = redeem_voucher(
            RedeemRequest(
                code=body.get("code") or body.get("voucherCode") or "",
                course_id=body.get("courseId") or "",
                email=body.get("email") or "",
                guesser=guesser_of(request),
                idempotency_key=idempotency_key_of(request),
            )
        )
        return Response(
            {
                "status": "redeemed",
                "courseId": redemption.voucher.course_id,
                "purchaseId": str(redemption.purchase_id),
                "usedOn": timezone.localdate(redemption.redeemed_at).isoformat(),
            }
        )


def guesser_of(request: Request) -> Guesser:
    if isinstance(request.auth, ApiKey):
        return Guesser.of_key(caller_of(request))
    return Guesser.of_address(request.META.get("REMOTE_ADDR", ""))
