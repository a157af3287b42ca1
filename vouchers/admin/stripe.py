"""Of dj-stripe's sixty tables the desk uses these: keys, endpoints, and the events as they came."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from djstripe.admin import admin as of_library  # registers them all, before it is undone here
from djstripe.models import Account, APIKey, Event, WebhookEndpoint, WebhookEventTrigger

from vouchers.admin.base import CappedPaginator

USED = {Account, APIKey, WebhookEndpoint}

for model in apps.get_app_config("djstripe").get_models():
    if model not in USED and admin.site.is_registered(model):
        admin.site.unregister(model)


class LongList:
    """Several rows a payment: not counted in full, not sorted, and filtered by nothing that the library does not index,
    whose tables are to stay as it makes them."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()


@admin.register(Event)
class EventAdmin(LongList, of_library.EventAdmin):  # type: ignore[misc]  # the library is not typed
    search_fields = ("id__exact",)
    search_help_text = "The whole id of an event."

    def get_list_filter(self, request: HttpRequest) -> list[str]:
        return []

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.search_fields

    def get_readonly_fields(self, request: HttpRequest, obj: Event | None = None) -> list[str]:
        # The library adds what it works out: to show its customer it would ask Stripe for it, or fail where what the
        # event said is forgotten.
        return []


@admin.register(WebhookEventTrigger)
class WebhookEventTriggerAdmin(LongList, of_library.WebhookEventTriggerAdmin):  # type: ignore[misc]
    """The requests that brought them, which are kept for a time only."""
