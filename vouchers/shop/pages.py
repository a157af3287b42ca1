"""What the shop's pages share: what each of them shows, and how it answers a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parseaddr
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from vouchers.errors import DeskError

View = Callable[..., HttpResponse]


def show(
    request: HttpRequest, template: str, context: Mapping[str, Any], refusal: DeskError | None = None
) -> HttpResponse:
    """A page, with the status of the refusal that it tells of."""
    shared = {"shop_name": parseaddr(settings.DEFAULT_FROM_EMAIL)[0], "demo": settings.DEMO_PAYMENTS}
    response = render(request, template, shared | dict(context), status=refusal.status if refusal else 200)
    if refusal and refusal.retry_after:
        response["Retry-After"] = str(refusal.retry_after)
    return response


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
