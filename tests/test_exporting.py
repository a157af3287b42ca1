"""GET /admin/vouchers/:course?format=csv: what the database makes is what Python would."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from psycopg.pq import TransactionStatus
from rest_framework.test import APIClient

from courses.models import Course
from tests.conftest import Caller
from tests.factories import CourseFactory, issue_to, make_pool
from vouchers.api import exporting
from vouchers.api.documents import VoucherDocument, csv_of, voucher_document
from vouchers.api.exporting import voucher_csv
from vouchers.guesses import Guesser
from vouchers.models import Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
ODD_CODES = ["ABCD", "A,B-1", 'A"B"C-12345', "a'b;c", "X" * 128, "7=SUM(A1)", "AB-1234"]
ODD_EMAILS = [
    "=cmd|'/C calc'!A0", "+1@x.example", "-1@x.example", "@x.example", "\tann@x.example", "\rann@x.example",
    '"a,b"@x.example', "\u00e4nn@b\u00fccher.example", "'ann@x.example", "a\\b@x.example", "\\.", "100%@x.example",
]  # fmt: skip


def by_python(course: Course, *, masked: bool) -> str:
    vouchers = Voucher.objects.filter(course=course).order_by("pk")
    rows = (voucher_document(voucher, masked=masked).values() for voucher in vouchers)
    return "".join(csv_of(VoucherDocument().fields, rows))


def by_database(course: Course, *, masked: bool = False) -> str:
    return b"".join(voucher_csv(course, Voucher.objects.filter(course=course), masked=masked)).decode()


@pytest.fixture
def odd_course(db: None) -> Course:
    """Vouchers of every kind, and cells that need quotes or that a spreadsheet would run."""
    course = CourseFactory.create(id="-JS.101")
    for code in ODD_CODES:
        make_pool(course, 1, code=code)
    make_pool(course, len(ODD_EMAILS) + 3)
    for email in ODD_EMAILS:
        issue_to(course, email)
    redeemed, revoked, expired = Voucher.objects.filter(course=course, status="issued").order_by("pk")[:3]
    redeem_voucher(RedeemRequest(code=redeemed.code, guesser=Guesser.of_key("key:a")))
    revoke_voucher(revoked, reason="lost")
    Voucher.objects.filter(pk=expired.pk).update(expires_on=timezone.localdate() - dt.timedelta(days=1))
    make_pool(course, 1, expires_on=timezone.localdate())
    make_pool(course, 1, expires_on=dt.date(2020, 1, 1))
    make_pool(CourseFactory.create(), 1)
    return course


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_it_is_what_python_would_write(
    odd_course: Course, masked: bool, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PAGE", 4)
    with timezone.override(zone):
        made = by_database(odd_course, masked=masked)
        assert made == by_python(odd_course, masked=masked)
    assert made.count("\r\n") == 1 + Voucher.objects.filter(course=odd_course).count()
    assert "'-JS.101" in made


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 20, 25])
def test_it_has_every_voucher_once_whatever_the_pages(
    course: Course, number: int, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(exporting, "PAGE", 10)
    codes = [voucher.code for voucher in make_pool(course, number)]
    with django_assert_num_queries(1 + 2 * (number // 10 + 1)):
        lines = by_database(course).splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == codes


def test_it_is_not_made_longer_by_what_is_uploaded_meanwhile(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 2)
    make_pool(course, 3)
    pages = voucher_csv(course, Voucher.objects.filter(course=course), masked=False)
    next(pages)
    first = next(pages)
    make_pool(course, 5)
    assert b"".join([first, *pages]).count(b"\r\n") == 3


@pytest.mark.parametrize("filters", [{"status": "issued"}, {"email": "ANN@example.com"}, {"batch": 0}])
def test_it_has_the_filters_of_the_list(course: Course, caller: Caller, filters: dict[str, Any]) -> None:
    make_pool(course, 3)
    issue_to(course)
    issue_to(course, "bob@example.com")
    batch = make_pool(course, 2)[0].batch_id
    if "batch" in filters:
        filters = {"batch": batch}

    client: APIClient = caller("manage")
    listed = [row["_id"] for row in client.get("/admin/vouchers/JS101", filters).json()]
    response: Any = client.get("/admin/vouchers/JS101", {**filters, "format": "csv"})
    lines = b"".join(response.streaming_content).decode().splitlines()[1:]

    assert 0 < len(listed) < 5
    assert [line.partition(",")[0] for line in lines] == listed


@pytest.mark.django_db(transaction=True)
def test_it_holds_no_transaction_open_for_whoever_reads_slowly(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 10)
    make_pool(course, 25)
    for _ in voucher_csv(course, Voucher.objects.filter(course=course), masked=False):
        assert connection.connection.info.transaction_status == TransactionStatus.IDLE
