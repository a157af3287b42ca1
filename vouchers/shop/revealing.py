"""The page of a voucher, behind the link of its email: it shows the code to whoever presses the button."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from vouchers.errors import NotRevealable
from vouchers.masking import in_outline
from vouchers.models import Issuance
from vouchers.revealing import find_revealable, reveal_code, state_of
from vouchers.shop.pages import for_people, in_buyers_language, private, show, speaking_for


@csrf_exempt
@in_buyers_language
@require_http_methods(["GET", "HEAD", "POST"])
@private
def reveal(request: HttpRequest, pk: int, token: str) -> HttpResponse:
    """Loading it, as the scanners of mail servers do, shows no code and changes nothing; the button does.

    The address is the key to the page, so that no other site may see it. With that policy browsers send their forms
    with `Origin: null`, which the check for forged requests refuses. There is nothing to forge either: no cookie
    counts here, and whoever can write the address down may press the button themselves.
    """
    response = _answer(request, pk, token)
    response["Referrer-Policy"] = "no-referrer"
    return response


@for_people
def _answer(request: HttpRequest, pk: int, token: str) -> HttpResponse:
    issuance = find_revealable(pk, token)
    language = issuance.purchase.language if issuance.purchase else ""
    with speaking_for(request, language):
        if request.method != "POST":
            return _show(request, issuance)
        try:
            return _show(request, issuance, code=reveal_code(issuance))
        except NotRevealable as refusal:
            return _show(request, find_revealable(pk, token), refusal=refusal)


def _show(
    request: HttpRequest, issuance: Issuance, *, code: str = "", refusal: NotRevealable | None = None
) -> HttpResponse:
    context = {
        "course": issuance.course,
        "code": code,
        "state": state_of(issuance),
        "is_replacement": issuance.replacements.exists(),
        "expires_on": issuance.voucher.expires_on if issuance.voucher else None,
        "time_zone": settings.TIME_ZONE,
        "email": in_outline(issuance.email),
    }
    return show(request, "shop/reveal.html", context, refusal)
