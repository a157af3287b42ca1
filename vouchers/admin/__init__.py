"""The staff's side of the desk: the pages of Django's admin, one module per noun."""

import rest_framework_api_key.admin  # noqa: F401  # registers the library's own keys, before it is undone here
from django.contrib import admin
from rest_framework_api_key.models import APIKey

from vouchers.admin import (
    api_keys,
    batches,
    courses,
    deliveries,
    doctor,
    issuances,
    outgoing,
    purchases,
    redemptions,
    stripe,
    vouchers,
)

__all__ = [
    "api_keys",
    "batches",
    "courses",
    "deliveries",
    "doctor",
    "issuances",
    "outgoing",
    "purchases",
    "redemptions",
    "stripe",
    "vouchers",
]

# The library's own keys open nothing here.
admin.site.unregister(APIKey)
