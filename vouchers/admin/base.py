"""What the desk's admin pages share: no table is counted in full, only what a person named is saved, ledgers
are read-only, and search is exact because that is what the indexes serve."""

from __future__ import annotations

import datetime as dt
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Model, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import capfirst

M = TypeVar("M", bound=Model)
Key = str | int | UUID
NOTHING = SafeString("-")  # Django says "None" on the page of a row


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # generic for the type checker only
    """Counts no further than people turn pages; `is_capped` says that there is more."""

    cap = 10_000

    @cached_property
    def _counted(self) -> int:
        rows = cast("QuerySet[Model]", self.object_list)
        return rows.order_by()[: self.cap + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.cap)

    @property
    def is_capped(self) -> bool:
        return self._counted > self.cap


class DeskAdmin(admin.ModelAdmin, Generic[M]):  # type: ignore[type-arg]  # generic for the type checker only
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    view_on_site = False

    class Media:
        css = {"all": ["vouchers/admin.css"]}

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        # So that "changed" means changed by this person, not by somebody else since the page was opened.
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field:
            field.show_hidden_initial = True
        return field

    def save_model(self, request: HttpRequest, obj: M, form: ModelForm[M], change: bool) -> None:
        """Writes the columns this person changed: the others may have moved on since the page was opened."""
        if change:
            obj.save(update_fields=form.changed_data)
        else:
            obj.save(force_insert=True)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        return super().changelist_view(request, title | (extra_context or {}))

    def beside(self, request: HttpRequest, row: M) -> dict[str, Any]:
        """What the page of a row shows beside its columns, for the template."""
        return {}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: M | None = None,
    ) -> HttpResponse:
        if obj:
            context |= self.beside(request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def form_page(
        self, request: HttpRequest, template: str, form: forms.Form, title: str, **context: Any
    ) -> TemplateResponse:
        """A page of ours that looks like the admin's own; `template` extends `admin/desk_form.html`."""
        return TemplateResponse(
            request,
            template,
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": title,
                "form": form,
                "adminform": AdminForm(cast(Any, form), [(None, {"fields": list(form.fields)})], {}),
                "media": self.media + form.media,
                **context,
            },
        )


class LedgerAdmin(DeskAdmin[M]):
    """Rows that services write and people read."""

    # Any other order would sort the whole table.
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[M], search_term: str
    ) -> tuple[QuerySet[M], bool]:
        term = search_term.strip()
        if term:
            queryset = queryset.filter(reduce(or_, (Q((lookup, term)) for lookup in self.search_fields)))
        return queryset, False


class OutboxAdmin(LedgerAdmin[M]):
    """A ledger of what is to be sent: rows with a status, and the times when they are due and were sent."""

    @admin.display(description="status, when")
    def state(self, row: Any) -> SafeString:
        due = None if row.status == "failed" else f"due {minute(row.due_at)}"
        return with_note(self.status_badge(row), minute(row.sent_at) or due)

    @admin.display(description="status")
    def status_badge(self, row: Any) -> SafeString:
        return badge(row.status, row.get_status_display())


def page_of(row: Model) -> str:
    return page(type(row), row.pk)


def page(model: type[Model], pk: Key) -> str:
    return reverse(_name(model, "change"), args=[quote(pk)])


def list_of(model: type[Model], **filters: Key) -> str:
    return _with_query(reverse(_name(model, "changelist")), filters)


def add_to(model: type[Model], **initial: Key) -> str:
    return _with_query(reverse(_name(model, "add")), initial)


def _name(model: type[Model], view: str) -> str:
    return f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}"


def _with_query(address: str, query: dict[str, Key]) -> str:
    return f"{address}?{urlencode({name: str(value) for name, value in query.items()})}" if query else address


def link(address: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', address, text)


def link_to(model: type[Model], pk: Key | None, text: str = "") -> SafeString:
    """A link to a row by its key alone, so that a list needs no join for it."""
    if pk is None:
        return NOTHING
    return link(page(model, pk), text or pk)


def badge(status: str, label: object) -> SafeString:
    return format_html('<span class="desk-badge desk-{}">{}</span>', status, label)


def with_note(value: object, note: object) -> SafeString:
    """A cell of two lines, the second one quiet: what belongs together fits beside the filters."""
    return format_html('{}<br><span class="quiet">{}</span>', value, note or "")


def day(date: dt.date | None) -> str | None:
    return date.isoformat() if date else None


def minute(moment: dt.datetime | None) -> str | None:
    """As short as a list needs it."""
    return date_format(timezone.localtime(moment), "Y-m-d H:i") if moment else None
