"""POST /api/admin/vouchers/upload"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from courses.models import Course
from tests.conftest import Caller
from tests.factories import CourseFactory, issue_to, make_pool
from tests.test_spreadsheets import workbook
from vouchers.models import Batch, RejectedLine, Voucher

pytestmark = pytest.mark.django_db
PATH = "/api/admin/vouchers/upload"


@pytest.fixture
def client(caller: Caller) -> APIClient:
    return caller("manage")


def upload(client: APIClient, codes: Any, **fields: Any) -> Any:
    return client.post(PATH, {"courseId": "JS101", "vouchers": codes, **fields}, format="json")


def upload_file(client: APIClient, content: bytes, name: str = "codes.csv", **fields: Any) -> Any:
    file = SimpleUploadedFile(name, content)
    return client.post(PATH, {"courseId": "JS101", "file": file, **fields}, format="multipart")


def test_it_stores_every_code(client: APIClient, course: Course) -> None:
    response = upload(client, ["JS101-XZ4B7Q-001", " JS101-XZ4B7Q-002 "], expiresOn="2099-12-31")

    batch = Batch.objects.get()
    assert response.status_code == 200
    assert response.json() == {
        "message": "Vouchers uploaded successfully",
        "batchId": batch.pk,
        "read": 2,
        "inserted": 2,
        "duplicates": [],
        "invalid": [],
    }
    assert (batch.actor, batch.source, str(batch.expires_on)) == ("API key tests", "api", "2099-12-31")
    stored = Voucher.objects.order_by("position").values_list("code", "status", "expires_on")
    assert [(code, status, str(day)) for code, status, day in stored] == [
        ("JS101-XZ4B7Q-001", "available", "2099-12-31"),
        ("JS101-XZ4B7Q-002", "available", "2099-12-31"),
    ]


def test_it_skips_duplicates_and_says_where_they_are(client: APIClient, course: Course) -> None:
    make_pool(course, 1, code="HERE-1")
    elsewhere = CourseFactory.create(id="PY201")
    make_pool(elsewhere, 1, code="THERE-1")
    issue_to(elsewhere)

    response = upload(client, ["NEW-1", "here-1", "new-1", "There-1", "x"])

    body = response.json()
    assert response.status_code == 409
    assert body["error"] == "Some vouchers already exist (duplicates skipped)"
    assert body["code"] == "duplicates_skipped"
    assert (body["read"], body["inserted"]) == (5, 1)
    assert body["duplicates"] == [
        {"line": 2, "code": "here-1", "where": "Already in course JS101, not issued"},
        {"line": 3, "code": "new-1", "where": "Already in line 1 of this upload"},
        {"line": 4, "code": "There-1", "where": "Already in course PY201, issued"},
    ]
    assert body["invalid"] == [{"line": 5, "code": "x", "reason": "The code is shorter than 4 characters."}]
    assert Voucher.objects.filter(course=course).count() == 2


def test_it_skips_malformed_codes_and_says_why(client: APIClient, course: Course) -> None:
    response = upload(client, ["GOOD-1", "", "has space", "-dash", "caf\u00e9-1", "a" * 129, "nul\u0000l"])

    body = response.json()
    assert (response.status_code, body["code"]) == (422, "invalid_codes_skipped")
    assert (body["read"], body["inserted"], body["duplicates"]) == (7, 1, [])
    assert {entry["line"]: entry["reason"] for entry in body["invalid"]} == {
        2: "The code is empty.",
        3: "The code has a space in it.",
        4: "The code does not begin with a letter or a digit.",
        5: "The code has a character that is not printable ASCII: LATIN SMALL LETTER E WITH ACUTE.",
        6: "The code is longer than 128 characters.",
        7: "The code has a character that is not printable ASCII: 0x0.",
    }


def test_it_reports_the_first_thousand_and_keeps_all(client: APIClient, course: Course) -> None:
    codes = [f"AAAA-{n}" for n in range(1200)]
    upload(client, codes)
    again = upload(client, codes).json()
    assert len(again["duplicates"]) == 1000
    assert (again["read"], again["inserted"]) == (1200, 0)
    assert Batch.objects.get(pk=again["batchId"]).duplicates == 1200
    assert RejectedLine.objects.filter(batch=again["batchId"]).count() == 1200


@pytest.mark.parametrize(
    "content",
    [
        b"AAAA-1\nAAAA-2\n",
        b"AAAA-1\r\nAAAA-2",
        b"\xef\xbb\xbfcode\nAAAA-1\n\n\nAAAA-2\n",
        b'voucherCode;note\n"AAAA-1";"x;y"\nAAAA-2;\n',
        b"_id\tcourseId\nAAAA-1\tJS101\nAAAA-2\tJS101\n",
        "AAAA-1\nAAAA-2\n".encode("utf-16"),
        b"code,note\nAAAA-1,Caf\xe9\nAAAA-2,\n",
        b'["AAAA-1", {"code": "AAAA-2"}]',
        workbook(["code"], ["AAAA-1"], ["AAAA-2"]),
    ],
)
def test_it_reads_files_of_all_kinds(client: APIClient, course: Course, content: bytes) -> None:
    response = upload_file(client, content)
    assert response.status_code == 200, response.json()
    assert set(Voucher.objects.values_list("code", flat=True)) == {"AAAA-1", "AAAA-2"}
    batch = Batch.objects.get()
    assert (batch.file_name, batch.sha256) == ("codes.csv", hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"AAAA-1\nPK\x03\x04\x00", "Line 2 holds binary data"),
        (b"AAAA-1\n\xff\xfe\x81", "Line 2 holds binary data"),
        (b'["AAAA-1", 7]', "Element 2 is a number, not a string"),
        (b'["AAAA-1", "AAAA-2"', "After element 2 the file is not valid JSON"),
        (workbook(["AAAA-1"])[:-20], "The spreadsheet is damaged"),
        (b"", "There are no codes in it"),
        (b"\n \r\n\xe2\x80\x8b\n", "There are no codes in it"),
        (b"code\n", "There are no codes in it"),
        (b"A" * 70_000, "Line 1 is longer than 65536 characters"),
    ],
)
def test_it_stores_nothing_of_a_file_it_cannot_read(
    client: APIClient, course: Course, content: bytes, sentence: str
) -> None:
    response = upload_file(client, content)
    assert (response.status_code, response.json()["code"]) == (400, "unreadable_file")
    assert sentence in response.json()["error"]
    assert not Voucher.objects.exists()
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"courseId": "JS101"},
        {"vouchers": ["AAAA-1"]},
        {"courseId": "", "vouchers": ["AAAA-1"]},
        {"courseId": "JS101", "vouchers": "AAAA-1"},
        {"courseId": "JS101", "vouchers": {"AAAA-1": 1}},
        {"courseId": "JS101", "vouchers": None},
        ["AAAA-1"],
    ],
)
def test_it_refuses_a_missing_course_or_list(client: APIClient, course: Course, body: Any) -> None:
    response = client.post(PATH, body, format="json")
    assert response.status_code == 400
    assert response.json()["error"] == "Missing courseId or voucher list"
    assert response.json()["code"] == "missing_course_or_vouchers"


def test_it_refuses_more_than_it_would_read(client: APIClient, course: Course) -> None:
    files = [SimpleUploadedFile("a.txt", b"AAAA-1"), SimpleUploadedFile("b.txt", b"AAAA-2")]
    two = client.post(PATH, {"courseId": "JS101", "file": files}, format="multipart")
    both = client.post(PATH, {"courseId": "JS101", "file": files[0], "vouchers": "AAAA-3"}, format="multipart")
    assert (two.status_code, both.status_code) == (400, 400)
    assert not Voucher.objects.exists()


def test_it_tells_a_code_that_is_a_number_from_the_line_of_that_number(client: APIClient, course: Course) -> None:
    codes = [f"OK-{n:05}" for n in range(1000, 1999)]
    body = upload(client, [*codes, "x", "1000"]).json()
    assert (body["inserted"], body["duplicates"]) == (1000, [])
    assert Voucher.objects.count() == 1000


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b'"ABCD-1\nEFGH-1\n', {"EFGH-1"}),
        (b'"ABCD"x\nEFGH-1\n', {"EFGH-1"}),
        (b"code\nABCD,1234\nEFGH-1\n", {"EFGH-1"}),
        (b"ABCD-1,2099-12-31\nEFGH-1\n", {"EFGH-1"}),
        (b"sep=;\nCodes;Note\nEFGH-1;x\n", {"EFGH-1"}),
        (b"Coupon Code\nEFGH-1\n", {"EFGH-1"}),
    ],
)
def test_it_takes_no_part_of_a_line_for_a_code(
    client: APIClient, course: Course, content: bytes, stored: set[str]
) -> None:
    assert upload_file(client, content, "codes.txt").status_code in {200, 422}
    assert set(Voucher.objects.values_list("code", flat=True)) == stored


@pytest.mark.parametrize("name", ["expiresOn", "Expires On", "expiry_date", "EXPIRATION", "valid_until", "expires"])
def test_it_knows_an_expiry_by_its_usual_names(client: APIClient, course: Course, name: str) -> None:
    assert upload_file(client, f"code,{name}\nAAAA-1,2099-12-31\n".encode()).status_code == 200
    assert str(Voucher.objects.get().expires_on) == "2099-12-31"


def test_it_refuses_a_form_without_a_file(client: APIClient, course: Course) -> None:
    response = client.post(PATH, {"courseId": "JS101"}, format="multipart")
    assert response.json()["error"] == "Missing courseId or voucher list"


@pytest.mark.parametrize("odd", [7, None, ["AAAA-2"], {"code": "AAAA-2"}, True])
def test_it_names_an_element_that_is_no_string(client: APIClient, course: Course, odd: Any) -> None:
    response = upload(client, ["AAAA-1", odd])
    assert response.status_code == 400
    assert response.json()["error"].startswith("vouchers[1] is ")
    assert not Voucher.objects.exists()


@pytest.mark.parametrize("day", ["2020-01-01", "soon", "31.12.2099", 7])
def test_it_refuses_an_expiry_that_is_none(client: APIClient, course: Course, day: Any) -> None:
    response = upload(client, ["AAAA-1"], expiresOn=day)
    assert (response.status_code, list(response.json()["fields"])) == (400, ["expiresOn"])
    assert not Voucher.objects.exists()


def test_it_knows_no_such_course(client: APIClient, db: None) -> None:
    response = upload(client, ["AAAA-1"])
    assert (response.status_code, response.json()["code"]) == (404, "course_not_found")


def test_it_takes_an_empty_list_for_nothing_to_do(client: APIClient, course: Course) -> None:
    assert upload(client, []).json()["read"] == 0


def test_it_refuses_what_is_too_large(client: APIClient, course: Course, settings: Any) -> None:
    settings.JSON_UPLOAD_MAX_BYTES = 100
    response = upload(client, ["A" * 100])
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert "Upload a file instead" in response.json()["error"]
    assert upload_file(client, b"A" * 100).status_code == 200


def test_it_needs_the_scope_manage(caller: Caller, course: Course) -> None:
    assert upload(caller("issue", "redeem"), ["AAAA-1"]).status_code == 403
    assert upload(caller(), ["AAAA-1"]).status_code == 401
    assert not Voucher.objects.exists()
