"""What is owed to whom, and the page on which staff issue by hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminEmailInputWidget, AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from courses.models import Course, Purchase
from vouchers.admin.base import NOTHING, LedgerAdmin, badge, link_to, minute, page_of, with_note
from vouchers.admin.deeds import carry_out, chosen, send_again
from vouchers.admin.erasing import ErasesBuyers
from vouchers.errors import DeskError
from vouchers.issuing import IssueRequest, IssueResult, issue_voucher
from vouchers.models import AddressChange, Delivery, Issuance, Replacement, Voucher
from vouchers.payments.deeds import return_voucher


class IssueForm(forms.Form):
    course = forms.ModelChoiceField(Course.objects.order_by("id"), empty_label="Choose a course")
    email = forms.EmailField(max_length=254, widget=AdminEmailInputWidget, help_text="Where the voucher is sent.")
    order_id = forms.CharField(
        label="Order",
        max_length=255,
        required=False,
        widget=AdminTextInputWidget,
        help_text="Optional. An order gets one voucher of a course, however often it is asked for.",
    )

    def request_of(self, caller: str) -> IssueRequest:
        given = self.cleaned_data
        return IssueRequest(
            course_id=given["course"].pk, email=given["email"], order_id=given["order_id"], caller=caller
        )


class WaitingFilter(admin.SimpleListFilter):
    title = "waiting"
    parameter_name = "waiting"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("long", "Longer than the course allows"), ("held", "On hold: disputed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Issuance]) -> QuerySet[Issuance] | None:
        match self.value():
            case "long":
                return queryset.filter(pk__in=Issuance.objects.waiting_too_long().values("pk"))
            case "held":
                return queryset.filter(held_since__isnull=False)
        return None


@admin.register(Issuance)
class IssuanceAdmin(ErasesBuyers, LedgerAdmin[Issuance]):
    list_display = [
        "id",
        "course_link",
        "buyer",
        "state",
        "voucher_link",
    ]
    list_filter = ["status", WaitingFilter, "course"]
    search_fields = ["email__iexact", "order_id"]
    search_help_text = "A whole email address or a whole order."
    actions = ["resend", "return_to_pool", "erase_buyer_of"]
    fields = [
        "course_link",
        "email",
        "order_id",
        "status_badge",
        "place",
        "voucher_link",
        "purchase_link",
        "unit",
        "caller",
        "created_at",
        "issued_at",
        "returned_at",
        "held_since",
        "told_at",
        "seen_at",
    ]
    readonly_fields = ["course_link", "status_badge", "place", "voucher_link", "purchase_link"]

    def get_ordering(self, request: HttpRequest) -> list[str | Combinable]:
        """The queue in the order in which it is served, as the index has it; everything else newest first."""
        return ["created_at", "id"] if request.GET.get("status__exact") == Issuance.Status.WAITING else ["-id"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.issue_voucher")

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.resend_voucher")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = IssueForm(request.POST or None, initial=request.GET.dict())
        if form.is_valid():
            try:
                issuance = self._issue(request, form.request_of(f"user:{request.user.pk}"))
            except DeskError as refusal:
                form.add_error(None, refusal.message)
            else:
                return redirect(page_of(issuance) if self.has_view_permission(request) else "admin:index")
        return self.form_page(request, "admin/vouchers/issuance/issue.html", form, "Issue a voucher")

    def _issue(self, request: HttpRequest, wanted: IssueRequest) -> Issuance:
        with transaction.atomic():  # the deed and its log entry
            result = issue_voucher(wanted)
            if result.created:
                self.log_addition(request, result.issuance, f"Asked for by hand: {in_short(result.issuance)}.")
        level = messages.SUCCESS if result.created and result.issuance.voucher_id else messages.WARNING
        messages.add_message(request, level, in_words(result))
        return result.issuance

    def has_return_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.revoke_voucher")

    def beside(self, request: HttpRequest, row: Issuance) -> dict[str, Any]:
        return {
            "deliveries": Delivery.objects.filter(issuance=row),
            "address_changes": AddressChange.objects.filter(issuance=row),
            "replacements": replacements_of([row]),
        }

    @admin.action(description="Send the email again", permissions=["resend"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Issuance]) -> None:
        send_again(self, request, chosen(request, queryset.select_related("voucher")))

    @admin.action(description="Put the code back into the pool, where nobody saw it", permissions=["return"])
    def return_to_pool(self, request: HttpRequest, queryset: QuerySet[Issuance]) -> None:
        def deed(issuance: Issuance) -> None:
            return_voucher(issuance)
            self.log_change(request, issuance, f"Put the code of voucher {issuance.voucher_id} back into the pool.")

        done = carry_out(request, chosen(request, queryset.select_related("course")), deed)
        if done:
            messages.success(request, f"{done} code{pluralize(done)} put back into the pool.")

    @admin.display(description="course")
    def course_link(self, issuance: Issuance) -> SafeString:
        return link_to(Course, issuance.course_id, issuance.course_id)

    @admin.display(description="voucher")
    def voucher_link(self, issuance: Issuance) -> SafeString:
        return link_to(Voucher, issuance.voucher_id)

    @admin.display(description="purchase")
    def purchase_link(self, issuance: Issuance) -> SafeString:
        return link_to(Purchase, issuance.purchase_id)

    @admin.display(description="email and order")
    def buyer(self, issuance: Issuance) -> SafeString:
        return with_note(issuance.email, issuance.order_id)

    @admin.display(description="status, since")
    def state(self, issuance: Issuance) -> SafeString:
        if issuance.status == Issuance.Status.WAITING:
            held = ", on hold" if issuance.held_since else ""
            return with_note(self.status_badge(issuance), f"for {timesince(issuance.created_at, depth=1)}{held}")
        since = issuance.returned_at or issuance.issued_at or issuance.created_at
        return with_note(self.status_badge(issuance), minute(since))

    @admin.display(description="status")
    def status_badge(self, issuance: Issuance) -> SafeString:
        return badge(issuance.status, issuance.get_status_display())

    @admin.display(description="place in the queue")
    def place(self, issuance: Issuance) -> int | SafeString:
        return issuance.position if issuance.status == Issuance.Status.WAITING else NOTHING


def replacements_of(issuances: Iterable[Issuance]) -> list[tuple[Replacement, int | None]]:
    """Every code that was replaced, and the voucher that took its place, oldest first."""
    found = list(
        Replacement.objects.filter(issuance__in=issuances).select_related("issuance").order_by("issuance", "pk")
    )
    return [(replacement, _heir(replacement, after)) for replacement, after in zip_longest(found, found[1:])]


def _heir(replacement: Replacement, after: Replacement | None) -> int | None:
    """What came next is the voucher that was replaced next, or else the one that the issuance holds now."""
    if after and after.issuance_id == replacement.issuance_id:
        return after.voucher_id
    return replacement.issuance.voucher_id


def in_short(issuance: Issuance) -> str:
    return f"issued voucher {issuance.voucher_id}" if issuance.voucher_id else "put into the queue"


def in_words(result: IssueResult) -> str:
    """What the person is told, with a link to the voucher; never the code."""
    issuance = result.issuance
    if issuance.voucher_id is None:
        again = "" if result.created else "This was asked for before. "
        return f"{again}The pool is empty: {issuance.email} is number {issuance.position} in the queue."
    voucher = link_to(Voucher, issuance.voucher_id, f"Voucher {issuance.voucher_id}")
    if result.created:
        return format_html("{} is issued to {} and its email is on its way.", voucher, issuance.email)
    return format_html("{} was already issued to {} before; nothing new was issued.", voucher, issuance.email)
