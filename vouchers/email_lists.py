"""Lists of emails as people and programs give them: what is wrong with a line, and which lines are the same buyer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

EMAIL_MAX = 254


@dataclass(frozen=True)
class Line:
    """A line of a list, counted from 1: an email, trimmed, or what can be shown of something else and its fault."""

    number: int
    email: str
    fault: str = ""

    @property
    def same(self) -> str:
        """What all lines have in common that name this buyer; empty where the line names none."""
        return "" if self.fault else self.email.upper()


@dataclass(frozen=True)
class EmailList:
    lines: list[Line]

    @classmethod
    def read(cls, given: Iterable[object]) -> Self:
        return cls([_line(number, line) for number, line in enumerate(given, 1)])

    @cached_property
    def different(self) -> list[Line]:
        """The first line of each buyer, in the order of the list."""
        firsts: dict[str, Line] = {}
        for line in self.lines:
            if not line.fault:
                firsts.setdefault(line.same, line)
        return list(firsts.values())

    @property
    def pattern(self) -> str:
        """Which lines are the same and which are none, such as `1 2 - 1`; of the addresses it tells nothing."""
        places = {line.same: str(place) for place, line in enumerate(self.different, 1)}
        return " ".join("-" if line.fault else places[line.same] for line in self.lines)


def _line(number: int, given: object) -> Line:
    if not isinstance(given, str):
        return Line(number, "", "This is not a text.")
    email = given.strip()
    fault = _fault_of(email)
    return Line(number, _printable(email) if fault else email, fault)


def _fault_of(email: str) -> str:
    if len(email) > EMAIL_MAX:
        return f"An email address has up to {EMAIL_MAX} characters."
    try:
        validate_email(email)
    except ValidationError:
        return "This is not one email address."
    return ""


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text[:EMAIL_MAX])
