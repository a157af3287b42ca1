"""The batches in the admin: the upload, the verdict, what is done with it, and the report."""

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
from tests.factories import BatchFactory, issue_to, make_pool
from tests.staff import log_in, logged, said
from vouchers.importing import steps
from vouchers.models import Batch, FilePart, Issuance, Voucher

pytestmark = pytest.mark.django_db
ADD = "/admin/vouchers/batch/add/"


def upload(client: Client, **fields: Any) -> Any:
    return client.post(ADD, {"course": "JS101", **fields})


def do(client: Client, deed: str, batch: Batch | None = None) -> Any:
    return client.post(f"{page_of(batch or Batch.objects.latest('pk'))}{deed}/")


def page_of(batch: Batch) -> str:
    return f"/admin/vouchers/batch/{batch.pk}/"


def shown(client: Client, batch: Batch | None = None) -> str:
    return client.get(f"{page_of(batch or Batch.objects.latest('pk'))}change/").content.decode()


def file(content: str | bytes, name: str = "codes.txt") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def test_it_comes_with_the_course_chosen(admin_client: Client, course: Course) -> None:
    page = admin_client.get(ADD, {"course": "JS101"}).content.decode()

    assert '<option value="JS101" selected>' in page


def test_it_shows_a_verdict_and_stores_nothing_yet(admin_client: Client, course: Course) -> None:
    make_pool(course, 1, code="OLD-0001")

    response = upload(admin_client, text="NEW-0001\r\nNEW-0002\r\nold-0001\r\nx\r\nnew-0001")

    batch = Batch.objects.get(source=Batch.Source.ADMIN)
    assert response.headers["Location"] == f"{page_of(batch)}change/"
    assert (batch.status, batch.actor, batch.file_name) == ("checked", "admin", "pasted text")
    assert (batch.read, batch.inserted, batch.duplicates, batch.repeated, batch.invalid) == (5, 2, 2, 1, 1)
    assert Voucher.objects.count() == 1
    page = shown(admin_client)
    assert "Nothing is stored yet." in page
    assert 'aria-label="2 new, 1 repeated here, 1 already in a pool, 1 malformed"' in page
    assert "Already in course JS101, not issued" in page
    assert "Already in line 1 of this upload" in page
    assert "The code is shorter than 4 characters." in page
    assert "Store 2 codes in JS101" in page


def test_it_shows_how_the_first_lines_were_read(admin_client: Client, course: Course) -> None:
    lines = "code,expiresOn\n" + "".join(f"NEW-{n:04},2099-12-31\n" for n in range(50)).replace("NEW-0003", "x")

    upload(admin_client, file=file(lines, "codes.csv"))

    first = Batch.objects.get().first_lines
    assert [line["line"] for line in first] == list(range(2, 12))
    assert first[0] == {"line": 2, "code": "NEW-0000", "expires_on": "2099-12-31", "kind": None, "reason": None}
    assert (first[3]["kind"], first[3]["reason"]) == ("invalid", "The code is shorter than 4 characters.")
    assert "The first lines, as they were read" in shown(admin_client)


def test_it_stores_what_was_confirmed_and_shows_the_report(admin_client: Client, course: Course) -> None:
    make_pool(course, 1, code="OLD-0001")
    upload(admin_client, text="NEW-0001\nold-0001\nx")
    batch = Batch.objects.latest("pk")

    response = do(admin_client, "confirm")

    assert response.headers["Location"] == f"{page_of(batch)}change/"
    batch.refresh_from_db()
    assert (batch.status, batch.read, batch.inserted, batch.duplicates, batch.invalid) == ("stored", 3, 1, 1, 1)
    assert batch.vouchers.get().code == "NEW-0001"
    assert batch.rejected_lines.count() == 2
    assert not FilePart.objects.exists()
    assert logged(batch) == ["Uploaded pasted text to be checked.", "Confirmed."]
    page = shown(admin_client)
    assert "The first lines" not in page
    assert "Lines that were not stored" in page


def test_it_judges_anew_when_confirmed(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="NEW-0001\nNEW-0002")
    batch = Batch.objects.get()
    make_pool(course, 1, code="NEW-0002")

    do(admin_client, "confirm", batch)

    batch.refresh_from_db()
    assert (batch.inserted, batch.duplicates) == (1, 1)
    assert batch.rejected_lines.get().reason == "Already in course JS101, not issued"


@pytest.mark.parametrize("lines", [1, 50])
def test_it_takes_a_file_small_or_large(admin_client: Client, course: Course, lines: int) -> None:
    padding = (" " * 60_000 + "\n") * lines  # past 2.5 MB Django hands over a temporary file
    expires = timezone.localdate() + dt.timedelta(days=30)

    upload(admin_client, file=file(f"NEW-0001\nNEW-0002\n{padding}"), expires_on=expires)

    batch = Batch.objects.get()
    assert batch.status == ("checked" if lines == 1 else "checking")
    steps.carry_on(batch.pk)  # as the worker does
    do(admin_client, "confirm")
    steps.carry_on(batch.pk)
    assert set(Voucher.objects.values_list("code", "expires_on")) == {("NEW-0001", expires), ("NEW-0002", expires)}
    assert Batch.objects.get().file_name == "codes.txt"


def test_it_says_how_many_waiting_buyers_were_filled(admin_client: Client, course: Course) -> None:
    issue_to(course)
    upload(admin_client, text="NEW-0001")
    assert Issuance.objects.get().status == Issuance.Status.WAITING

    do(admin_client, "confirm")

    assert "1 waiting buyer got a code at once." in shown(admin_client)
    assert Issuance.objects.get().status == Issuance.Status.ISSUED


def test_it_offers_nothing_to_confirm_where_no_code_is_new(admin_client: Client, course: Course) -> None:
    make_pool(course, 1, code="OLD-0001")
    upload(admin_client, text="old-0001")

    page = shown(admin_client)

    assert "no line is a new code" in page
    assert "/confirm/" not in page


def test_it_recognises_the_same_file(admin_client: Client, course: Course) -> None:
    for _ in range(2):
        upload(admin_client, file=file("NEW-0001"))
    first, second = Batch.objects.order_by("pk")

    assert f'<a href="{page_of(first)}change/">batch {first.pk}</a>' in shown(admin_client, second)
    assert "waits to be confirmed" in shown(admin_client, second)
    do(admin_client, "cancel", first)
    assert "uploaded before" not in shown(admin_client, second)


def test_it_cancels(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="NEW-0001")

    do(admin_client, "cancel")

    batch = Batch.objects.get()
    assert batch.status == "cancelled"
    assert "Nothing of it was stored." in shown(admin_client)
    assert "stored</dt>" not in shown(admin_client)
    assert not FilePart.objects.exists()
    assert not Voucher.objects.exists()
    assert "in the meantime" in said(do(admin_client, "confirm"))
    assert not Voucher.objects.exists()


def test_it_confirms_once(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="NEW-0001")
    do(admin_client, "confirm")

    assert "in the meantime" in said(do(admin_client, "confirm"))
    assert "in the meantime" in said(do(admin_client, "cancel"))
    batch = Batch.objects.get()
    assert (batch.status, batch.inserted) == ("stored", 1)
    assert logged(batch) == ["Uploaded pasted text to be checked.", "Confirmed."]


def test_it_undoes_a_batch_none_of_whose_codes_is_issued(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="NEW-0001\nNEW-0002")
    do(admin_client, "confirm")
    batch = Batch.objects.get()
    assert "The 2 codes of this batch leave the pool" in admin_client.get(f"{page_of(batch)}undo/").content.decode()
    assert Voucher.objects.count() == 2

    do(admin_client, "undo")

    batch.refresh_from_db()
    assert (batch.status, batch.inserted) == ("undone", 2)
    assert not Voucher.objects.exists()
    assert "taken out of the pool again" in shown(admin_client)
    upload(admin_client, text="NEW-0001\nNEW-0002")
    assert Batch.objects.latest("pk").inserted == 2


def test_it_does_not_undo_a_batch_with_an_issued_code(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="NEW-0001\nNEW-0002")
    do(admin_client, "confirm")
    issue_to(course)

    response = do(admin_client, "undo")

    assert "1 of its codes has been issued, redeemed or revoked" in said(response)
    assert Batch.objects.get().status == "stored"
    assert Voucher.objects.count() == 2


def test_it_gives_the_rejected_lines_as_a_file_to_mend(admin_client: Client, course: Course) -> None:
    lines = "code,courseId,expiresOn\nNEW-0001,,\nab,JS101,2099-12-31\n=cmd,,\nNEW-0002,PY200,\nNEW-0003,,soon\n"
    upload(admin_client, file=file(lines, "codes.csv"))

    response = admin_client.get(f"{page_of(Batch.objects.get())}rejected/")

    rejected = response.getvalue().decode()
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert rejected.splitlines()[:3] == [
        "line,code,courseId,expiresOn,kind,reason",
        "3,ab,JS101,2099-12-31,invalid,The code is shorter than 4 characters.",
        "4,'=cmd,,,invalid,The code does not begin with a letter or a digit.",
    ]
    mended = rejected.replace("ab,", "ABCD-1,").replace("soon", "2099-06-30")
    upload(admin_client, file=file(mended, "mended.csv"))
    batch = Batch.objects.latest("pk")
    assert [(line["code"], line["expires_on"], line["kind"]) for line in batch.first_lines] == [
        ("ABCD-1", "2099-12-31", None),
        ("'=cmd", None, "invalid"),
        ("NEW-0002", None, "invalid"),
        ("NEW-0003", "2099-06-30", None),
    ]


def test_it_keeps_the_expiry_of_the_form_with_the_rejected_lines(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="ab", expires_on="2099-06-30")

    rejected = admin_client.get(f"{page_of(Batch.objects.get())}rejected/").getvalue().decode()

    assert rejected.splitlines()[1].startswith("1,ab,,2099-06-30,invalid,")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "Choose a file or paste the codes."),
        ({"text": " \n "}, "Choose a file or paste the codes."),
        ({"text": "NEW-0001", "file": file("NEW-0002")}, "not both"),
        ({"file": file("")}, "The submitted file is empty."),
        ({"text": "NEW-0001", "expires_on": "2020-01-01"}, "This day is already past."),
        ({"text": "NEW-0001", "expires_on": "soon"}, "Enter a valid date."),
        ({"text": "NEW-0001", "course": "PY200"}, "Select a valid choice."),
        ({"text": "NEW-0001", "course": ""}, "This field is required."),
    ],
)
def test_it_says_what_is_wrong_and_takes_nothing_in(
    admin_client: Client, course: Course, fields: dict[str, Any], fault: str
) -> None:
    response = upload(admin_client, **fields)

    assert response.status_code == 200
    assert fault in response.content.decode()
    assert not Batch.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("content", [b"NEW-0001\n\x00\xff\xfe", b"PK\x03\x04\x00\x00"])
def test_it_says_what_is_wrong_with_a_file_it_cannot_read(admin_client: Client, course: Course, content: bytes) -> None:
    upload(admin_client, file=file(content, "codes.xlsx"))

    batch = Batch.objects.get()
    steps.carry_on(batch.pk)  # a spreadsheet is left to the worker
    batch.refresh_from_db()
    assert batch.status == "failed"
    assert batch.problem in shown(admin_client).replace("&#x27;", "'")
    assert len(batch.problem) > 20
    assert not FilePart.objects.exists()
    assert not Voucher.objects.exists()


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
    client = log_in("add_batch")
    upload(client, text="NEW-0001\nx")
    batch = Batch.objects.get()

    assert "Store 1 code in JS101" in shown(client)
    assert client.get(f"{page_of(batch)}rejected/").status_code == 200
    do(client, "confirm")
    assert Voucher.objects.count() == 1
    assert do(client, "undo").status_code == 403
    BatchFactory.create(course=course)
    assert client.get("/admin/vouchers/batch/").context["cl"].result_count == 1


def test_it_shows_no_codes_to_those_who_may_see_batches_alone(course: Course) -> None:
    make_pool(course, 1, code="OLD-0001")
    upload(log_in("add_batch"), text="NEW-0001\nold-0001")

    may_not, may = (
        shown(log_in(*names))
        for names in (["view_batch", "view_voucher"], ["view_batch", "view_voucher", "reveal_voucher"])
    )

    for code in ("NEW-0001", "old-0001"):
        assert code not in may_not
        assert code in may


@pytest.mark.parametrize("deed", ["confirm", "cancel", "undo", "rejected"])
def test_it_keeps_a_batch_from_those_who_neither_uploaded_it_nor_may_see_any(course: Course, deed: str) -> None:
    upload(log_in("add_batch"), text="NEW-0001")

    assert do(log_in("add_batch"), deed).status_code == 403
    assert do(log_in("view_batch"), deed).status_code == 403
    assert do(log_in("view_batch", "reveal_voucher"), deed).status_code == (200 if deed == "rejected" else 403)
    assert Batch.objects.get().status == "checked"


def test_it_does_its_deeds_by_post_alone(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="NEW-0001")
    batch = Batch.objects.get()

    assert admin_client.get(f"{page_of(batch)}confirm/").status_code == 405
    assert admin_client.get(f"{page_of(batch)}cancel/").status_code == 405
    assert admin_client.get(f"{page_of(batch)}undo/").status_code == 200
    batch.refresh_from_db()
    assert batch.status == "checked"


def test_it_follows_a_running_batch(admin_client: Client, course: Course) -> None:
    batch = BatchFactory.create(course=course, status=Batch.Status.STORING, percent=41)
    address = f"{page_of(batch)}change/"

    assert 'id="live"' in shown(admin_client, batch)
    answer = admin_client.get(address, headers={"HX-Request": "true"})
    assert '<progress max="100" value="41"' in answer.content.decode()
    assert "csrfmiddlewaretoken" not in answer.content.decode()
    again = admin_client.get(address, headers={"HX-Request": "true", "If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304

    Batch.objects.update(status=Batch.Status.STORED)
    finished = admin_client.get(address, headers={"HX-Request": "true"})
    assert finished.headers["HX-Refresh"] == "true"
    assert 'id="live"' not in shown(admin_client, batch)


def test_it_shows_the_first_rejected_lines_and_leads_to_all(admin_client: Client, course: Course) -> None:
    upload(admin_client, text="\n".join(["x"] * 250))
    batch = Batch.objects.get()

    page = admin_client.get(f"/admin/vouchers/batch/{batch.pk}/change/").content.decode()
    everything = admin_client.get("/admin/vouchers/rejectedline/", {"batch__id__exact": batch.pk})

    assert page.count("The code is shorter than 4 characters.") == 200 + len(batch.first_lines)
    assert f"/admin/vouchers/rejectedline/?batch__id__exact={batch.pk}" in page
    assert everything.context["cl"].result_count == 250


@pytest.mark.parametrize("number", [1, 150])
def test_it_shows_a_report_of_any_length_with_the_same_few_queries(
    admin_client: Client, course: Course, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    upload(admin_client, text="\n".join(["x"] * number))
    address = f"/admin/vouchers/batch/{Batch.objects.get().pk}/change/"
    admin_client.get(address)

    # The session, the user, the batch, the same file elsewhere, its rejected lines, whether emails were kept.
    with django_assert_num_queries(6):
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
