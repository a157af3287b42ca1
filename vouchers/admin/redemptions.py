"""Vouchers that were spent: a ledger."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from courses.models import Course, Purchase
from vouchers.admin.base import LedgerAdmin, link_to
from vouchers.models import Redemption, Voucher


@admin.register(Redemption)
class RedemptionAdmin(LedgerAdmin[Redemption]):
    list_display = ["voucher_number", "course_link", "email", "caller", "redeemed_at", "purchase_link"]
    list_select_related = ["purchase"]
    list_filter = ["purchase__course"]
    # When it was spent: the purchase was made then, and there are indexes of that, of all courses and of each.
    ordering = ["-purchase__created_at"]
    search_fields = ["email"]
    search_help_text = "The whole email address given at the checkout."
    fields = [
        "voucher_link",
        "course_link",
        "purchase_link",
        "email",
        "caller",
        "idempotency_key",
        "redeemed_at",
    ]
    readonly_fields = ["voucher_link", "course_link", "purchase_link"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Redemption], search_term: str
    ) -> tuple[QuerySet[Redemption], bool]:
        # The purchase has the same address, if one was given, and the index.
        term = search_term.strip()
        return queryset.filter(email__iexact=term, purchase__email__iexact=term) if term else queryset, False

    @admin.display(description="voucher")
    def voucher_number(self, redemption: Redemption) -> str:
        return f"Voucher {redemption.pk}"

    @admin.display(description="voucher")
    def voucher_link(self, redemption: Redemption) -> SafeString:
        return link_to(Voucher, redemption.pk)

    @admin.display(description="course")
    def course_link(self, redemption: Redemption) -> SafeString:
        return link_to(Course, redemption.purchase.course_id, redemption.purchase.course_id or "")

    @admin.display(description="purchase")
    def purchase_link(self, redemption: Redemption) -> SafeString:
        return link_to(Purchase, redemption.purchase_id, str(redemption.purchase))
