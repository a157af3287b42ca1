"""What the shop's pages share: what each of them shows, and how it answers a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from email.utils import parseaddr
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.http import escape_leading_slashes

from vouchers.errors import DeskError
from vouchers.languages import chosen_language, known_language, language_of, speaking

View = Callable[..., HttpResponse]
YEAR = 365 * 24 * 60 * 60  # seconds


def show(
    request: HttpRequest, template: str, context: Mapping[str, Any], refusal: DeskError | None = None
) -> HttpResponse:
    """A page, with the status of the refusal that it tells of."""
    shared = {"shop_name": parseaddr(settings.DEFAULT_FROM_EMAIL)[0], "demo": settings.DEMO_PAYMENTS}
    response = render(request, template, shared | dict(context), status=refusal.status if refusal else 200)
    response["Content-Language"] = translation.get_language() or settings.LANGUAGE_CODE
    if refusal and refusal.retry_after:
        response["Retry-After"] = str(refusal.retry_after)
    return response


def in_buyers_language(view: View) -> View:
    """What the reader chose, else what their browser asks for, else the shop's own; the outermost of the decorators.

    A page about a purchase goes on in the language of that with `speaking_for`. `?language=de` on any page chooses.
    """

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        chosen = known_language(request.GET.get("language", ""))
        if chosen and request.method in ("GET", "HEAD"):
            return _remember(request, chosen)
        with translation.override(language_of(request)):
            response = view(request, *args, **kwargs)
        patch_vary_headers(response, ["Accept-Language", "Cookie"])
        return response

    return answer


def _remember(request: HttpRequest, language: str) -> HttpResponse:
    """Back to the same page, which finds the choice in the cookie. Nothing else of the address is kept or followed."""
    response = HttpResponseRedirect(escape_leading_slashes(request.path))
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=YEAR,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    response["Cache-Control"] = "no-store"
    return response


def speaking_for(request: HttpRequest, language: str) -> AbstractContextManager[None]:
    """The language of a purchase goes before the browser's of whoever reads, but not before what they chose here."""
    return speaking(chosen_language(request) or language)


def for_people(view: View) -> View:
    """What a view's services refuse becomes a page that says so, with the refusal's status."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except DeskError as refusal:
            return show(request, "shop/not_found.html", {"refusal": refusal}, refusal)

    return answer


def private(view: View) -> View:
    """Pages of one buyer: no cache keeps them, no search engine lists them."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        response["X-Robots-Tag"] = "noindex"
        return response

    return answer
