"""The pages to look at: the courses, one course, and what becomes of a purchase."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe
from django_htmx.middleware import HtmxDetails

from courses.models import Purchase
from vouchers.issuing import find_course
from vouchers.payments.paypal.returning import capture_returning
from vouchers.payments.progress import find_purchase
from vouchers.shop.following import shown
from vouchers.shop.offers import offer_of, offers
from vouchers.shop.pages import for_people, in_buyers_language, private, show, speaking_for


class HtmxRequest(HttpRequest):
    htmx: HtmxDetails


@in_buyers_language
@require_safe
def courses(request: HttpRequest) -> HttpResponse:
    return show(request, "shop/courses.html", {"offers": offers()})


@in_buyers_language
@require_safe
@for_people
def course(request: HttpRequest, course_id: str) -> HttpResponse:
    return show(request, "shop/course.html", {"offer": offer_of(find_course(course_id))})


@in_buyers_language
@require_safe
@private
@for_people
def purchase(request: HttpRequest, token: str) -> HttpResponse:
    """Follows a purchase: the whole page, or the part that changes where the page itself asks again."""
    found = find_purchase(token)
    with speaking_for(request, found.language):
        if is_back_from_paypal(request, found):
            capture_returning(found)
            return redirect("purchase", found.token)
        template = "shop/progress.html" if cast(HtmxRequest, request).htmx else "shop/purchase.html"
        response = show(request, template, shown(found))
    patch_vary_headers(response, ["HX-Request"])
    # The address is the key to the page, so that no other site and no log may see it.
    response["Referrer-Policy"] = "no-referrer"
    return response


def is_back_from_paypal(request: HttpRequest, found: Purchase) -> bool:
    """PayPal appends its order to the address; a page that is loaded again once it is paid is only looked at."""
    is_unpaid_order = found.provider == Purchase.Provider.PAYPAL and found.paid_at is None
    return is_unpaid_order and request.GET.get("token") == found.checkout
