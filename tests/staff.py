"""People of the desk, as the admin's tests need them."""

from __future__ import annotations

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client

from tests.factories import UserFactory


def log_in(*permissions: str) -> Client:
    """A browser of staff with these permissions (`view_voucher`) and no others."""
    user = UserFactory.create(is_superuser=False)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def said(response: object) -> str:
    """The messages that a request left for the next page."""
    assert isinstance(response, HttpResponse)
    return " ".join(str(message) for message in get_messages(response.wsgi_request))  # type: ignore[attr-defined]


def logged(row: Model) -> list[str]:
    """What the log says about a row, oldest first."""
    entries = LogEntry.objects.filter(
        content_type__app_label=row._meta.app_label,
        content_type__model=row._meta.model_name,
        object_id=str(row.pk),
    )
    return [entry.get_change_message() for entry in entries.order_by("pk")]
