"""The vouchers of a course as a CSV, of which the database makes the lines: a million took Python most of a minute.

Page by page, each by short statements of its own, and not from one cursor: so whoever reads slowly meets no time limit
and holds no transaction open, which would slow every issue meanwhile (docs/decisions/0003). A voucher is shown as it
was when its page was read; none comes twice, and none is left out that was there from the beginning.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.models import Case, F, Func, Q, QuerySet, TextField, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Concat, Least, Length, NullIf, Right, TruncDate
from django.utils import timezone

from courses.models import Course
from vouchers.api.documents import VoucherDocument, harmless_cell
from vouchers.models import Voucher
from vouchers.models.voucher import VoucherQuerySet

PAGE = 10_000


def voucher_csv(course: Course, vouchers: VoucherQuerySet, *, masked: bool) -> Iterator[bytes]:
    """Vouchers of a course as a CSV with the columns of `VoucherDocument`, a page at a time."""
    yield ",".join(VoucherDocument().fields).encode() + b"\r\n"
    # Without what is uploaded meanwhile, of which the last page could be a million.
    newest = Voucher.objects.filter(course=course).order_by("-pk").values_list("pk", flat=True).first() or 0
    rows = vouchers.filter(pk__lte=newest).order_by("pk").values_list(*_cells(course, masked=masked))
    last: int | None = 0
    while last is not None:
        page = rows.filter(pk__gt=last)
        last = page.values_list("pk", flat=True)[PAGE - 1 : PAGE].first()
        yield _lines(page.filter(pk__lte=last) if last else page)


def _cells(course: Course, *, masked: bool) -> list[Combinable]:
    """The columns of `voucher_document`, as the database works them out."""
    is_past = Q(status__in=Voucher.OPEN, valid_until__lt=timezone.localdate())
    return [
        _harmless(_mask(F("code")) if masked else F("code")),
        Value(harmless_cell(course.pk)),
        Case(When(status=Voucher.Status.REDEEMED, then=Value("True")), default=Value("False")),
        _harmless(NullIf("issued_to", Value(""))),
        TruncDate("redeemed_at"),
        Case(When(is_past, then=Value(Voucher.EXPIRED)), default="status"),
        Func("issued_at", Value('YYYY-MM-DD"T"HH24:MI:SS"Z"'), function="to_char", output_field=TextField()),
        F("expires_on"),
    ]


def _harmless(cell: Combinable) -> Combinable:
    """`harmless_cell` in SQL."""
    return Func(cell, Value(r"^[=+@\t\r-]"), Value(r"'\&"), function="regexp_replace", output_field=TextField())


def _mask(code: Combinable) -> Combinable:
    """`mask_code` in SQL."""
    return Concat(Value("••••"), Right(code, Least(Value(4), Length(code) / 4)))


def _lines(rows: QuerySet[Any]) -> bytes:
    lines = io.BytesIO()
    # Django translates the errors of a cursor's own methods, and COPY is none of them.
    with connection.wrap_database_errors, connection.cursor() as cursor:
        query = cursor.mogrify(*rows.query.sql_with_params())
        with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv) /* desk: vouchers as CSV */") as copy:
            lines.writelines(copy)  # joining the parts would keep the memory of each until the last has come
    return lines.getvalue().replace(b"\n", b"\r\n")
