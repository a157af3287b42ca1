"""The redemptions in the admin: a ledger, newest first, found by the address that was given."""

from __future__ import annotations

import pytest
from django.test import Client

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from vouchers.guesses import Guesser
from vouchers.models import Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher

pytestmark = pytest.mark.django_db
LIST = "/admin/vouchers/redemption/"


def spend(voucher: Voucher, email: str = "") -> Redemption:
    return redeem_voucher(RedeemRequest(code=voucher.code, email=email, guesser=Guesser("tests", 10)))


def shown(client: Client, **query: str) -> list[int]:
    return [row.pk for row in client.get(LIST, query).context["cl"].result_list]


def test_it_lists_them_newest_first_and_by_course(admin_client: Client, course: Course) -> None:
    other = CourseFactory.create(id="PY201")
    last, first = make_pool(course, 2)
    [between] = make_pool(other, 1)
    for minute, voucher in enumerate([first, between, last]):
        redemption = spend(voucher)
        redemption.purchase.created_at = f"2026-01-01T00:{minute:02}Z"
        redemption.purchase.save(update_fields=["created_at"])

    assert shown(admin_client) == [last.pk, between.pk, first.pk]
    assert shown(admin_client, purchase__course__id__exact="PY201") == [between.pk]


def test_it_finds_by_the_whole_address_given_at_the_checkout(admin_client: Client, course: Course) -> None:
    make_pool(course, 1)
    held = issue_to(course, "ann@example.com").voucher
    assert held is not None
    [paper] = make_pool(course, 1)
    spend(held)
    spend(paper, "Bob@example.com")

    assert shown(admin_client, q=" bob@EXAMPLE.com ") == [paper.pk]
    assert shown(admin_client, q="example.com") == []
    # Of the holder, and nobody typed it.
    assert shown(admin_client, q="ann@example.com") == []
