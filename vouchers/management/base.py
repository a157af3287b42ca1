"""What the desk's commands share: an error of the desk ends a command as a sentence."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from vouchers.errors import DeskError
from vouchers.importing.storing import Watch


class DeskCommand(BaseCommand):
    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DeskError as error:
            raise CommandError(error.message) from error


def expiry(given: str) -> dt.date:
    """The value of --expires-on; one in the past is refused before anything is read or generated."""
    try:
        day = dt.date.fromisoformat(given)
    except ValueError:
        raise ArgumentTypeError(f"{given!r} is no date. Write it as 2027-12-31.") from None
    if day < timezone.localdate():
        raise ArgumentTypeError(f"{day} is already past.")
    return day


def filled_sentence(filled: int) -> str:
    """The end of a closing line, about buyers who waited for a code."""
    return f" {filled} waiting buyers got theirs." if filled else ""


@contextmanager
def bar(doing: str) -> Iterator[Watch]:
    """Shows how far an import is, where there is a terminal to draw on."""
    shape = "{desc} {percentage:3.0f}% |{bar}| {elapsed}"
    with tqdm(total=1.0, desc=doing, bar_format=shape, disable=None, leave=False) as drawn:

        def watch(share: float) -> None:
            drawn.update(share - drawn.n)

        yield watch
