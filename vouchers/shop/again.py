"""Send me my codes again: a page with one field, which answers every address alike."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from vouchers.errors import TooManyRequests
from vouchers.guesses import Guesser
from vouchers.resending import ask_again
from vouchers.shop.pages import in_buyers_language, private, show


class AgainForm(forms.Form):
    email = forms.EmailField(
        label=_("Email"),
        max_length=254,
        help_text=_("The address that your vouchers were sent to."),
        widget=forms.EmailInput(attrs={"autocomplete": "email", "inputmode": "email", "spellcheck": "false"}),
        error_messages={
            "required": _("Enter your email address."),
            "invalid": _("Enter one email address, such as name@example.com."),
        },
    )


@in_buyers_language
@require_http_methods(["GET", "HEAD", "POST"])
@private
def again(request: HttpRequest) -> HttpResponse:
    """Answered in place, without a redirect: to post it again sends nothing twice within the hour."""
    form = AgainForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return show(request, "shop/again.html", {"form": form})
    asker = Guesser.of_asker(request.META.get("REMOTE_ADDR", ""))
    try:
        ask_again(email=form.cleaned_data["email"], language=get_language() or "", asker=asker)
    except TooManyRequests as refusal:
        minutes = -(-(refusal.retry_after or 1) // 60)
        return show(request, "shop/again.html", {"form": form, "minutes": minutes}, refusal)
    return show(request, "shop/again.html", {"asked": True})
