"""The vouchers: found by exact code or email, revoked with a reason, sent again; of their columns only the
note is the staff's."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from config.admin import may_search
from courses.models import Course
from vouchers.admin.base import DeskAdmin, badge, day, link_to, list_of, minute, page_of, with_note
from vouchers.admin.deeds import carry_out, chosen, send_again
from vouchers.admin.issuances import replacements_of
from vouchers.admin.revealing import SAW_CODE, MaskedAdmin, may_reveal
from vouchers.codes import clean_code, fault_of
from vouchers.masking import mask_code
from vouchers.models import Batch, Delivery, Issuance, RedeemAttempt, Redemption, Replacement, Voucher
from vouchers.revoking import REFUNDED, revoke_voucher

FATE = ("issued_to", "issued_at", "redeemed_at", "revoked_at", "revoked_reason", "held_since")


class RevokeForm(forms.Form):
    reason = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True}),
        help_text="Kept with the voucher and in the log; the buyer does not see it.",
    )

    def clean_reason(self) -> str:
        reason: str = self.cleaned_data["reason"]
        if reason.casefold() == REFUNDED.casefold():
            raise forms.ValidationError("Refunds write just this by themselves. Say more, such as: Refunded in cash.")
        return reason


class ShownStatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in Voucher.SHOWN_STATUSES]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Voucher] | None:
        return queryset.shown_as(self.value()) if self.value() else None


class ExpiryFilter(admin.SimpleListFilter):
    title = "expiry"
    parameter_name = "expiry"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("past", "Past"),
            ("7", "In the next 7 days"),
            ("30", "In the next 30 days"),
            ("never", "Never"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Voucher]) -> QuerySet[Voucher] | None:
        today = timezone.localdate()
        match self.value():
            case "past":
                return queryset.filter(valid_until__lt=today)
            case "never":
                return queryset.filter(expires_on=None)
            case "7" | "30" as days:
                return queryset.filter(valid_until__range=(today, today + dt.timedelta(days=int(days))))
        return None


@admin.register(Voucher)
class VoucherAdmin(MaskedAdmin[Voucher]):
    columns_with_codes = ("code",)
    list_display = ["masked_code", "course_link", "shown_status", "holder", "expiry"]
    list_filter = [ShownStatusFilter, ExpiryFilter, "course"]
    search_fields = ["code", "issued_to"]
    search_help_text = "A whole code or a whole email address; upper and lower case are the same."
    actions = ["revoke", "resend"]
    fieldsets = [
        (None, {"fields": ["masked_code", "course_link", "shown_status", "expires_on", "batch_link", "note"]}),
        ("What became of it", {"fields": FATE}),
    ]
    readonly_fields = ["masked_code", "course_link", "shown_status", "expires_on", "batch_link", *FATE]

    def get_ordering(self, request: HttpRequest) -> list[str | Combinable]:
        """By expiry, as the index has it, where that is asked for; everything else newest first."""
        by_expiry = request.GET.get("status") == Voucher.EXPIRED or request.GET.get("expiry") in ("past", "7", "30")
        return ["-valid_until", "-course_id", "-id"] if by_expiry else ["-id"]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("find/", view(self.find_view), name="vouchers_voucher_find"),
            path("<int:pk>/revoke/", view(self.revoke_view), name="vouchers_voucher_revoke"),
            path("<int:pk>/resend/", view(self.resend_view), name="vouchers_voucher_resend"),
            path("<int:pk>/reveal/", view(self.reveal_view), name="vouchers_voucher_reveal"),
            *super().get_urls(),
        ]

    def has_change_permission(self, request: HttpRequest, obj: Voucher | None = None) -> bool:
        return DeskAdmin.has_change_permission(self, request, obj)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.revoke_voucher")

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.resend_voucher")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Voucher], search_term: str
    ) -> tuple[QuerySet[Voucher], bool]:
        return find(queryset, search_term) if clean_code(search_term) else queryset, False

    @method_decorator(require_POST)
    def find_view(self, request: HttpRequest) -> HttpResponse:
        """Where the search box of the list leads: by POST, because a code does not belong into an address."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        term = clean_code(request.POST.get("q", ""))
        voucher = None if fault_of(term) else Voucher.objects.with_code(term).first()
        if voucher:
            return redirect(page_of(voucher))
        if "@" in term:
            return redirect(list_of(Voucher, q=term))
        messages.warning(request, "There is no such code. A search needs the whole code, or a whole email address.")
        return redirect(list_of(Voucher))

    def beside(self, request: HttpRequest, row: Voucher) -> dict[str, Any]:
        issuances = issuances_of(row)
        return {
            "issuances": issuances,
            "replacements": replacements_of(issuances),
            "deliveries": Delivery.objects.filter(issuance__in=issuances.values("pk")),
            "attempts": RedeemAttempt.objects.filter(voucher=row).order_by("last_at"),
            "redemption": Redemption.objects.filter(voucher=row).first(),
            "may_revoke": self.has_revoke_permission(request),
            "may_resend": self.has_resend_permission(request),
            "may_reveal": may_reveal(request),
        }

    @method_decorator(require_POST)
    def reveal_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The whole code, once it is written down who saw it."""
        if not (may_search(request) and may_reveal(request)):
            raise PermissionDenied
        voucher = get_object_or_404(Voucher.objects.select_related("course"), pk=pk)
        self.log_change(request, voucher, SAW_CODE)
        return self._code_page(request, voucher)

    def _code_page(self, request: HttpRequest, voucher: Voucher) -> HttpResponse:
        support = reverse("admin:support_voucher", args=[voucher.pk])
        context = {
            **self.admin_site.each_context(request),
            "title": "The whole code",
            "voucher": voucher,
            "back": page_of(voucher) if self.has_view_permission(request) else support,
            "media": self.media,
            "may_search": False,
        }
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return TemplateResponse(request, "admin/vouchers/voucher/code.html", context, headers=headers)

    @admin.action(description="Revoke…", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Voucher]) -> HttpResponse | None:
        vouchers = chosen(request, queryset)
        return self._revoke(request, vouchers, request.get_full_path()) if vouchers else None

    def revoke_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.has_revoke_permission(request) or not self.has_view_permission(request):
            raise PermissionDenied
        voucher = get_object_or_404(Voucher, pk=pk)
        return self._revoke(request, [voucher], page_of(voucher))

    def _revoke(self, request: HttpRequest, vouchers: list[Voucher], back: str) -> HttpResponse:
        """Asks for the reason, then does it."""
        form = RevokeForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            context = {"vouchers": vouchers, "back": back, "checkbox_name": ACTION_CHECKBOX_NAME}
            return self.form_page(request, "admin/vouchers/voucher/revoke.html", form, "Revoke vouchers", **context)
        reason = form.cleaned_data["reason"]

        def deed(voucher: Voucher) -> None:
            revoke_voucher(voucher, reason=reason)
            self.log_change(request, voucher, f"Revoked: {reason}")

        done = carry_out(request, vouchers, deed)
        if done:
            messages.success(request, f"{done} voucher{pluralize(done)} revoked.")
        return redirect(back)

    @admin.action(description="Send the email again", permissions=["resend"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Voucher]) -> None:
        self._resend(request, chosen(request, queryset))

    @method_decorator(require_POST)
    def resend_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not (self.has_view_permission(request) and self.has_resend_permission(request)):
            raise PermissionDenied
        voucher = get_object_or_404(Voucher, pk=pk)
        self._resend(request, [voucher])
        return redirect(page_of(voucher))

    def _resend(self, request: HttpRequest, vouchers: list[Voucher]) -> None:
        issued = Issuance.objects.filter(voucher__in=vouchers, status=Issuance.Status.ISSUED)
        issuances = list(issued.select_related("voucher"))
        nobody = len(vouchers) - len(issuances)
        if nobody:
            messages.warning(request, f"{nobody} voucher{pluralize(nobody)} belonged to nobody: no email to send.")
        send_again(self, request, issuances)

    @admin.display(description="code")
    def masked_code(self, voucher: Voucher) -> str:
        return mask_code(voucher.code)

    @admin.display(description="course")
    def course_link(self, voucher: Voucher) -> SafeString:
        return link_to(Course, voucher.course_id, voucher.course_id)

    @admin.display(description="batch")
    def batch_link(self, voucher: Voucher) -> SafeString:
        return link_to(Batch, voucher.batch_id)

    @admin.display(description="status")
    def shown_status(self, voucher: Voucher) -> SafeString:
        return badge(voucher.shown_status, dict(Voucher.SHOWN_STATUSES)[voucher.shown_status])

    @admin.display(description="issued to")
    def holder(self, voucher: Voucher) -> SafeString | None:
        if voucher.issued_at is None:
            return None
        return with_note(voucher.issued_to, minute(voucher.issued_at))

    @admin.display(description="expires on", empty_value="never")
    def expiry(self, voucher: Voucher) -> str | None:
        return day(voucher.expires_on)


def issuances_of(voucher: Voucher) -> QuerySet[Issuance]:
    """Of a replaced code, too, whose it was. Each in turn: with either of them the planner reads all issuances."""
    holds = Issuance.objects.order_by().filter(voucher=voucher).values("pk")
    held = Replacement.objects.order_by().filter(voucher=voucher).values("issuance")
    return Issuance.objects.filter(pk__in=holds.union(held, all=True))


def find(vouchers: QuerySet[Voucher], term: str) -> QuerySet[Voucher]:
    """Vouchers with this very code, or held by this very email."""
    term = clean_code(term)
    by_code = Voucher.objects.with_code(term).values("pk")
    by_email = Voucher.objects.held_by(term).values("pk")
    return vouchers.filter(pk__in=by_code.union(by_email, all=True))
