"""The keys of programs: made here, shown once, revoked at once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from vouchers.admin.base import DeskAdmin, badge
from vouchers.models import ApiKey


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker only
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text="What a program with this key may do. Give it no more than it needs.",
    )

    def clean_expiry_date(self) -> Any:
        expiry = self.cleaned_data["expiry_date"]
        if expiry and expiry <= timezone.now():
            raise ValidationError("This time is already past.")
        return expiry


@admin.register(ApiKey)
class ApiKeyAdmin(DeskAdmin[ApiKey]):
    list_display = ["name", "prefix", "scope_names", "created", "state", "expiry_date"]
    list_filter = ["revoked"]
    search_fields = ["name", "prefix"]

    def get_form(
        self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[ApiKey]]:
        # A declared field is in the form whatever `get_fields` says, and scopes never change.
        if obj is None:
            kwargs["form"] = ApiKeyForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        if obj is None:
            return ["name", "scopes", "expiry_date"]
        return ["name", "prefix", "scope_names", "created", "expiry_date", "revoked"]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        if obj is None:
            return []
        return [
            "name",
            "prefix",
            "scope_names",
            "created",
            "expiry_date",
            *(["revoked"] if obj.revoked else []),
        ]

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm[ApiKey], change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key = ApiKey.objects.assign_key(obj)
        super().save_model(request, obj, form, change)
        messages.success(
            request,
            format_html(
                'The key of “{}” is <code class="desk-key">{}</code> Copy it now: it is not shown again.',
                obj.name,
                key,
            ),
        )

    @admin.display(description="scopes")
    def scope_names(self, key: ApiKey) -> str:
        return ", ".join(str(ApiKey.Scope(scope).label) for scope in key.scopes)

    @admin.display(description="state")
    def state(self, key: ApiKey) -> SafeString:
        state = "revoked" if key.revoked else "expired" if key.has_expired else "valid"
        return badge(state, state.capitalize())
