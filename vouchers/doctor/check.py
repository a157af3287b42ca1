"""A check of the books: what ought to be so, the statement that finds where it is not, and how that is mended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import connection, transaction

Row = dict[str, Any]
SPELLED_OUT = 100
# A minute or two for 10,000,000 vouchers; the limit of a connection is made for requests.
LONGEST = "30min"
# Hashes of millions of keys, which would go through files otherwise.
WORK_MEM = "64MB"


@dataclass(frozen=True)
class Found:
    """`count` breaks, and the rows of the first of them."""

    count: int
    rows: list[Row]


class Check:
    """`breaks` selects a row for each break: its `key`, and what `sentence` is made of besides.

    One statement, and so of one moment: a busy desk raises no false alarm. A `%` in it is written twice.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    breaks: ClassVar[str]
    sentence: ClassVar[str]
    advice: ClassVar[str]
    """What a person must do about what cannot be healed."""

    def statement(self) -> tuple[str, list[Any]]:
        """`breaks`, and its parameters."""
        return self.breaks, []

    def find(self, limit: int = SPELLED_OUT) -> Found:
        """The exact number of breaks, and the first `limit` of them."""
        breaks, parameters = self.statement()
        counted = f"SELECT *, count(*) OVER () AS breaks FROM ({breaks}) AS found ORDER BY key LIMIT %s"  # noqa: S608
        rows = rows_of(counted, [*parameters, limit])
        return Found(rows[0]["breaks"] if rows else 0, rows)

    def has(self, key: object) -> bool:
        """Whether it is still broken there."""
        breaks, parameters = self.statement()
        return bool(rows_of(f"SELECT 1 AS broken FROM ({breaks}) AS found WHERE key = %s", [*parameters, key]))  # noqa: S608

    def say(self, row: Row) -> str:
        return self.sentence.format(**row)


class HealableCheck(Check, ABC):
    @abstractmethod
    def mend(self, row: Row) -> None:
        """Mends one break, in the caller's transaction, under the locks of what it changes; nothing where it is
        mended already. Raises `NotHealable` where that is for a person, or what the service it calls raises."""


@transaction.atomic
def rows_of(statement: str, parameters: list[Any]) -> list[Row]:
    """What a long statement gives, each row by the names of its columns."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('work_mem', %s, true)", [LONGEST, WORK_MEM]
        )
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description or []]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
