"""The uploads: their reports, and the page on which staff upload codes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminDateWidget
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import MinValueValidator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat, pluralize
from django.utils import timezone
from django.utils.safestring import SafeString

from courses.models import Course
from vouchers.admin.base import LedgerAdmin, badge, link, link_to, list_of, minute, page_of
from vouchers.admin.courses import may_upload
from vouchers.errors import DeskError
from vouchers.importing.reading import Line, opened, read_file, read_text, sha256_of
from vouchers.importing.storing import Report, Upload, import_codes
from vouchers.models import Batch, RejectedLine, Voucher

REJECTED_SHOWN = 200


class UploadForm(forms.Form):
    course = forms.ModelChoiceField(Course.objects.order_by("id"), empty_label="Choose a course")
    file = forms.FileField(
        required=False,
        help_text="A text or CSV file in UTF-8: one code a line, or a first line that names the columns, "
        "such as <code>code,expiresOn</code>.",
    )
    text = forms.CharField(
        label="Or paste the codes",
        required=False,
        widget=forms.Textarea(attrs={"rows": 10, "class": "vLargeTextField desk-codes", "spellcheck": "false"}),
        help_text="One a line.",
    )
    expires_on = forms.DateField(
        required=False,
        widget=AdminDateWidget,
        validators=[MinValueValidator(timezone.localdate, "This day is already past.")],
        help_text="Last valid day of the codes that bring none of their own; empty: they do not expire.",
    )

    def clean_file(self) -> UploadedFile[Any] | None:
        file: UploadedFile[Any] | None = self.cleaned_data["file"]
        if file and file.size and file.size > settings.UPLOAD_MAX_BYTES:
            limit = filesizeformat(settings.UPLOAD_MAX_BYTES)
            raise ValidationError(f"The file is larger than {limit}. Upload it in parts, or with import_vouchers.")
        return file

    def clean(self) -> None:
        if "file" in self.errors:
            return
        given = [name for name in ("file", "text") if self.cleaned_data.get(name)]
        if not given:
            raise ValidationError("Choose a file or paste the codes.")
        if len(given) > 1:
            raise ValidationError("Choose a file or paste the codes, not both. Nothing was stored.")

    @property
    def upload(self) -> dict[str, Any]:
        file = self.cleaned_data["file"]
        return {
            "course": self.cleaned_data["course"],
            "expires_on": self.cleaned_data["expires_on"],
            "file_name": file.name if file else "",
            "sha256": sha256_of(opened(file)) if file else "",
        }

    @property
    def lines(self) -> Iterable[Line]:
        file = self.cleaned_data["file"]
        if file:
            return read_file(opened(file), file.name)
        return read_text(self.cleaned_data["text"])


@admin.register(Batch)
class BatchAdmin(LedgerAdmin[Batch]):
    list_display = [
        "id",
        "course_link",
        "file",
        "actor",
        "read",
        "inserted",
        "duplicates",
        "invalid",
        "when",
    ]
    list_display_links = ["id"]
    list_filter = ["source", "course"]
    fields = ["course_link", "file", "sha256", "actor", "source", "expires_on", "created_at", "vouchers_link"]
    readonly_fields = ["course_link", "file", "vouchers_link"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_upload(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None, initial=request.GET.dict())
        if form.is_valid():
            try:
                batch = self._store(request, form)
            except DeskError as refusal:
                form.add_error(None, f"{refusal.message} Nothing was stored.")
            else:
                return redirect(page_of(batch) if self.has_view_permission(request) else "admin:index")
        return self.form_page(request, "admin/vouchers/batch/upload.html", form, "Upload codes")

    def _store(self, request: HttpRequest, form: UploadForm) -> Batch:
        with transaction.atomic():  # the upload and its log entry
            report = import_codes(
                Upload(actor=request.user.get_username(), source=Batch.Source.ADMIN, **form.upload),
                form.lines,
            )
            batch = cast(Batch, report.batch)  # None only after a dry run
            self.log_addition(request, batch, f"Uploaded codes. {in_words(report)}")
        level = messages.SUCCESS if report.read == report.inserted else messages.WARNING
        messages.add_message(request, level, in_words(report))
        return batch

    def beside(self, request: HttpRequest, row: Batch) -> dict[str, Any]:
        lines = row.rejected_lines.order_by("line")[:REJECTED_SHOWN]
        return {"rejected_lines": lines, "rejected_shown": REJECTED_SHOWN}

    @admin.display(description="course", ordering="course_id")
    def course_link(self, batch: Batch) -> SafeString:
        return link_to(Course, batch.course_id, batch.course_id)

    @admin.display(description="when")
    def when(self, batch: Batch) -> str | None:
        return minute(batch.created_at)

    @admin.display(description="file")
    def file(self, batch: Batch) -> str:
        return batch.file_name or "-"

    @admin.display(description="vouchers")
    def vouchers_link(self, batch: Batch) -> SafeString:
        return link(list_of(Voucher, batch__id__exact=batch.pk), "All vouchers of this batch")


def in_words(report: Report) -> str:
    counts = (
        f"{report.read} read: {report.inserted} stored, "
        f"{report.duplicates} duplicate{pluralize(report.duplicates)}, {report.invalid} invalid."
    )
    if report.filled:
        counts += f" {report.filled} waiting buyer{pluralize(report.filled)} got a code of these."
    return counts


@admin.register(RejectedLine)
class RejectedLineAdmin(LedgerAdmin[RejectedLine]):
    """Reached from a batch, and part of what may be seen of one."""

    list_display = ["line", "code", "kind_badge", "reason", "batch_link"]
    list_display_links = None
    list_filter = ["kind"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: RejectedLine | None = None) -> bool:
        return request.user.has_perm("vouchers.view_batch")

    @admin.display(description="kind")
    def kind_badge(self, rejected: RejectedLine) -> SafeString:
        return badge(rejected.kind, rejected.get_kind_display())

    @admin.display(description="batch")
    def batch_link(self, rejected: RejectedLine) -> SafeString:
        return link_to(Batch, rejected.batch_id)
