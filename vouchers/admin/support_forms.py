"""What staff are asked for by the support desk."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminEmailInputWidget
from django.core.exceptions import ValidationError

from vouchers.models import Issuance


class CorrectForm(forms.Form):
    """The right address; with `others`, the number of open seats beside this one, also whether it is theirs too."""

    email = forms.EmailField(
        label="Right address",
        max_length=254,
        widget=AdminEmailInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="What is owed belongs to this address from now on, and its email is sent there at once.",
    )

    def __init__(self, *args: Any, issuance: Issuance, others: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.issuance = issuance
        if others:
            label = f"All {others + 1} open seats of this purchase that are owed to {issuance.email}"
            self.fields["all_seats"] = forms.BooleanField(label=label, required=False, initial=True)

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        if email == self.issuance.email:
            raise ValidationError("It is owed to this address already. To send it once more, use “Resend”.")
        return email


class ReplaceForm(forms.Form):
    """`voucher` is the one that was held when the page was opened: pressed twice, the button replaces once."""

    reason = forms.CharField(
        max_length=250,
        widget=forms.TextInput(attrs={"class": "vTextField", "autofocus": True}),
        help_text="Kept in the history; the buyer does not see it.",
    )
    voucher = forms.IntegerField(widget=forms.HiddenInput)


class NoteForm(forms.Form):
    text = forms.CharField(max_length=1000)
