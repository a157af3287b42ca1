"""The support desk: one search for what a buyer tells, and one page for what became of it, with what can be done.

Whoever may see vouchers, issuances or purchases may look; every deed has a permission of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from config.admin import may_search
from courses.models import Purchase
from vouchers.admin.base import DeskAdmin, page_of
from vouchers.admin.deeds import carry_out, send_again
from vouchers.admin.erasing import may_erase
from vouchers.admin.revealing import may_reveal
from vouchers.admin.support_forms import CorrectForm, NoteForm, ReplaceForm
from vouchers.codes import clean_code
from vouchers.correcting import correct_address
from vouchers.errors import NotReplaceable
from vouchers.models import Issuance, Voucher
from vouchers.payments.deeds import return_voucher
from vouchers.replacing import replace_voucher
from vouchers.support import possible
from vouchers.support.answering import answer_of, seats_of
from vouchers.support.cases import (
    Case,
    case_of_issuance,
    case_of_purchase,
    case_of_voucher,
    issuance_of_voucher,
    voucher_of_purchase,
)
from vouchers.support.entries import NOTE
from vouchers.support.searching import AROUND, SHORTEST_PART, SHOWN, Subject, find_cases
from vouchers.support.timeline import timeline_of
from vouchers.tombstones import is_tombstone

P = ParamSpec("P")
M = TypeVar("M", bound=Model)
View = Callable[Concatenate[HttpRequest, P], HttpResponse]


def for_support(*permissions: str) -> Callable[[View[P]], View[P]]:
    """A page for whoever may search, and has one of these permissions where any are named; a case that is not there is
    not found."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def allowed(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if not may_search(request) or (permissions and not _has_any(request, permissions)):
                raise PermissionDenied
            try:
                return view(request, *args, **kwargs)
            except ObjectDoesNotExist:
                raise Http404 from None

        return cast(View[P], admin.site.admin_view(cast(Any, allowed)))

    return decorate


RESEND, CORRECT, REPLACE, REVOKE, REVEAL = (
    "vouchers.resend_voucher",
    "vouchers.correct_address",
    "vouchers.replace_voucher",
    "vouchers.revoke_voucher",
    "vouchers.reveal_voucher",
)
REFUND, CHANGE = "courses.refund_purchase", "vouchers.change_voucher"


def _has_any(request: HttpRequest, permissions: Iterable[str]) -> bool:
    return any(request.user.has_perm(permission) for permission in permissions)


@for_support()
@require_GET
def search_view(request: HttpRequest) -> HttpResponse:
    term = request.GET.get("q", "").strip()
    found = find_cases(term, any_part=may_reveal(request))
    if len(found.hits) == 1 and not found.has_more:
        return redirect(case_page(found.hits[0].subject))
    hits = [(hit, case_page(hit.subject)) for hit in found.hits]
    context = {"term": term, "hits": hits, "has_more": found.has_more, "shown": SHOWN, "shortest": SHORTEST_PART}
    return _page(request, "search", "Where is the code?", **context)


@for_support()
@require_POST
def find_view(request: HttpRequest) -> HttpResponse:
    """Where the search box leads: by POST, because a whole code does not belong into an address."""
    term = request.POST.get("q", "").replace("\x00", "").strip()
    voucher = Voucher.objects.with_code(clean_code(term).strip(AROUND)).first()
    if voucher:
        return redirect(case_page(voucher))
    return redirect(f"{reverse('admin:support_search')}?{urlencode({'q': term})}")


@for_support()
@require_GET
def issuance_view(request: HttpRequest, pk: int) -> HttpResponse:
    return _case_page(request, case_of_issuance(pk))


@for_support()
@require_GET
def purchase_view(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Of a payment; a free purchase is part of the case of its voucher."""
    spent = voucher_of_purchase(pk)
    if spent:
        return redirect("admin:support_voucher", spent)
    return _case_page(request, case_of_purchase(pk))


@for_support()
@require_GET
def voucher_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Of a voucher that nobody is owed; any other is part of the case of its issuance."""
    issuance = issuance_of_voucher(pk)
    if issuance:
        return redirect("admin:support_issuance", issuance)
    return _case_page(request, case_of_voucher(pk))


def _case_page(request: HttpRequest, case: Case) -> HttpResponse:
    return _page(
        request,
        "case",
        _title(case),
        case=case,
        answer=answer_of(case),
        may=_may(request, case),
        correctable=next((seat for seat in case.seats if possible.can_correct(seat)), None),
        seats=seats_of(case) if isinstance(case.subject, Purchase) else [],
        entries=[(entry, _link(request, entry.about), _label(entry.about)) for entry in timeline_of(case)],
        row_page=_link(request, case.subject),
        row=_label(case.subject),
    )


def _title(case: Case) -> str:
    if isinstance(case.subject, Voucher):
        return f"Where is voucher {case.subject.pk}?"
    of = "purchase" if isinstance(case.subject, Purchase) else "voucher"
    return f"Where is the {of} of {case.subject.email or 'an unknown buyer'}?"


def _may(request: HttpRequest, case: Case) -> dict[str, bool]:
    """What this person may do, and what can be done."""
    able = request.user.has_perm
    issuance, voucher, purchase = case.issuance, case.voucher, case.purchase
    return {
        "resend": able(RESEND) and issuance is not None and possible.can_resend(issuance),
        "correct": able(CORRECT) and any(map(possible.can_correct, case.seats)),
        "replace": able(REPLACE) and issuance is not None and possible.can_replace(issuance),
        "revoke": able(REVOKE) and able("vouchers.view_voucher") and bool(voucher and possible.can_revoke(voucher)),
        "return": able(REVOKE) and issuance is not None and possible.can_return(case, issuance),
        "refund": able(REFUND) and able("courses.view_purchase") and bool(purchase and possible.can_refund(purchase)),
        "reveal": able(REVEAL) and voucher is not None,
        "erase": may_erase(request) and can_be_erased(case),
        "note": _has_any(request, [REFUND, CHANGE]) and not isinstance(case.subject, Voucher),
    }


def can_be_erased(case: Case) -> bool:
    email = "" if isinstance(case.subject, Voucher) else case.subject.email
    return bool(email) and not is_tombstone(email)


def _link(request: HttpRequest, row: Model | None) -> str:
    """The page of a row, for whoever may see it; empty for everybody else."""
    if row is None or not request.user.has_perm(f"{row._meta.app_label}.view_{row._meta.model_name}"):
        return ""
    return page_of(row)


def _label(row: Model | None) -> str:
    """What a link to a row says; a payment's reference is too long for that."""
    return "Purchase" if isinstance(row, Purchase) else str(row)


def _page(request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
    context |= {**admin.site.each_context(request), "title": title, "zone": settings.TIME_ZONE}
    return TemplateResponse(request, f"admin/support/{template}.html", context)


def case_page(row: Subject) -> str:
    """The page of the support desk about a row."""
    return reverse(f"admin:support_{row._meta.model_name}", args=[row.pk])


def admin_of(model: type[M]) -> DeskAdmin[M]:
    return cast(DeskAdmin[M], admin.site.get_model_admin(model))


def log(request: HttpRequest, row: Model, words: str) -> None:
    admin_of(type(row)).log_change(request, row, words)


def _issuance(pk: int) -> Issuance:
    return get_object_or_404(Issuance.objects.select_related("voucher", "course", "purchase"), pk=pk)


@for_support(RESEND)
@require_POST
def resend_view(request: HttpRequest, pk: int) -> HttpResponse:
    issuance = _issuance(pk)
    send_again(admin_of(Issuance), request, [issuance])
    return redirect(case_page(issuance))


@for_support(CORRECT)
def correct_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks for the right address; then corrects and sends, in one go."""
    issuance = _issuance(pk)
    others = possible.open_seats(issuance)
    form = CorrectForm(request.POST or None, issuance=issuance, others=len(others))
    if not form.is_valid():
        return _form_page(request, "correct", form, "Correct the address and resend", issuance)
    email = form.cleaned_data["email"]

    def deed(seat: Issuance) -> None:
        delivery = correct_address(seat, email=email, actor=f"user:{request.user.pk}")
        sent = f"sent its email there (delivery {delivery.pk})" if delivery else "had no email to send"
        log(request, seat.voucher or seat, f"Corrected the address of issuance {seat.pk} and {sent}.")

    seats = [issuance, *others] if form.cleaned_data.get("all_seats") else [issuance]
    done = carry_out(request, sorted(seats, key=lambda seat: seat.pk), deed)
    if done:
        what = "Address" if done == 1 else f"Address of {done} seats"
        messages.success(request, f"{what} corrected to {email}; what can be sent is on its way there.")
    return redirect(case_page(issuance))


@for_support(REPLACE)
def replace_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks for the reason; then revokes the code and issues another one, in one go."""
    issuance = _issuance(pk)
    form = ReplaceForm(request.POST or None, initial={"voucher": issuance.voucher_id})
    if not form.is_valid():
        return _form_page(request, "replace", form, "Replace the code", issuance)
    reason, meant = form.cleaned_data["reason"], form.cleaned_data["voucher"]

    def deed(issuance: Issuance) -> None:
        old = Issuance.objects.lock(issuance.pk).voucher
        if old is None or old.pk != meant:
            raise NotReplaceable(f"The code of issuance {issuance.pk} was replaced meanwhile. Nothing was done now.")
        new = replace_voucher(issuance, reason=reason, actor=f"user:{request.user.pk}")
        log(request, old, f"Replaced the code of issuance {issuance.pk} by voucher {new.pk}: {reason}")

    if carry_out(request, [issuance], deed):
        messages.success(request, "The code is replaced: the old one is revoked, the new one is on its way by email.")
    return redirect(case_page(issuance))


@for_support(REVOKE)
@require_POST
def return_view(request: HttpRequest, pk: int) -> HttpResponse:
    issuance = _issuance(pk)

    def deed(issuance: Issuance) -> None:
        return_voucher(issuance)
        log(request, issuance, f"Put the code of voucher {issuance.voucher_id} back into the pool.")

    if carry_out(request, [issuance], deed):
        messages.success(request, "The code is back in the pool.")
    return redirect(case_page(issuance))


@for_support(REFUND, CHANGE)
@require_POST
def note_on_issuance_view(request: HttpRequest, pk: int) -> HttpResponse:
    return _note(request, _issuance(pk))


@for_support(REFUND, CHANGE)
@require_POST
def note_on_purchase_view(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _note(request, get_object_or_404(Purchase, pk=pk))


def _note(request: HttpRequest, row: Issuance | Purchase) -> HttpResponse:
    form = NoteForm(request.POST)
    if form.is_valid():
        log(request, row, NOTE + form.cleaned_data["text"])
        messages.success(request, "The note is in the history.")
    else:
        messages.error(request, "Write a note of up to 1000 characters. Nothing was kept.")
    return redirect(case_page(row))


def _form_page(request: HttpRequest, template: str, form: Any, title: str, issuance: Issuance) -> HttpResponse:
    context = {"issuance": issuance, "back": case_page(issuance)}
    return admin_of(Issuance).form_page(request, f"admin/support/{template}.html", form, title, **context)


urlpatterns = [
    path("", search_view, name="support_search"),
    path("find/", find_view, name="support_find"),
    path("issuance/<int:pk>/", issuance_view, name="support_issuance"),
    path("issuance/<int:pk>/resend/", resend_view, name="support_resend"),
    path("issuance/<int:pk>/correct/", correct_view, name="support_correct"),
    path("issuance/<int:pk>/replace/", replace_view, name="support_replace"),
    path("issuance/<int:pk>/return/", return_view, name="support_return"),
    path("issuance/<int:pk>/note/", note_on_issuance_view, name="support_issuance_note"),
    path("purchase/<uuid:pk>/", purchase_view, name="support_purchase"),
    path("purchase/<uuid:pk>/note/", note_on_purchase_view, name="support_purchase_note"),
    path("voucher/<int:pk>/", voucher_view, name="support_voucher"),
]
