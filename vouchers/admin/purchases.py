"""Payments and free purchases: what the providers told, what became of it, and what staff can do about it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminEmailInputWidget
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from courses.models import Course, PaymentFact, Purchase
from courses.money import in_words
from vouchers.admin.base import NOTHING, LedgerAdmin, badge, link_to, minute, page_of, with_note
from vouchers.admin.deeds import carry_out, chosen
from vouchers.admin.erasing import ErasesBuyers
from vouchers.delivery.messages import status_url
from vouchers.errors import DeskError
from vouchers.models import Delivery, Issuance
from vouchers.payments import deeds
from vouchers.payments.facts import MOST_SEATS
from vouchers.payments.progress import STATUSES, progress_of

TIMES = ("created_at", "paid_at", "completed_at", "accepted_at", "failed_at", "disputed_at")


class StateFilter(admin.SimpleListFilter):
    """What staff look for first; each is served by an index or ends at the first pages."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("review", "To be reviewed"),
            ("refund", "To be offered a refund"),
            ("pending", "Not paid"),
            ("paid", "Paid"),
            ("disputed", "Disputed"),
            ("refunded", "Refunded"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Purchase]) -> QuerySet[Purchase] | None:
        match self.value():
            case "review":
                return queryset.filter(pk__in=Purchase.objects.for_review().values("pk"))
            case "refund":
                return queryset.filter(pk__in=Issuance.objects.waiting_too_long().values("purchase"))
            case "pending":
                return queryset.filter(paid_at=None)
            case "paid":
                return queryset.filter(paid_at__isnull=False)
            case "disputed":
                return queryset.filter(disputed_at__isnull=False)
            case "refunded":
                return queryset.filter(refunded_at__isnull=False)
        return None


class AcceptForm(forms.Form):
    course = forms.ModelChoiceField(Course.objects.order_by("id"), empty_label="Choose a course")
    email = forms.EmailField(max_length=254, widget=AdminEmailInputWidget, help_text="Where the vouchers are sent.")
    quantity = forms.IntegerField(label="Seats", min_value=1, max_value=MOST_SEATS)


def accepted_as(purchase: Purchase) -> dict[str, Any]:
    return {"course": purchase.course_id, "email": purchase.email, "quantity": purchase.quantity}


class RefundForm(forms.Form):
    amount = forms.DecimalField(min_value=Decimal("0.01"), max_digits=12, decimal_places=2)

    def __init__(self, *args: Any, purchase: Purchase, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        most = deeds.refundable(purchase)
        amount = self.fields["amount"]
        amount.initial = deeds.price_of_waiting(purchase) or most
        amount.help_text = (
            f"Up to {in_words(most, purchase.currency)}. It takes back whole seats: those that wait first, then "
            "vouchers that are not redeemed yet."
        )


@admin.register(Purchase)
class PurchaseAdmin(ErasesBuyers, LedgerAdmin[Purchase]):
    list_display = ["buyer", "course_link", "price", "state", "shown_reference"]
    list_filter = [StateFilter, "provider", "course"]
    list_select_related = ["course"]
    search_fields = ["reference", "checkout", "email__iexact"]
    search_help_text = "The provider's whole reference of a payment or a checkout, or a whole email address."
    actions = ["close", "erase_buyer_of"]
    readonly_fields = ["progress", "review_text", "buyer_email", "course_link", "price", "page_link", "refunded"]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:pk>/accept/", view(self.accept_view), name="courses_purchase_accept"),
            path("<uuid:pk>/refund/", view(self.refund_view), name="courses_purchase_refund"),
            *super().get_urls(),
        ]

    def get_fieldsets(self, request: HttpRequest, obj: Purchase | None = None) -> Any:
        """Of the times only those that have come."""
        times = [name for name in TIMES if getattr(obj, name, None)]
        first = ["progress", "buyer_email", "course_link", "quantity", "price", "page_link"]
        if obj and obj.review:
            first.insert(1, "review_text")
        return [
            (None, {"fields": first}),
            ("At the provider", {"fields": ["provider", "reference", "checkout", "kind"]}),
            ("When", {"fields": [*times, *(["refunded"] if obj and obj.refunded_at else [])]}),
        ]

    def has_review_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("courses.review_purchase")

    def has_refund_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("courses.refund_purchase")

    def beside(self, request: HttpRequest, row: Purchase) -> dict[str, Any]:
        to_review = bool(row.review) and row.reviewed_at is None
        payment = row.provider != Purchase.Provider.VOUCHER and row.paid_at is not None
        return {
            "facts": PaymentFact.objects.filter(provider=row.provider, reference=row.reference),
            "seats": Issuance.objects.select_related("voucher").filter(purchase=row).order_by("unit"),
            "deliveries": Delivery.objects.filter(purchase=row),
            "may_accept": to_review and payment and not row.completed_at and self.has_review_permission(request),
            "may_close": to_review and self.has_review_permission(request),
            "may_refund": payment and deeds.refundable(row) > 0 and self.has_refund_permission(request),
            "waits_too_long": Issuance.objects.waiting_too_long().filter(purchase=row).exists(),
        }

    def accept_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        if not (self.has_view_permission(request) and self.has_review_permission(request)):
            raise PermissionDenied
        purchase = get_object_or_404(Purchase, pk=pk)
        form = AcceptForm(request.POST or None, initial=accepted_as(purchase))
        if form.is_valid():
            try:
                with transaction.atomic():  # the deed and its log entry
                    deeds.accept_purchase(purchase, **form.cleaned_data)
                    self.log_change(request, purchase, "Accepted after review.")
            except DeskError as refusal:
                form.add_error(None, refusal.message)
            else:
                messages.success(request, "Accepted. What is owed is issued, or waits for the next upload.")
                return redirect(page_of(purchase))
        template = "admin/courses/purchase/accept.html"
        return self.form_page(request, template, form, "Accept a payment", purchase=purchase, back=page_of(purchase))

    def refund_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        if not (self.has_view_permission(request) and self.has_refund_permission(request)):
            raise PermissionDenied
        purchase = get_object_or_404(Purchase, pk=pk)
        form = RefundForm(request.POST or None, purchase=purchase)
        if form.is_valid():
            amount = form.cleaned_data["amount"]
            try:
                deeds.refund_purchase(purchase, amount)
            except DeskError as refusal:
                form.add_error(None, refusal.message)
            else:
                asked = f"Refund of {in_words(amount, purchase.currency)} asked for"
                self.log_change(request, purchase, f"{asked}.")
                messages.success(request, f"{asked}; the seats are taken back as soon as the provider says it is done.")
                return redirect(page_of(purchase))
        template = "admin/courses/purchase/refund.html"
        return self.form_page(request, template, form, "Refund a payment", purchase=purchase, back=page_of(purchase))

    @admin.action(description="Close the review", permissions=["review"])
    def close(self, request: HttpRequest, queryset: QuerySet[Purchase]) -> None:
        def deed(purchase: Purchase) -> None:
            deeds.close_review(purchase)
            self.log_change(request, purchase, "Review closed.")

        done = carry_out(request, chosen(request, queryset), deed)
        if done:
            messages.success(request, f"{done} closed: nothing is issued for it." if done == 1 else f"{done} closed.")

    @admin.display(description="payment")
    def shown_reference(self, purchase: Purchase) -> SafeString:
        kind = purchase.get_provider_display()
        return with_note(purchase.reference, kind if purchase.live is not False else f"{kind}, test")

    @admin.display(description="buyer")
    def buyer(self, purchase: Purchase) -> SafeString:
        return with_note(purchase.email or NOTHING, minute(purchase.created_at))

    @admin.display(description="email")
    def buyer_email(self, purchase: Purchase) -> str:
        return purchase.email or NOTHING

    @admin.display(description="course")
    def course_link(self, purchase: Purchase) -> SafeString:
        return link_to(Course, purchase.course_id, purchase.course_id or "")

    @admin.display(description="amount")
    def price(self, purchase: Purchase) -> SafeString:
        seats = "" if purchase.quantity == 1 else f"{purchase.quantity} seats"
        return with_note(in_words(purchase.amount, purchase.currency), seats)

    @admin.display(description="state")
    def state(self, purchase: Purchase) -> SafeString:
        """By the purchase's own columns: its seats are on its page."""
        if purchase.review and purchase.reviewed_at is None:
            return badge("review", "To be reviewed")
        if purchase.disputed_at:
            return badge("disputed", "Disputed")
        if purchase.refunded_at:
            return badge("refunded", "Refunded" if purchase.refunded_amount == purchase.amount else "Partly refunded")
        if purchase.paid_at:
            return badge("paid", "Paid")
        return badge("failed", "Failed") if purchase.failed_at else badge("pending", "Not paid")

    @admin.display(description="state")
    def progress(self, purchase: Purchase) -> SafeString:
        status = progress_of(purchase).status
        return badge(status, dict(STATUSES)[status])

    @admin.display(description="to be reviewed because")
    def review_text(self, purchase: Purchase) -> SafeString:
        seen = f"Looked at {minute(purchase.reviewed_at)}" if purchase.reviewed_at else ""
        return with_note(purchase.review, seen)

    @admin.display(description="the buyer's page")
    def page_link(self, purchase: Purchase) -> SafeString:
        return format_html('<a href="{}" rel="noreferrer">What the buyer sees</a>', status_url(purchase))

    @admin.display(description="kind")
    def kind(self, purchase: Purchase) -> str:
        return {True: "Real money", False: "A test, no money moved", None: "Not known"}[purchase.live]

    @admin.display(description="refunded")
    def refunded(self, purchase: Purchase) -> SafeString:
        return with_note(in_words(purchase.refunded_amount, purchase.currency), minute(purchase.refunded_at))
