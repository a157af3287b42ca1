"""Pages that keep themselves up to date: the browser asks for them again every few seconds, only while somebody
looks, and gets the part that changes, or 304 when nothing did. To make a page live:

1. Its template has, where the changing part is: `{% include "admin/live.html" with fragment="admin/…/progress.html" %}`
   (and `every=5` for another interval than 3 seconds). The fragment is a template for the page's own context.
2. Its view ends in `return live_page(request, response, "admin/…/progress.html")`, where `response` is the
   TemplateResponse of the whole page; or in `live_answer` where `request.htmx`, where there is no such response.
3. When the watched thing is over, `finished=True` makes the browser load the whole page, once more and for the
   last time: that page may then not include `admin/live.html` again.

In a fragment: no CSRF token and no time of day (its ETag would never be the same), an `id` for what may move. Numbers
in a `td`, `th` or `dd` are highlighted for a moment when they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers, set_response_etag
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails


class HtmxRequest(HttpRequest):
    htmx: HtmxDetails


def live_page(request: HttpRequest, page: HttpResponse, fragment: str, *, finished: bool = False) -> HttpResponse:
    """The page as it is, or its fragment where the page itself asks again. Redirects pass."""
    patch_vary_headers(page, ["HX-Request"])
    if not cast(HtmxRequest, request).htmx or not isinstance(page, TemplateResponse):
        return page
    return live_answer(request, fragment, page.context_data or {}, finished=finished)


def live_answer(
    request: HttpRequest, fragment: str, context: Mapping[str, Any], *, finished: bool = False
) -> HttpResponse:
    """The fragment with its ETag, 304 where the browser has it already; `finished`: an order to load the page anew."""
    if finished:
        return HttpResponseClientRefresh()
    response = render(request, fragment, dict(context))
    patch_vary_headers(response, ["HX-Request"])
    patch_cache_control(response, private=True, no_cache=True)
    set_response_etag(response)
    return cast(HttpResponse, get_conditional_response(request, etag=response["ETag"], response=response))
