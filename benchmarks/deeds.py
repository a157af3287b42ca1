"""What `benchmarks.packages` measures of the desk itself: the services behind its API, without HTTP."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable

from django.core.management import call_command

from courses.models import Course
from vouchers.guesses import KEY_LIMIT, Guesser
from vouchers.issuing import IssueRequest, issue_voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

COURSE = Course(id="JS101", name="JavaScript Basics")


def prepare() -> None:
    call_command("migrate", verbosity=0)
    COURSE.save(force_insert=True)


def store(codes: Iterable[str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{code}\n" for code in codes)
        file.flush()
        call_command("import_vouchers", file.name, course=COURSE.pk, stdout=io.StringIO(), stderr=io.StringIO())


def issue(email: str) -> None:
    issue_voucher(IssueRequest(course_id=COURSE.pk, email=email, caller="bench", tells_code=True))


def redeem(code: str) -> None:
    redeem_voucher(RedeemRequest(code=code, guesser=Guesser("key:bench", KEY_LIMIT)))
