"""Codes stored by `bulk_create`, as a competent developer would in an afternoon: trimmed, 10,000 at a time, duplicates
ignored, in one transaction. It cannot say which were duplicates. Run by `benchmarks.importing`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import django
from django.db import transaction

django.setup()

from courses.models import Course  # noqa: E402  # models want Django to be set up
from vouchers.models import Batch, Voucher  # noqa: E402

AT_ONCE = 10_000


def vouchers(path: Path, batch: Batch) -> Iterator[Voucher]:
    with path.open() as file:
        for number, line in enumerate(file):
            if code := line.strip():
                position = (batch.pk << 32) + number
                yield Voucher(course_id=batch.course_id, batch=batch, code=code, position=position)


@transaction.atomic
def main(path: Path) -> None:
    batch = Batch.objects.create(course=Course.objects.get(), actor="bench", source=Batch.Source.COMMAND)
    waiting = vouchers(path, batch)
    while some := list(islice(waiting, AT_ONCE)):
        Voucher.objects.bulk_create(some, batch_size=AT_ONCE, ignore_conflicts=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
