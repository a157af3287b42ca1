"""Books of a desk, and breaks of them that are planted past the rules."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from pytest_django.plugin import DjangoDbBlocker

from courses.models import Purchase
from tests.factories import CourseFactory, issue_to
from tests.stripe_events import Payment, tell
from vouchers.doctor.rounds import check_up
from vouchers.generating import generate_batch
from vouchers.guesses import Guesser
from vouchers.models import Batch, Delivery, Issuance, Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

ANN, BOB, DEE, ODD, RED, ROB, WIM = (
    f"{name}@example.com" for name in ["ann", "bob", "dee", "odd", "red", "rob", "wim"]
)


@pytest.fixture(scope="module")
def shared_books(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Made once for all tests of a module: each of them rolls back what it did to them."""
    with django_db_blocker.unblock(), transaction.atomic():
        make_books()
        yield
        transaction.set_rollback(True)


def make_books() -> None:
    """JS101 with nine codes, seven of them gone: some were paid for, two are redeemed; and PY201, where one waits."""
    course = CourseFactory.create(id="JS101", price=10)
    generate_batch(course=course, actor="tests", number=9)
    issue_to(course, ANN)
    tell(pay(BOB, 2).completed())
    disputed, refunded = pay(DEE), pay(ROB)
    tell(disputed.completed(), disputed.disputed(), refunded.completed(), refunded.refunded(1000))
    redeem(issue_to(course, RED).voucher)
    redeem(Voucher.objects.filter(status="available").first())  # a bearer
    CourseFactory.create(id="PY201", price=10)
    tell(pay(WIM, course="PY201").completed())
    tell(pay(ODD, course="NONE").completed())
    connection.check_constraints()
    Batch.objects.update(created_at="2026-01-01T00:00Z")


def pay(email: str, seats: int = 1, course: str = "JS101") -> Payment:
    return Payment(amount=1000 * seats, quantity=seats, email=email, course=course)


def redeem(voucher: Voucher | None) -> None:
    assert voucher is not None
    redeem_voucher(RedeemRequest(code=voucher.code, guesser=Guesser.of_address("127.0.0.1")))


def plant(*statements: str) -> None:
    """Past every trigger, as a restore or a superuser does; each changes one row, or the rules."""
    for statement in statements:
        changed = plant_rows(statement)
        assert changed in (-1, 1), f"{changed} rows changed by {statement}"


def plant_rows(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL session_replication_role = replica")
        cursor.execute(statement)
        changed = int(cursor.rowcount)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT; SET CONSTRAINTS ALL DEFERRED")
    return changed


def books() -> dict[str, list[str]]:
    """What the desk knows, without keys of what a healing may write anew, and without times."""
    tables: dict[str, tuple[Any, list[str]]] = {
        "vouchers": (Voucher, ["pk", "status", "issued_to", "revoked_reason"]),
        "on hold": (Voucher.objects.filter(held_since__isnull=False), ["pk"]),
        "issuances": (Issuance, ["course", "email", "purchase__reference", "unit", "voucher", "status"]),
        "not filled": (Issuance.objects.filter(held_since__isnull=False), ["pk"]),
        "purchases": (Purchase, ["provider", "reference", "course", "quantity", "amount", "refunded_amount", "review"]),
        "found good": (Purchase.objects.filter(completed_at__isnull=False), ["reference"]),
        "paid": (Purchase.objects.filter(paid_at__isnull=False), ["reference"]),
        "disputed": (Purchase.objects.filter(disputed_at__isnull=False), ["reference"]),
        "redemptions": (Redemption, ["pk", "purchase__reference", "redeemed_at"]),
        "emails": (Delivery, ["issuance__voucher", "purchase__reference", "kind", "series", "email", "status"]),
        "batches": (Batch, ["pk", "status", "read", "inserted", "duplicates", "invalid"]),
    }
    return {
        name: sorted(map(repr, getattr(rows, "objects", rows).values_list(*columns)))
        for name, (rows, columns) in tables.items()
    }


def doctor(*options: str) -> str:
    """What `manage.py doctor` prints, with the closing line of one that failed."""
    out = io.StringIO()
    try:
        call_command("doctor", *options, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        return f"{out.getvalue()}exit {error.returncode}: {error}\n"
    return out.getvalue()


def findings() -> dict[str, list[str]]:
    """What every check said; no sentence names a code or a buyer."""
    found = {finding["check"]: finding["sentences"] for finding in check_up("tests").findings}
    said = str(found)
    assert "@" not in said
    assert not [code for code in Voucher.objects.values_list("code", flat=True) if code in said]
    return found


@dataclass(frozen=True)
class Plant:
    """`statements` make one break that `check` finds and says as `sentence`; `also` are others that see it, too."""

    check: str
    sentence: str
    statements: tuple[str, ...]
    also: tuple[str, ...] = ()


def of(email: str) -> str:
    return f"(SELECT voucher_id FROM vouchers_issuance WHERE email = '{email}' ORDER BY id LIMIT 1)"


def issuance_of(email: str) -> str:
    return f"(SELECT min(id) FROM vouchers_issuance WHERE email = '{email}')"


def reference_of(email: str) -> str:
    return f"(SELECT reference FROM courses_purchase WHERE email = '{email}')"


UNHOLD = "UPDATE vouchers_voucher SET held_since = {} WHERE id = "
NOT_ISSUED = "status = 'available', issued_to = '', issued_at = NULL"
