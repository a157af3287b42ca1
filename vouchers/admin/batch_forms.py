"""What staff fill in to get codes into a pool: an upload, or a pattern to generate them by."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from django import forms
from django.conf import settings
from django.contrib.admin.widgets import AdminDateWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import MinValueValidator
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from courses.models import Course
from vouchers.generating import DEFAULT_PATTERN, NUMBER_MAX
from vouchers.importing.reading import opened, sha256_of
from vouchers.importing.storing import Upload
from vouchers.models import Batch


class PoolForm(forms.Form):
    """What both ask for."""

    course = forms.ModelChoiceField(Course.objects.order_by("id"), empty_label="Choose a course")
    expires_on = forms.DateField(
        required=False,
        widget=AdminDateWidget,
        validators=[MinValueValidator(timezone.localdate, "This day is already past.")],
        help_text="The last valid day; empty: they do not expire.",
    )


class UploadForm(PoolForm):
    file = forms.FileField(
        required=False,
        help_text="CSV, TSV, text, XLSX or JSON: one code a line, or a first line that names the columns, "
        "such as <code>code,expiresOn</code>; the expiry of a line counts before the one below.",
    )
    text = forms.CharField(
        label="Or paste the codes",
        required=False,
        widget=forms.Textarea(attrs={"rows": 10, "class": "vLargeTextField desk-codes", "spellcheck": "false"}),
        help_text="One a line.",
    )
    field_order = ["course", "file", "text", "expires_on"]

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

    def upload(self, actor: str) -> tuple[Upload, BinaryIO]:
        """What to take in, and the file at its beginning."""
        given = self.cleaned_data["file"]
        file = opened(given) if given else io.BytesIO(self.cleaned_data["text"].encode())
        return Upload(
            course=self.cleaned_data["course"],
            actor=actor,
            source=Batch.Source.ADMIN,
            expires_on=self.cleaned_data["expires_on"],
            file_name=given.name if given else "pasted text",
            sha256=sha256_of(file),
        ), file


class GenerateForm(PoolForm):
    number = forms.IntegerField(min_value=1, max_value=NUMBER_MAX, initial=100)
    pattern = forms.CharField(
        max_length=200,
        initial=DEFAULT_PATTERN,
        strip=False,
        widget=AdminTextInputWidget(attrs={"class": "vTextField desk-codes", "spellcheck": "false"}),
        help_text="<code>{course}</code>, <code>{random:6}</code> for random characters, <code>{serial:3}</code> for "
        "a number of at least three digits; everything else stays as it is.",
    )
    insist = forms.BooleanField(
        required=False,
        label="Generate them though they can be guessed",
        help_text="For a pattern with too few random characters, where you know why.",
    )
    field_order = ["course", "number", "pattern", "expires_on", "insist"]

    def upload(self, actor: str) -> Upload:
        return Upload(
            course=self.cleaned_data["course"],
            actor=actor,
            source=Batch.Source.GENERATED,
            expires_on=self.cleaned_data["expires_on"],
            pattern=self.cleaned_data["pattern"],
        )
