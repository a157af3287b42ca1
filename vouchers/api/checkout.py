"""POST /api/checkout and GET /api/purchases/:token, for a shop with a front end of its own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from courses.models import Purchase
from vouchers.api.authentication import ApiKeyAuthentication
from vouchers.api.base import DeskView, validated
from vouchers.api.documents import OF_A_BODY, PUBLIC, refusals
from vouchers.issuing import find_course
from vouchers.languages import accepted_language, known_language
from vouchers.payments.checkout import MOST_SEATS, start_checkout
from vouchers.payments.progress import STATUSES, find_purchase, progress_of

PROVIDERS = [Purchase.Provider.STRIPE, Purchase.Provider.PAYPAL]


class CheckoutBody(serializers.Serializer[Any]):
    courseId = serializers.CharField(max_length=64, trim_whitespace=False)  # noqa: N815
    email = serializers.EmailField(max_length=254)
    quantity = serializers.IntegerField(min_value=1, max_value=MOST_SEATS, default=1)
    provider = serializers.ChoiceField(
        [(str(provider.value), str(provider.label)) for provider in PROVIDERS],
        required=False,
        allow_null=True,
        help_text="The first one that is set up, where none is named.",
    )
    language = serializers.CharField(
        max_length=35,
        required=False,
        allow_null=True,
        allow_blank=True,
        help_text="Of the buyer, such as `en` or `de-AT`, for the emails and pages to come. Where it is not given, or "
        "not spoken here, `Accept-Language` counts, and then the shop's own.",
    )


CheckoutStarted = inline_serializer(
    "CheckoutStarted",
    {
        "purchaseId": serializers.UUIDField(),
        "redirectUrl": serializers.URLField(help_text="Where the buyer pays."),
        "statusUrl": serializers.URLField(help_text="GET it to follow the purchase. It cannot be guessed."),
    },
)
PurchaseProgress = inline_serializer(
    "PurchaseProgress",
    {
        "status": serializers.ChoiceField(STATUSES),
        "courseId": serializers.CharField(allow_null=True),
        "quantity": serializers.IntegerField(),
        "issued": serializers.IntegerField(help_text="Seats whose voucher is issued."),
        "position": serializers.IntegerField(
            allow_null=True, help_text="Place in the queue of the first seat that waits, from 1."
        ),
    },
)


class AnonymousView(DeskView):
    """For buyers. Not by the admin's session: a member of staff who shops is a shopper."""

    anonymous = True
    authentication_classes = [ApiKeyAuthentication]
    permission_classes = []


class StartCheckout(AnonymousView):
    @extend_schema(
        tags=["Checkout"],
        summary="Begin a checkout",
        description="Send the buyer to `redirectUrl`, and follow it at `statusUrl`. The vouchers come by email.",
        auth=PUBLIC,
        request=CheckoutBody,
        responses={201: CheckoutStarted}
        | refusals(
            *OF_A_BODY,
            503,
            s401=["authentication_failed"],
            s404=["course_not_found"],
            s409=["not_on_sale", "sold_out", "provider_not_ready", "provider_refused"],
            s503=["provider_unreachable"],
        ),
    )
    def post(self, request: Request) -> Response:
        body = validated(CheckoutBody, request.data)
        checkout = start_checkout(
            course=find_course(body["courseId"]),
            email=body["email"],
            quantity=body["quantity"],
            provider=body.get("provider") or "",
            language=known_language(body.get("language") or "") or accepted_language(request._request),
        )
        return Response(
            {
                "purchaseId": str(checkout.purchase.pk),
                "redirectUrl": checkout.redirect_url,
                "statusUrl": settings.BASE_URL + reverse("purchase_progress", args=[checkout.purchase.token]),
            },
            status=201,
        )


class PurchaseStatus(AnonymousView):
    @extend_schema(
        tags=["Checkout"],
        summary="Follow a purchase",
        auth=PUBLIC,
        responses={200: PurchaseProgress} | refusals(s401=["authentication_failed"], s404=["purchase_not_found"]),
    )
    def get(self, request: Request, token: str) -> Response:
        purchase = find_purchase(token)
        progress = progress_of(purchase)
        return Response(
            {
                "status": progress.status,
                "courseId": purchase.course_id,
                "quantity": purchase.quantity,
                "issued": progress.issued,
                "position": progress.position,
            }
        )
