"""Of dj-stripe's sixty tables the desk uses these: keys, endpoints, and the events as they came."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from djstripe import admin as djstripe_admin  # noqa: F401  # registers them all, before it is undone here
from djstripe.models import Account, APIKey, Event, WebhookEndpoint, WebhookEventTrigger

USED = {Account, APIKey, Event, WebhookEndpoint, WebhookEventTrigger}

for model in apps.get_app_config("djstripe").get_models():
    if model not in USED and admin.site.is_registered(model):
        admin.site.unregister(model)
