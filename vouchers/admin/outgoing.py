"""Who is told of what by webhooks, and what became of each message."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.utils.html import format_html
from django.utils.safestring import SafeString

from vouchers.admin.base import DeskAdmin, OutboxAdmin, badge, link_to, with_note
from vouchers.admin.deeds import carry_out, chosen
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing.announcing import forget_receivers
from vouchers.outgoing.sending import replay


class ReceiverForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker only
    events = forms.MultipleChoiceField(choices=WebhookReceiver.Event.choices, widget=forms.CheckboxSelectMultiple)
    url = forms.URLField(
        label="Address",
        max_length=500,
        assume_scheme="https",
        widget=forms.URLInput(attrs={"class": "vURLField"}),
        help_text="https only, and out in the world: private addresses are never called.",
    )


@admin.register(WebhookReceiver)
class WebhookReceiverAdmin(DeskAdmin[WebhookReceiver]):
    form = ReceiverForm
    list_display = ["name", "url", "event_names", "state"]
    search_fields = ["name", "url"]

    def get_fields(self, request: HttpRequest, obj: WebhookReceiver | None = None) -> list[Any]:
        fields: list[Any] = ["name", "url", "events", "active"]
        if obj is None:
            return fields
        return [*fields, *(["shown_secret"] if self.has_change_permission(request, obj) else []), "disabled_reason"]

    def get_readonly_fields(self, request: HttpRequest, obj: WebhookReceiver | None = None) -> list[str]:
        return ["shown_secret", "disabled_reason"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: WebhookReceiver | None = None) -> bool:
        # It is switched off instead: a process that still remembers it would write messages for it, which the
        # database refuses, and the buyer's voucher with them.
        return False

    def save_model(
        self, request: HttpRequest, obj: WebhookReceiver, form: forms.ModelForm[WebhookReceiver], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if change and obj.active and obj.disabled_reason:
            WebhookReceiver.objects.filter(pk=obj.pk).update(disabled_reason="")
        forget_receivers()

    @admin.display(description="secret")
    def shown_secret(self, receiver: WebhookReceiver) -> SafeString:
        return format_html('<code class="desk-key">{}</code>', receiver.secret)

    @admin.display(description="told of")
    def event_names(self, receiver: WebhookReceiver) -> str:
        return ", ".join(receiver.events)

    @admin.display(description="state")
    def state(self, receiver: WebhookReceiver) -> SafeString:
        if receiver.active:
            return badge("valid", "Active")
        return with_note(badge("revoked", "Not active"), receiver.disabled_reason)


@admin.register(WebhookMessage)
class WebhookMessageAdmin(OutboxAdmin[WebhookMessage]):
    list_display = ["message_id", "what", "state", "attempts", "answer"]
    list_filter = ["status", "type", "receiver"]
    list_select_related = ["receiver"]
    search_fields = ["message_id"]
    search_help_text = "A whole webhook-id."
    actions = ["send_again"]
    fields = [
        "message_id",
        "receiver_link",
        "type",
        "payload",
        "status_badge",
        "attempts",
        "due_at",
        "sent_at",
        "last_status",
        "last_error",
        "created_at",
    ]
    readonly_fields = ["receiver_link", "status_badge"]

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.change_webhookreceiver")

    @admin.action(description="Send again", permissions=["replay"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[WebhookMessage]) -> None:
        def deed(message: WebhookMessage) -> None:
            replay(message)
            self.log_change(request, message, "Sent again.")

        done = carry_out(request, chosen(request, queryset), deed)
        if done:
            messages.success(request, f"{done} message{pluralize(done)} queued to be sent again.")

    @admin.display(description="receiver")
    def receiver_link(self, message: WebhookMessage) -> SafeString:
        return link_to(WebhookReceiver, message.receiver_id, str(message.receiver))

    @admin.display(description="what, to whom")
    def what(self, message: WebhookMessage) -> SafeString:
        return with_note(message.type, message.receiver)

    @admin.display(description="last answer")
    def answer(self, message: WebhookMessage) -> str:
        return message.last_error or str(message.last_status or "-")
