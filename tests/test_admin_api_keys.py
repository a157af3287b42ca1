"""API keys in the admin: made, shown once, revoked for good."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from tests.conftest import Caller
from tests.staff import log_in, logged, said
from vouchers.admin.base import page_of
from vouchers.models import ApiKey

pytestmark = pytest.mark.django_db
LIST = "/admin/vouchers/apikey/"
ADD = "/admin/vouchers/apikey/add/"
KEY = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


def make(client: Client, **fields: Any) -> Any:
    return client.post(ADD, {"name": "Shop", "scopes": ["issue", "redeem"], **fields})


def test_it_shows_a_new_key_exactly_once(admin_client: Client) -> None:
    response = make(admin_client, name="<b>Shop</b>")

    [key] = KEY.findall(said(response))
    made = ApiKey.objects.get(prefix=key.partition(".")[0])
    assert made.is_valid(key)
    assert (made.name, made.scopes) == ("<b>Shop</b>", ["issue", "redeem"])
    first = admin_client.get(LIST).content.decode()
    assert key in first
    assert "<b>Shop" not in first
    for address in (LIST, page_of(made), f"/admin/vouchers/apikey/{made.pk}/history/", "/admin/"):
        assert key not in admin_client.get(address, follow=True).content.decode()
    entry = LogEntry.objects.get()
    assert entry.object_id == made.pk
    assert key not in f"{entry.object_repr} {entry.change_message}"


def test_it_makes_a_key_that_opens_the_api(admin_client: Client) -> None:
    [key] = KEY.findall(said(make(admin_client, scopes=["manage"])))

    response = Client().get("/admin/vouchers-summary", headers={"Authorization": f"Api-Key {key}"})

    assert response.status_code == 200, response.content


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"expiry_date_0": "2020-01-01", "expiry_date_1": "00:00"}, "expiry_date"),
    ],
)
def test_it_says_what_is_wrong_and_makes_no_key(admin_client: Client, fields: dict[str, Any], fault: str) -> None:
    response = make(admin_client, **fields)

    assert fault in response.context["adminform"].form.errors
    assert not ApiKey.objects.exists()


def test_it_makes_a_key_that_expires(admin_client: Client) -> None:
    tomorrow = timezone.now() + dt.timedelta(days=1)

    make(admin_client, expiry_date_0=f"{tomorrow:%Y-%m-%d}", expiry_date_1=f"{tomorrow:%H:%M:%S}")

    assert ApiKey.objects.get().expiry_date == tomorrow.replace(microsecond=0)


def test_it_revokes_a_key_and_changes_nothing_else(admin_client: Client, caller: Caller) -> None:
    api = caller("manage")
    key = ApiKey.objects.get()

    admin_client.post(page_of(key), {"revoked": "on", "name": "Other", "scopes": ["issue"]})

    key = ApiKey.objects.get()
    assert (key.revoked, key.name, key.scopes) == (True, "tests", ["manage"])
    assert logged(key) == ["Changed Revoked."]
    assert api.get("/admin/vouchers-summary").status_code == 401


def test_it_never_takes_a_revocation_back(admin_client: Client, caller: Caller) -> None:
    caller("manage")
    admin_client.post(page_of(ApiKey.objects.get()), {"revoked": "on"})

    admin_client.post(page_of(ApiKey.objects.get()), {})

    assert ApiKey.objects.get().revoked


def test_it_deletes_no_key(admin_client: Client, caller: Caller) -> None:
    caller("manage")
    key = ApiKey.objects.get()

    assert admin_client.post(f"/admin/vouchers/apikey/{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert ApiKey.objects.exists()


def test_it_makes_no_key_for_those_who_may_only_look(caller: Caller) -> None:
    caller("manage")
    client = log_in("view_apikey")

    assert make(client).status_code == 403
    assert client.post(page_of(ApiKey.objects.get()), {"revoked": "on"}).status_code == 403
    assert not ApiKey.objects.get().revoked


def test_it_hides_the_librarys_own_keys() -> None:
    with pytest.raises(NoReverseMatch):
        reverse("admin:rest_framework_api_key_apikey_changelist")
