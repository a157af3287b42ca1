"""manage.py generate_vouchers"""

from __future__ import annotations

import io
import re

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from courses.models import Course
from tests.factories import issue_to
from vouchers.models import Batch, Voucher

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[list[str], str]:
    """The lines of standard output, and standard error."""
    out, err = io.StringIO(), io.StringIO()
    call_command("generate_vouchers", *arguments, stdout=out, stderr=err)
    return out.getvalue().splitlines(), err.getvalue()


def test_it_generates_codes_and_says_so_in_the_last_line(course: Course) -> None:
    out, err = run("JS101", "12")
    batch = Batch.objects.get()
    assert out == [f"Generated 12 codes for JS101 (batch {batch.pk}): without an expiry."]
    assert err == "27 bits: one guess in 148,035,889 hits a code.\n"
    assert (batch.inserted, batch.source, batch.actor) == (12, "generated", "command line")
    assert batch.vouchers.filter(code__regex=r"^JS101-.{6}-0\d\d$").count() == 12


def test_it_takes_a_pattern_and_an_expiry_and_names_the_buyers_who_waited(course: Course) -> None:
    issue_to(course)
    issue_to(course, "bob@example.com")
    out, _ = run("JS101", "3", "--pattern", "GIFT-{random:8}", "--expires-on", "2099-12-31")
    assert out[-1].endswith(": valid through 2099-12-31. 2 waiting buyers got theirs.")
    assert Voucher.objects.filter(code__startswith="GIFT-", expires_on="2099-12-31").count() == 3
    assert Batch.objects.get().pattern == "GIFT-{random:8}"


def test_a_dry_run_shows_three_codes_and_stores_nothing(course: Course) -> None:
    out, err = run("JS101", "1000000", "--dry-run")
    assert [bool(re.fullmatch(r"JS101-\w{6}-00[123]", line)) for line in out] == [True, True, True, False]
    assert out[-1] == "Would generate 1000000 codes like these for JS101."
    assert err == "27 bits: one guess in 148,035,889 hits a code.\n"
    assert not Batch.objects.exists()
    assert not Voucher.objects.exists()


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_it_refuses_codes_that_are_easy_to_guess_unless_one_insists(course: Course, dry_run: list[str]) -> None:
    with pytest.raises(CommandError, match=r"one guess in 55,968 hits a code\. Use at least 6 random characters"):
        run("JS101", "5", "--pattern", "X-{random:4}", *dry_run)
    assert not Batch.objects.exists()
    _, err = run("JS101", "5", "--pattern", "X-{random:4}", "--insist", *dry_run)
    assert err == "15 bits: one guess in 55,968 hits a code.\n"
    assert Voucher.objects.count() == (0 if dry_run else 5)


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["NOPE", "5"], "no course 'NOPE'"),
        (["JS101", "0"], "Between 1 and 1,000,000"),
        (["JS101", "1000001"], "Between 1 and 1,000,000"),
        (["JS101", "many"], "invalid int value: 'many'"),
        (["JS101", "5", "--pattern", "{course}-{random}"], "needs a length"),
        (["JS101", "5", "--expires-on=tomorrow"], "'tomorrow' is no date"),
        (["JS101", "5", "--expires-on=2020-01-01"], "2020-01-01 is already past"),
    ],
)
def test_it_says_what_is_wrong(course: Course, arguments: list[str], sentence: str, dry_run: list[str]) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments, *dry_run)
    assert not Batch.objects.exists()
