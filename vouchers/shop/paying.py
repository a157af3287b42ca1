"""The checkout, and the test payment of a desk without any provider's keys."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import get_language
from django.views.decorators.http import require_http_methods

from courses.models import Course, Purchase
from courses.money import in_words, places
from vouchers.errors import DeskError, ProviderUnreachable
from vouchers.guesses import Guesser
from vouchers.issuing import find_course
from vouchers.payments.checkout import start_checkout
from vouchers.payments.providers import ready_providers
from vouchers.payments.stripe import demo
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.shop.forms import CheckoutForm
from vouchers.shop.offers import offer_of
from vouchers.shop.pages import for_people, in_buyers_language, private, show, speaking_for

form_page = require_http_methods(["GET", "HEAD", "POST"])


@in_buyers_language
@form_page
@private
@for_people
def checkout(request: HttpRequest, course_id: str) -> HttpResponse:
    course = find_course(course_id)
    if "update" in request.POST:  # without JavaScript, a button of its own asks for the total of another quantity
        return _show_checkout(request, course, CheckoutForm(initial=request.POST.dict()))
    form = CheckoutForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            return HttpResponseRedirect(_buy(course, form.cleaned_data, request.META.get("REMOTE_ADDR", "")))
        except DeskError as refusal:
            form.refuse(refusal)
            return _show_checkout(request, course, form, refusal)
    return _show_checkout(request, course, form)


def _buy(course: Course, wanted: dict[str, Any], address: str) -> str:
    """Redeems the voucher where there is one, else begins a payment; where the buyer goes next. Raises `DeskError`s."""
    if not wanted["code"]:
        begun = start_checkout(
            course=course,
            email=wanted["email"],
            quantity=wanted["quantity"],
            provider=wanted["provider"],
            language=get_language() or "",
        )
        return begun.redirect_url
    redemption = redeem_voucher(
        RedeemRequest(
            code=wanted["code"],
            guesser=Guesser.of_address(address),
            course_id=course.pk,
            email=wanted["email"],
            idempotency_key=wanted["request_key"],
            confirm=True,
            language=get_language() or "",
        )
    )
    return reverse("purchase", args=[redemption.purchase.token])


def _show_checkout(
    request: HttpRequest, course: Course, form: CheckoutForm, refusal: DeskError | None = None
) -> HttpResponse:
    offer = offer_of(course)
    context = {
        "offer": offer,
        "form": form,
        "total": offer.total_in_words(form.seats),
        "places": min(places(course.currency), 2),
        "providers": [] if offer.obstacle else [provider.name for provider in ready_providers()],
    }
    return show(request, "shop/checkout.html", context, refusal)


@in_buyers_language
@form_page
@private
def try_payment(request: HttpRequest, checkout: str) -> HttpResponse:
    """Stands in for the provider's own page, where nothing real can be paid."""
    if not settings.DEMO_PAYMENTS:
        raise Http404
    found = get_object_or_404(
        Purchase.objects.select_related("course"), provider=Purchase.Provider.STRIPE, checkout=checkout
    )
    with speaking_for(request, found.language):
        return _try_payment(request, found)


def _try_payment(request: HttpRequest, found: Purchase) -> HttpResponse:
    refusal = None
    if request.method == "POST" and _is_open(found):
        refusal = _tell(found, paid="pay" in request.POST)
    if refusal is None and (request.method == "POST" or not _is_open(found)):
        return redirect("purchase", found.token)
    context = {"purchase": found, "amount": in_words(found.amount, found.currency), "refusal": refusal}
    return show(request, "shop/test_payment.html", context, refusal)


def _is_open(purchase: Purchase) -> bool:
    return purchase.paid_at is None and purchase.failed_at is None


def _tell(purchase: Purchase, *, paid: bool) -> ProviderUnreachable | None:
    """Tells our own webhook what a buyer did; the refusal where it does not answer."""
    try:
        if paid:
            demo.pay(purchase)
        else:
            demo.give_up(purchase)
    except ProviderUnreachable as refusal:
        return refusal
    return None
