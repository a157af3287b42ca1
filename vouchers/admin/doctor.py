"""The doctor's page: what the last checkup found, a button that heals it, and one that looks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from vouchers.admin.base import NOTHING, LedgerAdmin, link_to, minute
from vouchers.admin.live import live_page
from vouchers.doctor.check import Check
from vouchers.doctor.rounds import CHECKS, Finding, ask_for_checkup, check_up, heal, is_running
from vouchers.errors import DeskError
from vouchers.models import Checkup
from vouchers.support.people import people_of

EARLIER = 10
REFUSALS_SAID = 10
STATE = "admin/doctor/state.html"


@dataclass(frozen=True)
class Line:
    """A check as the page shows it, and what it found, if it did."""

    check: Check
    finding: Finding | None

    @property
    def more(self) -> int:
        """Breaks that are not spelled out."""
        return self.finding["count"] - len(self.finding["sentences"]) if self.finding else 0


@admin.register(Checkup)
class CheckupAdmin(LedgerAdmin[Checkup]):
    """Single checkups; the list of them is the doctor's page."""

    fields = ["started", "finished", "by", "broken"]
    readonly_fields = ["started", "finished", "by", "broken"]

    def changelist_view(self, request: HttpRequest, extra_context: object = None) -> HttpResponse:
        return redirect("admin:doctor")

    @admin.display(description="begun")
    def started(self, checkup: Checkup) -> str | None:
        return minute(checkup.started_at)

    @admin.display(description="finished", empty_value="not yet")
    def finished(self, checkup: Checkup) -> str | None:
        return minute(checkup.finished_at)

    @admin.display(description="asked for by")
    def by(self, checkup: Checkup) -> str:
        return people_of([checkup.actor]).name(checkup.actor)

    @admin.display(description="what is broken")
    def broken(self, checkup: Checkup) -> SafeString:
        sentences = [(sentence,) for finding in checkup.findings for sentence in finding["sentences"]]
        return format_html_join("", "<div>{}</div>", sentences) or NOTHING


def doctor_view(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("vouchers.view_checkup"):
        raise PermissionDenied
    if request.method == "POST":
        _do(request)
        return redirect("admin:doctor")
    checkups = list(Checkup.objects.all()[: EARLIER + 1])
    running = bool(checkups) and is_running(checkups[0])
    page = TemplateResponse(request, "admin/doctor/page.html", _context(request, checkups, running=running))
    return live_page(request, page, STATE, finished=not running)


def _context(request: HttpRequest, checkups: list[Checkup], *, running: bool) -> dict[str, object]:
    last = checkups[0] if checkups else None
    people = people_of(checkup.actor for checkup in checkups)
    found = {finding["check"]: finding for finding in last.findings} if last else {}
    lines = [Line(check, found.get(check.name)) for check in CHECKS]
    return {
        **admin.site.each_context(request),
        "title": "The books",
        "last": last,
        "by": people.name(last.actor) if last else "",
        "is_running": running,
        "broken": [line for line in lines if line.finding],
        "well": [line for line in lines if not line.finding],
        "may_heal": request.user.has_perm("vouchers.add_checkup"),
        "earlier": [(_link(checkup), people.name(checkup.actor), _breaks(checkup)) for checkup in checkups[1:]],
    }


def _link(checkup: Checkup) -> SafeString:
    return link_to(Checkup, checkup.pk, minute(checkup.started_at) or "")


def _breaks(checkup: Checkup) -> str:
    if checkup.finished_at is None:
        return "did not finish"
    broken = sum(finding["count"] for finding in checkup.findings)
    return f"{broken} break{pluralize(broken)}" if broken else "all was well"


def _do(request: HttpRequest) -> None:
    """Heals the breaks of one check where one is named; looks at the books again in any case."""
    if not request.user.has_perm("vouchers.add_checkup"):
        raise PermissionDenied
    actor = f"user:{request.user.pk}"
    checkups = cast("LedgerAdmin[Checkup]", admin.site.get_model_admin(Checkup))
    if "heal" in request.POST:
        # Before the books are gone through again, which may take long or fail.
        found = Checkup.objects.first() or check_up(actor)
        checkups.log_change(request, found, _heal(request, request.POST["heal"], actor))
    checkups.log_change(request, ask_for_checkup(actor), "Asked for.")


def _heal(request: HttpRequest, name: str, actor: str) -> str:
    """What is to be said of it in the log."""
    try:
        result = heal(name, actor)
    except DeskError as refusal:
        messages.error(request, refusal.message)
        return refusal.message
    if result.healed:
        messages.success(request, f"{result.healed} break{pluralize(result.healed)} healed.")
    for sentence in result.left[:REFUSALS_SAID]:
        messages.error(request, sentence)
    left = f"; {len(result.left)} left to a person" if result.left else ""
    return f"Healed {result.healed} of {name}{left}."


urlpatterns = [path("", admin.site.admin_view(doctor_view), name="doctor")]
