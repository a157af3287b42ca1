"""The uploads in the admin: the upload page and the report."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, override_settings
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.staff import log_in, logged, said
from vouchers.models import Batch, Issuance, Voucher

pytestmark = pytest.mark.django_db
ADD = "/admin/vouchers/batch/add/"


def upload(client: Client, **fields: Any) -> Any:
    return client.post(ADD, {"course": "JS101", **fields})


def file(content: str | bytes, name: str = "codes.txt") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def test_it_comes_with_the_course_chosen(admin_client: Client, course: Course) -> None:
    page = admin_client.get(ADD, {"course": "JS101"}).content.decode()

    assert '<option value="JS101" selected>' in page


def test_it_stores_pasted_codes_and_shows_the_report(admin_client: Client, course: Course) -> None:
    make_pool(course, 1, code="OLD-0001")

    response = upload(admin_client, text="NEW-0001\r\nNEW-0002\r\nold-0001\r\nx")

    batch = Batch.objects.get(source=Batch.Source.ADMIN)
    assert response.headers["Location"] == f"/admin/vouchers/batch/{batch.pk}/change/"
    assert (batch.read, batch.inserted, batch.duplicates, batch.invalid) == (4, 2, 1, 1)
    assert batch.actor == "admin"
    assert said(response) == "4 read: 2 stored, 1 duplicate, 1 invalid."
    assert logged(batch) == ["Uploaded codes. 4 read: 2 stored, 1 duplicate, 1 invalid."]
    page = admin_client.get(response.headers["Location"]).content.decode()
    assert "old-0001" in page
    assert "The code is shorter than 4 characters." in page


@pytest.mark.parametrize("lines", [1, 50])
def test_it_stores_a_file_small_or_large(admin_client: Client, course: Course, lines: int) -> None:
    padding = (" " * 60_000 + "\n") * lines  # past 2.5 MB Django hands over a temporary file
    expires = timezone.localdate() + dt.timedelta(days=30)

    upload(admin_client, file=file(f"NEW-0001\nNEW-0002\n{padding}"), expires_on=expires)

    assert set(Voucher.objects.values_list("code", "expires_on")) == {("NEW-0001", expires), ("NEW-0002", expires)}
    assert Batch.objects.get().file_name == "codes.txt"


def test_it_says_how_many_waiting_buyers_were_filled(admin_client: Client, course: Course) -> None:
    issue_to(course)

    response = upload(admin_client, text="NEW-0001")

    assert "1 waiting buyer got a code of these." in said(response)
    assert Issuance.objects.get().status == Issuance.Status.ISSUED


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "Choose a file or paste the codes."),
        ({"text": " \n "}, "Choose a file or paste the codes."),
        ({"text": "NEW-0001", "file": file("NEW-0002")}, "not both"),
        ({"file": file("")}, "The submitted file is empty."),
        ({"file": file(b"NEW-0001\n\xff\xfe")}, "not UTF-8 text"),
        ({"file": file(b"PK\x03\x04\x00\x00", "codes.xlsx")}, "Nothing was stored."),
        ({"text": "NEW-0001", "expires_on": "2020-01-01"}, "This day is already past."),
        ({"text": "NEW-0001", "expires_on": "soon"}, "Enter a valid date."),
        ({"text": "NEW-0001", "course": "PY200"}, "Select a valid choice."),
        ({"text": "NEW-0001", "course": ""}, "This field is required."),
    ],
)
def test_it_says_what_is_wrong_and_stores_nothing(
    admin_client: Client, course: Course, fields: dict[str, Any], fault: str
) -> None:
    response = upload(admin_client, **fields)

    assert response.status_code == 200
    assert fault in response.content.decode()
    assert not Voucher.objects.exists()
    assert not Batch.objects.exists()
    assert not LogEntry.objects.exists()


@override_settings(UPLOAD_MAX_BYTES=5)
def test_it_refuses_a_file_over_the_limit(admin_client: Client, course: Course) -> None:
    response = upload(admin_client, file=file("NEW-0001"))

    assert "larger than 5\xa0bytes" in response.content.decode()
    assert not Batch.objects.exists()


@pytest.mark.parametrize("permission", ["view_batch", "add_voucher", "change_batch"])
def test_it_takes_codes_from_nobody_without_the_permission(course: Course, permission: str) -> None:
    client = log_in(permission)

    assert upload(client, text="NEW-0001").status_code == 403
    assert client.get(ADD).status_code == 403
    assert not Batch.objects.exists()


def test_it_takes_codes_from_those_who_may_do_nothing_else(course: Course) -> None:
    response = upload(log_in("add_batch"), text="NEW-0001")

    assert response.headers["Location"] == "/admin/"
    assert Voucher.objects.count() == 1


def test_it_shows_the_first_rejected_lines_and_leads_to_all(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="\n".join(["x"] * 250))
    batch = Batch.objects.get()

    page = admin_client.get(f"/admin/vouchers/batch/{batch.pk}/change/").content.decode()
    everything = admin_client.get("/admin/vouchers/rejectedline/", {"batch__id__exact": batch.pk})

    assert page.count("The code is shorter than 4 characters.") == 200
    assert f"/admin/vouchers/rejectedline/?batch__id__exact={batch.pk}" in page
    assert everything.context["cl"].result_count == 250


@pytest.mark.parametrize("number", [1, 150])
def test_it_shows_a_report_of_any_length_with_the_same_few_queries(
    admin_client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    upload(admin_client, text="\n".join(["x"] * number))
    address = f"/admin/vouchers/batch/{Batch.objects.get().pk}/change/"
    admin_client.get(address)

    # The session, the user, the batch, its rejected lines, whether emails were kept.
    with django_assert_num_queries(5):
        admin_client.get(address)


@pytest.mark.parametrize("number", [1, 30])
def test_it_lists_any_number_with_the_same_few_queries(
    admin_client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    for _ in range(number):
        make_pool(course, 1)
    admin_client.get("/admin/vouchers/batch/")

    with django_assert_num_queries(6):
        admin_client.get("/admin/vouchers/batch/")


def test_it_escapes_what_was_uploaded(admin_client: Client, course: Course) -> None:
    upload(admin_client, file=file("<script>alert(1)</script>", "<b>.txt"))

    page = admin_client.get(f"/admin/vouchers/batch/{Batch.objects.get().pk}/change/").content.decode()

    assert "<script>alert(1)" not in page
    assert "<b>.txt" not in page


def test_it_neither_changes_nor_deletes(admin_client: Client, course: Course) -> None:
    make_pool(course, 1)
    batch = Batch.objects.get()

    assert admin_client.post(f"/admin/vouchers/batch/{batch.pk}/change/", {"actor": "me"}).status_code == 403
    assert admin_client.post(f"/admin/vouchers/batch/{batch.pk}/delete/", {"post": "yes"}).status_code == 403
    batch.refresh_from_db()
    assert batch.actor == "tests"


def test_it_leads_from_the_list_to_the_upload(course: Course) -> None:
    may = log_in("view_batch", "add_batch").get("/admin/vouchers/batch/").content.decode()
    may_not = log_in("view_batch").get("/admin/vouchers/batch/").content.decode()

    assert f'<a href="{ADD}" class="addlink">Upload codes</a>' in may
    assert ADD not in may_not
