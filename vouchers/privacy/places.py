"""Where an address may be written: every column of text or JSON, of every table that tells of buyers.

Columns are found and not listed, so that a new one cannot be forgotten; what is left out is listed, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.db.models import CharField, Field, JSONField, Model, Q, QuerySet, TextField
from djstripe.models import Account, APIKey, WebhookEndpoint
from procrastinate.contrib.django.models import ProcrastinateJob

from courses.models import Course, Purchase
from vouchers.models import ApiKey, Guess, Issuance, Voucher, WebhookReceiver
from vouchers.privacy.addresses import Address

APPS = ("courses", "vouchers", "djstripe")
OTHERS: list[type[Model]] = [LogEntry, ProcrastinateJob]
# What the shop wrote of itself, and the tables that hold no text but an address of the internet.
NOT_OF_BUYERS: set[type[Model]] = {Account, APIKey, ApiKey, Course, Guess, WebhookEndpoint, WebhookReceiver}
# Staff and programs, by whom batches and requests are found again; and what the database keeps as it is.
NOT_OF_BUYERS_EITHER = {"actor", "caller", "vouchers_voucher.code"}
SHORTEST_ADDRESS = 6
ROWS_AT_ONCE = 500
# As everything else here locks them (docs/decisions/0015); the rest in any order.
FIRST: list[type[Model]] = [Purchase, Issuance, Voucher]


@dataclass(frozen=True)
class Place:
    """A table, and its columns that may hold an address."""

    model: type[Model]
    columns: tuple[Field[Any, Any], ...]

    @property
    def name(self) -> str:
        return name_of(self.model)

    @property
    def rows(self) -> QuerySet[Any]:
        # Not by the model's own manager: those of procrastinate's tables only read.
        return QuerySet(self.model)

    def rows_with(self, address: Address, *, lock: bool = False) -> Iterator[list[Any]]:
        """The rows that may hold it, some at a time, with these columns only."""
        names = [column.name for column in self.columns]
        may_hold = reduce(or_, (Q((f"{name}__icontains", written)) for name in names for written in address.spellings))
        keys = list(self.rows.filter(may_hold).order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(keys), ROWS_AT_ONCE):
            some = self.rows.filter(pk__in=keys[start : start + ROWS_AT_ONCE]).order_by("pk").only(*names)
            yield list(some.select_for_update(no_key=True) if lock else some)

    def replaced(self, row: Model, address: Address) -> dict[str, Any]:
        """The columns of a row in which it stands, with the tombstone in its place."""
        changed = {}
        for column in self.columns:
            before = getattr(row, column.name)
            after = address.replaced_in(before)
            if after != before:
                # A tombstone may be longer than the address in a text that was full.
                changed[column.name] = after[: column.max_length] if isinstance(after, str) else after
        return changed


def name_of(model: type[Model]) -> str:
    return str(model._meta.verbose_name_plural)


@cache
def places() -> tuple[Place, ...]:
    models = [*FIRST, *(model for app in APPS for model in apps.get_app_config(app).get_models()), *OTHERS]
    wanted = (model for model in dict.fromkeys(models) if model not in NOT_OF_BUYERS)
    found = (Place(model, tuple(_columns(model))) for model in wanted)
    return tuple(place for place in found if place.columns)


def _columns(model: type[Model]) -> Iterator[Field[Any, Any]]:
    for field in model._meta.concrete_fields:
        of_staff = {field.name, f"{model._meta.db_table}.{field.column}"} & NOT_OF_BUYERS_EITHER
        if isinstance(field, CharField | TextField | JSONField) and _is_free(field) and not of_staff:
            yield field


def _is_free(field: Field[Any, Any]) -> bool:
    """Whether it holds what people and programs wrote, rather than one of a few words or an id that we made."""
    long_enough = field.max_length is None or field.max_length >= SHORTEST_ADDRESS
    is_id = field.unique or any(rule.fields == (field.name,) for rule in field.model._meta.total_unique_constraints)
    return long_enough and not field.choices and not is_id
