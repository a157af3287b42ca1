"""manage.py vouchers_summary, create_api_key, issue_voucher and load_demo; import_vouchers has a file of its own"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from vouchers.models import ApiKey, Batch, Issuance, Voucher
from vouchers.summary import summary

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


class TestVouchersSummary:
    @pytest.fixture(autouse=True)
    def _stock(self, course: Course) -> None:
        make_pool(course, 4)
        issue_to(course)
        CourseFactory.create(id="PY201", name="=cmd()")

    def test_it_draws_a_table(self) -> None:
        header, first, second = run("vouchers_summary").splitlines()
        assert header.split()[:4] == ["course", "total", "issued", "remaining"]
        assert first.split()[:4] == ["JS101", "4", "1", "3"]
        assert first.endswith("███████████████░░░░░  75%")
        assert second.endswith("░   0%")

    def test_it_gives_what_the_api_gives(self) -> None:
        assert json.loads(run("vouchers_summary", "--json")) == summary()

    def test_it_gives_a_spreadsheet_that_runs_nothing(self) -> None:
        first, second = csv.DictReader(io.StringIO(run("vouchers_summary", "--csv")))
        assert (first["courseId"], first["total"], first["remaining"]) == ("JS101", "4", "3")
        assert second["name"] == "'=cmd()"


def test_a_summary_of_nothing_says_what_to_do(db: None) -> None:
    assert "no courses yet" in run("vouchers_summary")


class TestCreateApiKey:
    def test_it_prints_the_key_alone_on_the_last_line(self, course: Course) -> None:
        key = run("create_api_key", "shop", "--scope", "issue", "--scope", "manage").splitlines()[-1]
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
        assert client.get("/admin/vouchers-summary").status_code == 200
        assert client.post("/redeem-voucher", {"code": "AAAA-1"}, format="json").status_code == 403
        assert ApiKey.objects.get().scopes == ["issue", "manage"]

    @pytest.mark.parametrize(
        "arguments",
        [["shop"], ["shop", "--scope", "everything"], ["", "--scope", "issue"], ["a" * 51, "--scope", "issue"]],
    )
    def test_it_refuses_a_key_without_name_or_scope(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError):
            run("create_api_key", *arguments)
        assert not ApiKey.objects.exists()


class TestIssueVoucher:
    def test_it_issues_once(self, course: Course) -> None:
        code = make_pool(course, 2)[0].code
        assert run("issue_voucher", "JS101", " ann@example.com ", "--order", "A-1").startswith(f"Issued {code} to ann@")
        assert "nothing was issued again" in run("issue_voucher", "JS101", "ann@example.com", "--order", "A-1")
        assert Voucher.objects.filter(status="issued").count() == 1

    def test_it_queues_the_buyer(self, course: Course) -> None:
        assert "number 1 in the queue" in run("issue_voucher", "JS101", "ann@example.com")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["NOPE", "ann@example.com"], "no course 'NOPE'"),
            (["JS101", "ann"], "is not one email address"),
            (["JS101", "ann@example.com", "--order", "a" * 256], "up to 255"),
        ],
    )
    def test_it_says_what_is_wrong(self, course: Course, arguments: list[str], sentence: str) -> None:
        with pytest.raises(CommandError, match=sentence):
            run("issue_voucher", *arguments)
        assert not Issuance.objects.exists()


class TestLoadDemo:
    def test_it_loads_three_courses_with_pools_once(self, db: None) -> None:
        assert "3 courses with 185 codes" in run("load_demo")
        counts: dict[str, Any] = {row["courseId"]: row["remaining"] for row in summary()}
        assert counts == {"JS101": 100, "PY201": 60, "SQL110": 25}
        assert run("load_demo") == ""
        assert Batch.objects.count() == 3

    def test_it_leaves_a_desk_with_courses_alone(self, course: Course) -> None:
        assert run("load_demo") == ""
        assert not Voucher.objects.exists()
