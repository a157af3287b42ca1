"""Erase a buyer: asked for by an address, or by the rows of one buyer, and done once somebody has seen what it means.

The address is only ever posted, because addresses of pages are kept in logs and histories.
"""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.widgets import AdminEmailInputWidget
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.urls import path

from courses.models import Purchase
from vouchers.admin.base import DeskAdmin
from vouchers.admin.deeds import chosen
from vouchers.errors import DeskError
from vouchers.privacy.erasing import Erased, clean_address, erase_buyer, find_buyer

TITLE = "Erase a buyer"


class AddressForm(forms.Form):
    email = forms.CharField(
        label="Email address",
        widget=AdminEmailInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="The whole address; upper and lower case are the same.",
    )

    def clean_email(self) -> str:
        try:
            return clean_address(self.cleaned_data["email"])
        except DeskError as refusal:
            raise ValidationError(refusal.message) from None


class ErasesBuyers:
    """For lists whose rows have an email: put `"erase_buyer_of"` among the actions."""

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return may_erase(request)

    @admin.action(description="Erase the buyer's address…", permissions=["erase"])
    def erase_buyer_of(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        rows = chosen(request, queryset)
        emails = {row.email.upper(): row.email for row in rows}
        if len(emails) != 1:
            messages.error(request, "Choose rows of one buyer. Nothing was erased.")
            return None
        again = [("action", "erase_buyer_of"), ("index", "0"), *((ACTION_CHECKBOX_NAME, str(row.pk)) for row in rows)]
        (email,) = emails.values()
        return confirm_or_erase(request, email, again, back=request.get_full_path())


def may_erase(request: HttpRequest) -> bool:
    return request.user.has_perm("courses.erase_buyer")


def erase_buyer_view(request: HttpRequest) -> HttpResponse:
    if not may_erase(request):
        raise PermissionDenied
    form = AddressForm(request.POST or None)
    if not form.is_valid():
        return _purchases().form_page(request, "admin/erasing/ask.html", form, TITLE)
    email = form.cleaned_data["email"]
    return confirm_or_erase(request, email, [("email", email)], back="") or redirect("admin:erase_buyer")


def confirm_or_erase(
    request: HttpRequest, email: str, again: list[tuple[str, str]], *, back: str
) -> HttpResponse | None:
    """A page that says what would be replaced and posts `again`; None once it is done, refused or needless, which the
    messages then say."""
    try:
        if "confirmed" in request.POST:
            _erase(request, email)
            return None
        found = find_buyer(email=email)
    except DeskError as refusal:
        messages.error(request, refusal.message)
        return None
    if not found.total:
        _say_nothing_holds(request, found)
        return None
    context = {"found": found, "email": email, "again": again, "back": back}
    return _purchases().form_page(request, "admin/erasing/confirm.html", forms.Form(), TITLE, **context)


def _erase(request: HttpRequest, email: str) -> None:
    with transaction.atomic():  # the deed and its log entry
        erased = erase_buyer(email=email, actor=f"user:{request.user.pk}")
        if erased.total:
            _log(request, erased)
    if not erased.total:
        _say_nothing_holds(request, erased)
        return
    messages.success(request, f"Replaced it in {_rows(erased)} by {erased.tombstone}.")
    if erased.owed:
        messages.warning(request, erased.owed.in_words)


def _say_nothing_holds(request: HttpRequest, found: Erased) -> None:
    messages.warning(request, f"Nothing here holds this address. {found.owed.in_words if found.owed else ''}".strip())


def _log(request: HttpRequest, erased: Erased) -> None:
    """About a buyer, who is no row; so under the purchases, by the tombstone."""
    LogEntry.objects.create(
        user_id=cast(int, request.user.pk),
        content_type=ContentType.objects.get_for_model(Purchase),
        object_repr=erased.tombstone,
        action_flag=CHANGE,
        change_message=f"Erased the address of a buyer: {_rows(erased)}.",
    )


def _rows(erased: Erased) -> str:
    return f"{erased.total:,} row{pluralize(erased.total)}"


def _purchases() -> DeskAdmin[Any]:
    """Whose place in the admin these pages share."""
    return cast("DeskAdmin[Any]", admin.site.get_model_admin(Purchase))


urlpatterns = [path("", admin.site.admin_view(erase_buyer_view), name="erase_buyer")]
