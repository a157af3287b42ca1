"""The outbox as people read it, and the emails kept here where no way of sending is set."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from courses.models import Course, Purchase
from vouchers.admin.base import NOTHING, OutboxAdmin, badge, link_to, minute, with_note
from vouchers.admin.deeds import chosen, send_again
from vouchers.admin.revealing import SAW_EMAIL, MaskedAdmin, may_reveal
from vouchers.models import Delivery, DeliveryEvent, Issuance, KeptEmail, Voucher

ALL = "all"
LATE = "late"
LATE_AFTER = dt.timedelta(minutes=15)
Status = Delivery.Status


def in_state(state: str) -> Q:
    """Emails by the one word that `Delivery.state` says of them; indexed where it is bad news."""
    if state == Status.FAILED:
        return Q(fate=Delivery.Fate.FAILED) | Q(fate="", status=Status.FAILED)
    status = Status.SENT if state == Delivery.ACCEPTED else state
    return Q(fate="", status=status) if status in Status.values else Q(fate=state)


def late_emails() -> QuerySet[Delivery]:
    """What was tried in vain, and has been to be sent for longer than a mail server may be away."""
    unsent = Q(status=Status.QUEUED) | Q(status=Status.SENDING)
    return Delivery.objects.filter(unsent, created_at__lt=Now() - LATE_AFTER).exclude(last_error="")


class TroubleFilter(admin.SimpleListFilter):
    """What buyers did not get and still need: of all courses, or of the one that the address names."""

    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = self.value() or ALL
        of_one = [] if named == ALL else [(named, f"Not delivered, of {named}")]
        return [(ALL, "Not delivered"), *of_one]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery] | None:
        if not (named := self.value()):
            return None
        undelivered = Delivery.objects.undelivered()
        if named != ALL:
            undelivered = undelivered.of_course(named)
        return queryset.filter(pk__in=undelivered.values("pk"))


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        states = [(str(value), str(label)) for value, label in Delivery.STATES]
        return [*states, (LATE, "Waiting for the mail server")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery] | None:
        match self.value():
            case None:
                return None
            case "late":
                return queryset.filter(pk__in=late_emails().values("pk"))
            case state:
                return queryset.filter(in_state(state))


@admin.register(Delivery)
class DeliveryAdmin(OutboxAdmin[Delivery]):
    list_display = ["id", "email", "voucher_link", "state", "reason"]
    list_filter = [TroubleFilter, StateFilter, "kind"]
    list_select_related = ["issuance"]
    search_fields = ["email"]
    search_help_text = "A whole email address."
    actions = ["resend"]
    fieldsets = [
        (None, {"fields": ["kind", "series", "email", "language", "carries_code"]}),
        ("About", {"fields": ["issuance_link", "voucher_link", "purchase_link", "course_link"]}),
        ("What became of it", {"fields": ["status_badge", "reason", "fate_at", "alerted_at"]}),
        ("Sending", {"fields": ["status", "attempts", "due_at", "sent_at", "last_error", "created_at"]}),
        ("Where it is found again", {"fields": ["message_id", "provider_id"]}),
    ]
    readonly_fields = ["issuance_link", "voucher_link", "purchase_link", "course_link", "status_badge", "reason"]

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.resend_voucher")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        term = search_term.strip()
        return queryset.filter(pk__in=sent_to(term)) if term else queryset, False

    def beside(self, request: HttpRequest, row: Delivery) -> dict[str, Any]:
        kept = KeptEmail.objects.filter(message_id=row.message_id).first() if may_open(request) else None
        return {"events": DeliveryEvent.objects.filter(delivery=row), "kept_email": kept}

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

    @admin.display(description="course")
    def course_link(self, delivery: Delivery) -> SafeString:
        return link_to(Course, delivery.course_id, delivery.course_id or "")

    @admin.display(description="state, when")
    def state(self, delivery: Delivery) -> SafeString:
        if delivery.fate_at:
            return with_note(self.status_badge(delivery), minute(delivery.fate_at))
        return super().state(delivery)

    @admin.display(description="state")
    def status_badge(self, delivery: Delivery) -> SafeString:
        return badge(delivery.state, delivery.state_in_words)


def sent_to(email: str) -> QuerySet[Delivery, Any]:
    """Keys of the emails about what an address is owed and has bought: of these the address is indexed, and that of an
    email is a copy. Each in turn, because with either of them the planner reads every email there is."""
    keys = Delivery.objects.order_by().values("pk")
    about_issuances = keys.filter(issuance__email__iexact=email)
    return about_issuances.union(keys.filter(purchase__email__iexact=email), all=True)


def may_open(request: HttpRequest) -> bool:
    """Whether somebody may read kept emails, in which codes stand."""
    return may_reveal(request) and request.user.has_perm("vouchers.view_keptemail")


@admin.register(KeptEmail)
class KeptEmailAdmin(MaskedAdmin[KeptEmail]):
    columns_with_codes = ("text", "html")
    list_display = ["subject", "to", "kept_at"]
    search_fields = ["to__iexact"]
    search_help_text = "A whole email address."
    fields = ["to", "subject", "kept_at", "message_id", "as_html", "as_text"]
    readonly_fields = ["as_html", "as_text"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Where emails are really sent there is nothing to see, and so no entry in the menu."""
        return super().has_module_permission(request) and KeptEmail.objects.exists()

    def has_view_permission(self, request: HttpRequest, obj: KeptEmail | None = None) -> bool:
        return super().has_view_permission(request, obj) if obj is None else may_open(request)

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        return super().get_list_display_links(request, list_display) if may_open(request) else None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        page = super().change_view(request, object_id, form_url, extra_context)
        if isinstance(page, TemplateResponse):  # shown only once it is written down who saw it
            self.log_change(request, (page.context_data or {})["original"], SAW_EMAIL)
        return page

    @admin.display(description="as the buyer sees it")
    def as_html(self, email: KeptEmail) -> str:
        return render_to_string("admin/vouchers/keptemail/html.html", {"email": email}) if email.html else NOTHING

    @admin.display(description="as text")
    def as_text(self, email: KeptEmail) -> str:
        return render_to_string("admin/vouchers/keptemail/text.html", {"email": email})
