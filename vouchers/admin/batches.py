"""The batches: the page on which staff upload codes, the verdict on what they uploaded, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from courses.models import Course
from vouchers.admin.base import LedgerAdmin, badge, link_to, minute, page_of, with_note
from vouchers.admin.batch_forms import GenerateForm, UploadForm
from vouchers.admin.courses import may_upload
from vouchers.admin.live import HtmxRequest, live_page
from vouchers.admin.revealing import may_reveal
from vouchers.api.documents import rejected_csv
from vouchers.errors import DeskError, InvalidRequest
from vouchers.generating import preview
from vouchers.importing import steps
from vouchers.importing.storing import rejected_lines
from vouchers.models import Batch, RejectedLine

REJECTED_SHOWN = 200


@admin.register(Batch)
class BatchAdmin(LedgerAdmin[Batch]):
    list_display = ["id", "course_link", "file", "state", "stored", "rejected", "uploaded"]
    list_display_links = ["id"]
    list_filter = ["status", "source", "course"]
    readonly_fields = ["course_link"]

    def get_urls(self) -> list[URLPattern]:
        def route(name: str, view: Callable[..., Any]) -> URLPattern:
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"vouchers_batch_{name}")

        generate = path("generate/", self.admin_site.admin_view(self.generate_view), name="vouchers_batch_generate")
        return [
            generate,
            route("confirm", self.confirm_view),
            route("cancel", self.cancel_view),
            route("undo", self.undo_view),
            route("rejected", self.rejected_view),
            *super().get_urls(),
        ]

    def get_fields(self, request: HttpRequest, obj: Batch | None = None) -> list[Any]:
        origin = ["pattern", "wanted"] if obj and obj.source == Batch.Source.GENERATED else ["file_name", "sha256"]
        return ["course_link", *origin, "actor", "source", "expires_on", "created_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_upload(request)

    def has_view_permission(self, request: HttpRequest, obj: Batch | None = None) -> bool:
        """Who uploads sees the verdict on it, too."""
        return super().has_view_permission(request, obj) or (
            may_upload(request) and (obj is None or is_own(request, obj))
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        batches = super().get_queryset(request)
        if super().has_view_permission(request):
            return batches
        return batches.filter(actor=request.user.get_username())

    def has_undo_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vouchers.undo_batch")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self._only_for_uploaders(request)
        form = UploadForm(request.POST or None, request.FILES or None, initial=request.GET.dict())
        if form.is_valid():
            with transaction.atomic():  # the upload and its log entry
                batch = steps.begin_upload(*form.upload(request.user.get_username()))
                self.log_addition(request, batch, f"Uploaded {batch.file_name} to be checked.")
            return self._carry_on(batch)
        return self.form_page(request, "admin/vouchers/batch/upload.html", form, "Upload codes")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = {"title": f"Batch {object_id}", "subtitle": None}
        page = super().change_view(request, object_id, form_url, title | (extra_context or {}))
        running = isinstance(page, TemplateResponse) and (page.context_data or {}).get("is_running")
        return live_page(request, page, "admin/vouchers/batch/state.html", finished=not running)

    def generate_view(self, request: HttpRequest) -> HttpResponse:
        self._only_for_uploaders(request)
        form = GenerateForm(request.POST or None, initial=request.GET.dict())
        if cast(HtmxRequest, request).htmx:
            return render(request, "admin/vouchers/batch/preview.html", seen(form))
        if form.is_valid():
            try:
                return self._generate(request, form)
            except InvalidRequest as refusal:
                for field, faults in (refusal.fields or {}).items():
                    form.add_error(field, list(faults))
        return self.form_page(request, "admin/vouchers/batch/generate.html", form, "Generate codes")

    def _generate(self, request: HttpRequest, form: GenerateForm) -> HttpResponse:
        number = form.cleaned_data["number"]
        with transaction.atomic():  # the deed and its log entry
            upload = form.upload(request.user.get_username())
            batch = steps.begin_generation(upload, number, insist=form.cleaned_data["insist"])
            self.log_addition(request, batch, f"Asked for {number} codes to be generated.")
        return self._carry_on(batch)

    @method_decorator(require_POST)
    def confirm_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._only_for_uploaders(request)
        return self._deed(request, pk, steps.confirm, "Confirmed.")

    @method_decorator(require_POST)
    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._only_for_uploaders(request)
        return self._deed(request, pk, steps.cancel, "Cancelled.")

    def undo_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks first: whoever holds a printed copy of these codes cannot use them any more."""
        if not self.has_undo_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._deed(request, pk, steps.undo, "Asked to undo it: its codes leave the pool.")
        batch = self._seen(request, pk)
        return self.form_page(
            request,
            "admin/vouchers/batch/undo.html",
            forms.Form(),
            f"Undo batch {pk}",
            batch=batch,
            back=page_of(batch),
        )

    def _deed(self, request: HttpRequest, pk: int, deed: Callable[[Batch], None], entry: str) -> HttpResponse:
        batch = self._seen(request, pk)
        try:
            with transaction.atomic():  # the deed and its log entry
                deed(batch)
                self.log_change(request, batch, entry)
        except DeskError as refusal:
            messages.error(request, refusal.message)
        return self._carry_on(batch)

    def rejected_view(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        batch = self._seen(request, pk)
        if not may_see_codes(request, batch):
            raise PermissionDenied
        return StreamingHttpResponse(
            rejected_csv(rejected_lines(batch)),
            content_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="batch-{batch.pk}-rejected.csv"',
                "Cache-Control": "no-store",
            },
        )

    def _only_for_uploaders(self, request: HttpRequest) -> None:
        if not self.has_add_permission(request):
            raise PermissionDenied

    def _seen(self, request: HttpRequest, pk: int) -> Batch:
        batch = get_object_or_404(Batch.objects.select_related("course"), pk=pk)
        if not self.has_view_permission(request, batch):
            raise PermissionDenied
        return batch

    def _carry_on(self, batch: Batch) -> HttpResponse:
        steps.carry_on_if_small(batch)
        return redirect(page_of(batch))

    def beside(self, request: HttpRequest, row: Batch) -> dict[str, Any]:
        may_store = self.has_add_permission(request)
        return {
            "is_running": row.status in Batch.RUNNING,
            "shares": shares(row),
            "same_file": steps.batches_of_the_same_file(row) if row.status == Batch.Status.CHECKED else [],
            "rejected_lines": row.rejected_lines.order_by("line")[:REJECTED_SHOWN],
            "rejected_shown": REJECTED_SHOWN,
            "may_store": may_store,
            "may_undo": self.has_undo_permission(request) and row.inserted,
            "may_see_codes": may_see_codes(request, row),
            "may_see_vouchers": request.user.has_perm("vouchers.view_voucher"),
        }

    @admin.display(description="course", ordering="course_id")
    def course_link(self, batch: Batch) -> SafeString:
        return link_to(Course, batch.course_id, batch.course_id)

    @admin.display(description="when, by")
    def uploaded(self, batch: Batch) -> SafeString:
        return with_note(minute(batch.created_at), batch.actor)

    @admin.display(description="file")
    def file(self, batch: Batch) -> str:
        return batch.file_name or batch.pattern or "-"

    @admin.display(description="status")
    def state(self, batch: Batch) -> SafeString:
        return badge(batch.status, batch.get_status_display())

    @admin.display(description="stored")
    def stored(self, batch: Batch) -> int:
        return batch.inserted if batch.status in (Batch.Status.STORED, Batch.Status.UNDOING) else 0

    @admin.display(description="rejected")
    def rejected(self, batch: Batch) -> int:
        return batch.duplicates + batch.invalid


def is_own(request: HttpRequest, batch: Batch) -> bool:
    return batch.actor == request.user.get_username()


def may_see_codes(request: HttpRequest, batch: Batch) -> bool:
    """A code that waits to be confirmed, or is a duplicate of one in a pool, is as good as money."""
    return may_reveal(request) or is_own(request, batch)


def seen(form: GenerateForm) -> dict[str, Any]:
    """What codes of the form would look like, while it is being filled in."""
    form.is_valid()
    given = form.cleaned_data
    if not all(given.get(name) for name in ("course", "number", "pattern")):
        return {}
    try:
        return {"preview": preview(given["course"], given["pattern"], given["number"])}
    except InvalidRequest as refusal:
        return {"fault": refusal.message}


@dataclass(frozen=True)
class Share:
    """One of the kinds into which the lines of a batch fall; `start` and `percent` are of all lines, in percent."""

    label: str
    mark: str
    number: int
    start: float
    percent: float


# What the new lines of a batch became, and how that is marked.
BECAME: dict[str, tuple[str, str]] = {
    Batch.Status.CHECKED: ("new", "good"),
    Batch.Status.STORED: ("stored", "good"),
    Batch.Status.UNDOING: ("stored", "good"),
    Batch.Status.UNDONE: ("taken out", "calm"),
}


def shares(batch: Batch) -> list[Share]:
    """What became of the lines that were read, or would become of them; for the bar and the figures above it."""
    kinds = [
        (*BECAME.get(batch.status, ("new", "")), batch.inserted),
        ("repeated here", "repeated", batch.repeated),
        ("already in a pool", "duplicate", batch.duplicates - batch.repeated),
        ("malformed", "invalid", batch.invalid),
    ]
    found = []
    start = 0.0
    for label, mark, number in kinds:
        percent = 100 * number / batch.read if batch.read else 0.0
        found.append(Share(label, mark, number, start, percent))
        start += percent
    return found


@admin.register(RejectedLine)
class RejectedLineAdmin(LedgerAdmin[RejectedLine]):
    """Reached from a batch, and part of what may be seen of one."""

    list_display = ["line", "code", "kind_badge", "reason", "batch_link"]
    list_display_links = None
    list_filter = ["kind"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: RejectedLine | None = None) -> bool:
        return request.user.has_perm("vouchers.view_batch") and may_reveal(request)

    @admin.display(description="kind")
    def kind_badge(self, rejected: RejectedLine) -> SafeString:
        return badge(rejected.kind, rejected.get_kind_display())

    @admin.display(description="batch")
    def batch_link(self, rejected: RejectedLine) -> SafeString:
        return link_to(Batch, rejected.batch_id)
