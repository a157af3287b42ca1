"""The staff's site: what is used every day first, and the support desk's search box on every page."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import URLPattern, URLResolver, include, path

EVERY_DAY = ["courses", "vouchers"]
MAY_SEARCH = ("vouchers.view_voucher", "vouchers.view_issuance", "courses.view_purchase")


class DeskAdminSite(AdminSite):
    site_header = site_title = "Voucher desk"
    index_title = "Courses, vouchers and what became of them"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] not in EVERY_DAY)  # the rest stays by name

    def get_urls(self) -> list[URLPattern | URLResolver]:
        # By name: their modules need this site, and are read when all admin pages are known.
        return [
            path("support/", include("vouchers.admin.support")),
            path("erase-buyer/", include("vouchers.admin.erasing")),
            path("doctor/", include("vouchers.admin.doctor")),
            *super().get_urls(),
        ]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return super().each_context(request) | {"may_search": may_search(request)}


def may_search(request: HttpRequest) -> bool:
    """Whether somebody may use the support desk: whoever may see any of what it finds."""
    return any(request.user.has_perm(permission) for permission in MAY_SEARCH)
