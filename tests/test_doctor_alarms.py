"""The doctor raises no false alarm: whatever the desk itself did to the books, and while it does it."""

from __future__ import annotations

import datetime as dt
import io
import random
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import NoReturn

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from courses.models import Course
from courses.money import seats_for
from tests.factories import CourseFactory, issue_to
from tests.planting import findings, plant_rows
from tests.racing import failures, together
from tests.stripe_events import Payment, tell
from vouchers.correcting import correct_address
from vouchers.delivery.outbox import claim_due, record_failure, record_sent
from vouchers.doctor.check import rows_of
from vouchers.doctor.payments import SEATS_TAKEN_BACK
from vouchers.doctor.rounds import check_up, heal
from vouchers.errors import DeskError
from vouchers.filling import sweep_waiting
from vouchers.generating import generate_batch
from vouchers.guesses import Guesser
from vouchers.importing import steps
from vouchers.importing.lines import Line
from vouchers.importing.storing import Upload, import_codes
from vouchers.models import Batch, Issuance, Voucher
from vouchers.payments.deeds import return_voucher
from vouchers.privacy.erasing import erase_buyer
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.revoking import revoke_voucher
from vouchers.tallies import fold

PRICE = 1000


class Shop:
    """A desk that things happen to at random, refused ones too; `dice` decides."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311
        self.payments: list[Payment] = []
        self.courses = [
            CourseFactory.create(id="JS101", price=PRICE // 100),
            CourseFactory.create(id="PY201", price=PRICE // 100, reveal="link", minimum_validity_days=3),
        ]
        self.deeds: list[Callable[[], object]] = [
            self.issue,
            self.pay,
            self.pay,
            self.refund,
            self.refund,
            self.dispute,
            self.end_dispute,
            self.upload,
            self.generate,
            self.undo,
            self.redeem,
            self.redeem,
            self.revoke,
            self.replace,
            self.correct,
            self.take_back,
            self.take_back,
            self.erase,
            self.send,
            self.check_file,
            fold,
        ]

    def live(self, deeds: int) -> None:
        for _ in range(deeds):
            with suppress(DeskError), transaction.atomic():
                self.dice.choice(self.deeds)()
            connection.check_constraints()

    def course(self) -> Course:
        return self.dice.choice(self.courses)

    def email(self) -> str:
        return f"buyer{self.dice.randrange(5)}@example.com"

    def voucher(self, **fields: str) -> Voucher:
        return self.dice.choice(list(Voucher.objects.filter(**fields)) or self._none())

    def issuance(self, **fields: str) -> Issuance:
        return self.dice.choice(list(Issuance.objects.filter(**fields)) or self._none())

    def payment(self) -> Payment:
        return self.dice.choice(self.payments or self._none())

    def _none(self) -> NoReturn:
        raise DeskError("There is none.")

    def issue(self) -> None:
        order = self.dice.choice(["", f"order {self.dice.randrange(20)}", *(p.intent_id for p in self.payments)])
        issue_to(self.course(), self.email(), order_id=order, tells_code=self.dice.random() < 0.2)

    def pay(self) -> None:
        seats = self.dice.randint(1, 3)
        amount = PRICE * seats - self.dice.choice([0, 0, 0, 0, 1])
        course = self.dice.choice(["JS101", "PY201", "PY201", "NONE"])
        payment = Payment(amount=amount, quantity=seats, course=course, email=self.email())
        self.payments.append(payment)
        if self.dice.random() < 0.2:
            tell(payment.refunded(PRICE))
        tell(payment.completed())

    def refund(self) -> None:
        payment = self.payment()
        tell(payment.refunded(self.dice.choice([PRICE // 2, PRICE, payment.amount])))

    def dispute(self) -> None:
        tell(self.payment().disputed())

    def end_dispute(self) -> None:
        tell(self.payment().dispute_ended(self.dice.choice(["won", "lost"])))

    def upload(self) -> None:
        codes = [f"SOLD-{self.dice.randrange(60):03}" for _ in range(4)] + ["?"]
        upload = Upload(
            course=self.course(),
            actor="tests",
            source="command",
            expires_on=timezone.localdate() + dt.timedelta(self.dice.choice([1, 30])),
        )
        import_codes(upload, [Line(number, code) for number, code in enumerate(codes, 1)])

    def check_file(self) -> None:
        upload = Upload(course=self.course(), actor="tests", source="admin", file_name="codes.txt")
        batch = steps.begin_upload(upload, io.BytesIO(b"CODE-001\nCODE-002\nCODE-001\n"))
        steps.carry_on(batch.pk)
        if self.dice.random() < 0.5:
            steps.cancel(batch)

    def generate(self) -> None:
        generate_batch(course=self.course(), actor="tests", number=2)

    def undo(self) -> None:
        batch = self.dice.choice(list(Batch.objects.all()) or self._none())
        steps.undo(batch)
        steps.carry_on(batch.pk)

    def redeem(self) -> None:
        guesser = Guesser.of_address(f"10.0.0.{self.dice.randrange(250)}")
        code = self.voucher(status=self.dice.choice(["available", "issued", "issued"])).code
        redeem_voucher(RedeemRequest(code=code, guesser=guesser, email=self.email()))

    def revoke(self) -> None:
        revoke_voucher(self.voucher(), reason="Stolen")

    def replace(self) -> None:
        replace_voucher(self.issuance(status="issued"), reason="Stolen", actor="tests")

    def correct(self) -> None:
        correct_address(self.issuance(), email=self.email(), actor="tests")

    def take_back(self) -> None:
        return_voucher(self.issuance(voucher__status="revoked"))

    def erase(self) -> None:
        erase_buyer(email=self.email(), actor="tests")

    def send(self) -> None:
        for delivery in claim_due(3):
            if self.dice.random() < 0.7:
                record_sent({delivery: "provider's"})
            else:
                record_failure(delivery, "no", permanent=self.dice.random() < 0.5)


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_nothing_in_whatever_the_desk_did(seed: int) -> None:
    shop = Shop(seed)
    for _ in range(2):
        shop.live(30)
        sweep_waiting()
        with transaction.atomic():
            for model in (Issuance, Batch):  # whatever is to be so after a minute only
                model.objects.update(created_at=F("created_at") - dt.timedelta(hours=1))
            assert findings() == {}


@pytest.mark.django_db(transaction=True)
def test_it_finds_nothing_while_vouchers_are_issued_and_redeemed() -> None:
    course = CourseFactory.create(id="JS101")
    generate_batch(course=course, actor="tests", number=60)

    def deed(n: int) -> list[object]:
        if n == 0:
            return [finding for _ in range(8) for finding in check_up("tests").findings]
        for number in range(10):
            issuance = issue_to(course, f"buyer{n}-{number}@example.com")
            if number % 2 and issuance.voucher:
                redeem_voucher(RedeemRequest(code=issuance.voucher.code, guesser=Guesser.of_key(f"key:{n}")))
        return []

    assert together(5, deed) == [[]] * 5
    assert Voucher.objects.filter(status="available").count() == 20


AMOUNTS = st.decimals(0, 400, places=2)


@pytest.mark.django_db
@settings(max_examples=200, deadline=None)
@given(
    paid=AMOUNTS,
    back=AMOUNTS,
    seats=st.integers(1, 12),
    currency=st.sampled_from(["usd", "jpy", "bhd", "isk", "xxx"]),
)
def test_it_counts_refunded_seats_as_settling_does(paid: Decimal, back: Decimal, seats: int, currency: str) -> None:
    if currency == "jpy":
        paid, back = round(paid, 0), round(back, 0)
    purchase = "SELECT %s::numeric AS amount, %s::numeric AS refunded_amount, %s::int AS quantity, %s AS currency"
    [row] = rows_of(f"SELECT {SEATS_TAKEN_BACK} AS seats FROM ({purchase}) AS p", [paid, back, seats, currency])
    assert row["seats"] == seats_for(back, paid, seats, currency)


@pytest.mark.django_db(transaction=True)
def test_who_heals_at_the_same_time_heals_once() -> None:
    course = CourseFactory.create(id="JS101")
    generate_batch(course=course, actor="tests", number=3)
    issuances = [issue_to(course, f"buyer{n}@example.com") for n in range(3)]
    with transaction.atomic():
        plant_rows("DELETE FROM vouchers_delivery")
        plant_rows("DELETE FROM vouchers_issuance")

    results = together(4, lambda _: heal("issued_is_owed", "tests"))

    assert not failures(results)
    assert findings() == {}
    owed = Issuance.objects.filter(status="issued", caller="doctor", deliveries__kind="voucher")
    assert sorted(owed.values_list("voucher", "email")) == sorted((i.voucher_id, i.email) for i in issuances)
