"""What a buyer fills in at the checkout."""

from __future__ import annotations

import re
import secrets
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from vouchers.errors import DeskError
from vouchers.payments.checkout import MOST_SEATS

REDEEM = "redeem"  # the name of no provider


def new_request_key() -> str:
    return secrets.token_urlsafe(16)


class CheckoutForm(forms.Form):
    """`provider` is the button that was pressed. The request key makes a second click on it the same request."""

    email = forms.EmailField(
        label=_("Email"),
        max_length=254,
        help_text=_("Your voucher, or your confirmation, is sent there."),
        widget=forms.EmailInput(attrs={"autocomplete": "email", "inputmode": "email", "spellcheck": "false"}),
        error_messages={
            "required": _("Enter your email address."),
            "invalid": _("Enter one email address, such as name@example.com."),
        },
    )
    quantity = forms.IntegerField(
        label=_("Quantity"),
        min_value=1,
        max_value=MOST_SEATS,
        initial=1,
        help_text=format_lazy(_("From 1 to {most} seats; each gets a voucher of its own."), most=MOST_SEATS),
        widget=forms.NumberInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
        error_messages=dict.fromkeys(
            ("required", "invalid", "min_value", "max_value"),
            format_lazy(_("Choose from 1 to {most} seats."), most=MOST_SEATS),
        ),
    )
    code = forms.CharField(
        label=_("Voucher code"),
        required=False,
        help_text=_("It pays for one seat, in full."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
    )
    provider = forms.CharField(required=False)
    request_key = forms.CharField(
        required=False, max_length=255, initial=new_request_key, widget=forms.HiddenInput(attrs={"autocomplete": "off"})
    )

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if given.get("provider") == REDEEM and not given.get("code"):
            self.add_error("code", gettext("Enter the code of your voucher."))
        if given.get("code") and given.get("quantity", 1) > 1:
            fault = gettext("A voucher is for one seat. Set the quantity to 1, or empty the voucher field.")
            self.add_error("quantity", fault)
        return given

    def refuse(self, refusal: DeskError) -> None:
        """Shows what a service refused, at the field that is at fault."""
        if refusal.fields:
            for name, faults in refusal.fields.items():
                self.add_error(name if name in self.fields else None, list(faults))
        else:
            self.add_error("code" if self.cleaned_data["code"] else None, refusal.message)

    @property
    def seats(self) -> int:
        """What the shown total is of: the quantity as typed, 1 where that is none."""
        typed = str(self["quantity"].value())
        return int(typed) if re.fullmatch(r"[0-9]{1,3}", typed) and 1 <= int(typed) <= MOST_SEATS else 1
