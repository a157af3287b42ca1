"""The staff's site: what is used every day first."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest

EVERY_DAY = ["courses", "vouchers"]


class DeskAdminSite(AdminSite):
    site_header = site_title = "Voucher desk"
    index_title = "Courses, vouchers and what became of them"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] not in EVERY_DAY)  # the rest stays by name
