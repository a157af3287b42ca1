"""The outbox as people read it, and the emails kept here where no way of sending is set."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from courses.models import Purchase
from vouchers.admin.base import NOTHING, LedgerAdmin, OutboxAdmin, link_to
from vouchers.admin.deeds import chosen, send_again
from vouchers.models import Delivery, Issuance, KeptEmail, Voucher


@admin.register(Delivery)
class DeliveryAdmin(OutboxAdmin[Delivery]):
    list_display = [
        "id",
        "email",
        "voucher_link",
        "state",
        "attempts",
        "last_error",
    ]
    list_filter = ["status", "kind"]
    list_select_related = ["issuance"]
    # The indexes are on the email of the issuance or purchase, of which a delivery's is a copy.
    search_fields = ["issuance__email__iexact", "purchase__email__iexact"]
    search_help_text = "A whole email address."
    actions = ["resend"]
    fields = [
        "issuance_link",
        "voucher_link",
        "purchase_link",
        "kind",
        "series",
        "email",
        "status_badge",
        "attempts",
        "due_at",
        "sent_at",
        "last_error",
        "message_id",
        "provider_id",
        "kept_email",
        "created_at",
    ]
    readonly_fields = ["issuance_link", "voucher_link", "purchase_link", "status_badge", "kept_email"]

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.resend_voucher")

    @admin.action(description="Send again", permissions=["resend"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        deliveries = chosen(request, queryset)
        notices = sum(delivery.issuance_id is None for delivery in deliveries)
        if notices:
            messages.warning(request, f"{notices} carried no voucher: it is not sent again.")
        issuances = Issuance.objects.filter(deliveries__in=deliveries).distinct()
        send_again(self, request, list(issuances.select_related("voucher")))

    @admin.display(description="issuance")
    def issuance_link(self, delivery: Delivery) -> SafeString:
        return link_to(Issuance, delivery.issuance_id)

    @admin.display(description="voucher")
    def voucher_link(self, delivery: Delivery) -> SafeString:
        return link_to(Voucher, delivery.issuance.voucher_id if delivery.issuance else None)

    @admin.display(description="purchase")
    def purchase_link(self, delivery: Delivery) -> SafeString:
        return link_to(Purchase, delivery.purchase_id)

    @admin.display(description="kept email")
    def kept_email(self, delivery: Delivery) -> SafeString:
        kept = KeptEmail.objects.filter(message_id=delivery.message_id).values_list("pk", flat=True).first()
        return link_to(KeptEmail, kept)


@admin.register(KeptEmail)
class KeptEmailAdmin(LedgerAdmin[KeptEmail]):
    list_display = ["subject", "to", "kept_at"]
    search_fields = ["to__iexact"]
    search_help_text = "A whole email address."
    fields = ["to", "subject", "kept_at", "message_id", "as_html", "as_text"]
    readonly_fields = ["as_html", "as_text"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Where emails are really sent there is nothing to see, and so no entry in the menu."""
        return super().has_module_permission(request) and KeptEmail.objects.exists()

    @admin.display(description="as the buyer sees it")
    def as_html(self, email: KeptEmail) -> str:
        return render_to_string("admin/vouchers/keptemail/html.html", {"email": email}) if email.html else NOTHING

    @admin.display(description="as text")
    def as_text(self, email: KeptEmail) -> str:
        return render_to_string("admin/vouchers/keptemail/text.html", {"email": email})
