"""From "this purchase is paid" to its vouchers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from courses.models import Course, PaymentFact, Purchase
from tests.conftest import Caller
from tests.factories import CourseFactory, issue_to, make_pool
from tests.stripe_events import Payment, event, tell
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.progress import progress_of
from vouchers.payments.settling import settle
from vouchers.revoking import revoke_voucher

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced")]


def purchase() -> Purchase:
    return Purchase.objects.get()


def issued() -> int:
    return Issuance.objects.filter(status="issued").count()


class TestPaid:
    def test_it_keeps_who_bought_what_for_how_much(self, course: Course) -> None:
        make_pool(course, 1)
        payment = Payment(amount=5200)
        tell(payment.completed())
        found = purchase()
        assert (found.provider, found.reference, found.checkout) == ("stripe", payment.intent_id, payment.session_id)
        assert (found.course, found.email, found.quantity) == (course, "ann@example.com", 1)
        assert (found.amount, found.currency, found.live) == (Decimal("52.00"), "usd", False)
        assert progress_of(found).status == "issued"

    def test_it_waits_for_a_payment_that_comes_later(self, course: Course) -> None:
        make_pool(course, 1)
        payment = Payment()
        tell(payment.completed_unpaid())
        assert not Issuance.objects.exists()
        assert not Purchase.objects.exists()
        tell(payment.paid_later())
        assert issued() == 1

    def test_it_issues_nothing_for_a_payment_that_fails_later(self, course: Course) -> None:
        make_pool(course, 1)
        payment = Payment()
        tell(payment.completed_unpaid(), payment.failed_later())
        assert not Issuance.objects.exists()

    @pytest.mark.parametrize(
        ("session", "email"),
        [
            ({}, "ann@example.com"),
            ({"metadata": {"courseId": "JS101"}}, "details@example.com"),
            (
                {"metadata": {"courseId": "JS101"}, "customer_details": None, "customer_email": "c@example.com"},
                "c@example.com",
            ),
        ],
    )
    def test_it_finds_the_buyer(self, course: Course, session: dict[str, Any], email: str) -> None:
        make_pool(course, 1)
        tell(Payment().completed(**session))
        assert Voucher.objects.get(status="issued").issued_to == email

    def test_a_shop_may_make_its_own_intents(self, course: Course) -> None:
        make_pool(course, 1)
        payment = Payment(email=None)
        tell(event("payment_intent.succeeded", payment.intent(receipt_email="bob@example.com")))
        assert Voucher.objects.get(status="issued").issued_to == "bob@example.com"
        assert purchase().reference == payment.intent_id

    def test_an_intent_without_a_course_is_not_ours(self) -> None:
        tell(event("payment_intent.succeeded", Payment(course=None).intent()))
        assert not Purchase.objects.exists()

    def test_a_subscription_to_something_else_is_not_ours(self) -> None:
        tell(Payment(course=None).completed(mode="subscription"))
        assert not Purchase.objects.exists()

    def test_a_course_without_a_price_takes_any_amount(self, course: Course) -> None:
        Course.objects.update(price=None)
        make_pool(course, 1)
        tell(Payment(amount=1).completed())
        assert issued() == 1

    def test_tax_does_not_count_and_discounts_do(self, course: Course) -> None:
        make_pool(course, 2)
        taxed = {"amount_total": 5831, "total_details": {"amount_discount": 0, "amount_tax": 931}}
        tell(Payment().completed(**taxed))
        assert issued() == 1
        discounted = Payment()
        tell(
            discounted.completed(
                amount_total=5236, total_details={"amount_discount": 500, "amount_tax": 836, "amount_shipping": 0}
            )
        )
        assert issued() == 1
        assert "44.00 USD were paid" in Purchase.objects.get(reference=discounted.intent_id).review

    def test_currencies_without_coins_are_counted_whole(self, course: Course) -> None:
        Course.objects.update(price=4900, currency="jpy")
        make_pool(course, 2)
        tell(Payment(amount=4900, currency="jpy").completed())
        assert (issued(), purchase().amount) == (1, Decimal("4900.00"))
        tell(Payment(amount=4899, currency="jpy").completed())
        assert issued() == 1

    def test_settling_again_changes_nothing(self, course: Course) -> None:
        make_pool(course, 3)
        tell(Payment(amount=9800, quantity=2).completed())
        before = list(Issuance.objects.values()), list(Delivery.objects.values()), purchase().completed_at
        settle(purchase())
        assert (list(Issuance.objects.values()), list(Delivery.objects.values()), purchase().completed_at) == before


class TestSecondThoughts:
    """A checkout speaks more precisely than its intent, and may be told of later."""

    @pytest.fixture(autouse=True)
    def pool(self, course: Course) -> None:
        make_pool(course, 5)

    def told(self, *, intent_first: bool, amount: int = 14700, **intent: Any) -> None:
        payment = Payment(amount=amount, quantity=3)
        metadata = {"courseId": "JS101", "email": "ann@example.com"} | intent
        events = [event("payment_intent.succeeded", payment.intent(metadata=metadata)), payment.completed()]
        tell(*(events if intent_first else reversed(events)))

    @pytest.mark.parametrize("intent_first", [True, False])
    def test_it_may_know_of_more_seats(self, intent_first: bool) -> None:
        self.told(intent_first=intent_first)
        assert issued() == 3
        assert not Purchase.objects.for_review().exists()

    def test_seats_that_were_not_paid_are_not_added(self) -> None:
        self.told(intent_first=True, amount=4900)
        assert issued() == 1
        assert "147.00 USD are asked" in Purchase.objects.for_review().get().review

    def test_another_buyer_is_shown_to_staff(self) -> None:
        self.told(intent_first=True, email="typo@example.com")
        assert "'ann@example.com'" in Purchase.objects.for_review().get().review
        assert {*Issuance.objects.values_list("email", flat=True)} == {"typo@example.com"}

    def test_the_price_of_what_was_found_good_is_settled(self) -> None:
        payment = Payment()
        tell(payment.completed())
        Course.objects.update(price=99, currency="eur")
        tell(payment.refunded(100), payment.disputed(), payment.dispute_ended("won"))
        assert not Purchase.objects.for_review().exists()


class TestQuantity:
    def test_n_seats_are_n_vouchers(self, course: Course) -> None:
        make_pool(course, 5)
        tell(Payment(amount=3 * 4900, quantity=3).completed())
        seats = Issuance.objects.order_by("unit")
        assert [seat.unit for seat in seats] == [1, 2, 3]
        assert len({seat.voucher_id for seat in seats}) == Delivery.objects.filter(kind="voucher").count() == 3

    def test_the_buyer_gets_what_there_is_and_waits_for_the_rest(self, course: Course) -> None:
        make_pool(course, 2)
        tell(Payment(amount=4 * 4900, quantity=4).completed())
        assert [seat.status for seat in Issuance.objects.order_by("unit")] == ["issued", "issued", "waiting", "waiting"]
        progress = progress_of(purchase())
        assert (progress.status, progress.issued, progress.waiting, progress.position) == ("waiting", 2, 2, 1)
        assert Delivery.objects.filter(kind="waiting", email="ann@example.com").count() == 1

    def test_nobody_overtakes_a_waiting_seat(self, course: Course) -> None:
        issue_to(course, "first@example.com")
        tell(Payment().completed())
        assert progress_of(purchase()).position == 2


class TestOrder:
    """`POST /issue-voucher` with the reference of a payment for its order."""

    @pytest.mark.parametrize("reference", ["intent_id", "session_id"])
    def test_an_order_that_is_a_payment_means_that_payment(
        self, course: Course, caller: Caller, reference: str
    ) -> None:
        make_pool(course, 3)
        payment = Payment()
        tell(payment.completed())
        body = {"courseId": "JS101", "email": "Ann@example.com", "orderId": getattr(payment, reference)}
        answer = caller("issue").post("/issue-voucher", body, format="json", headers={"Idempotency-Key": "k"})
        assert answer.status_code == 200
        assert answer.json()["voucher"]["_id"] == Voucher.objects.get(status="issued").code
        assert (
            caller("issue").post("/issue-voucher", body | {"email": "bob@example.com"}, format="json").status_code
            == 422
        )
        assert issued() == 1

    @pytest.mark.parametrize("reference", ["intent_id", "session_id"])
    def test_a_shop_that_is_faster_than_the_webhook_gets_the_same_voucher(
        self, course: Course, caller: Caller, reference: str
    ) -> None:
        make_pool(course, 3)
        payment = Payment()
        body = {"courseId": "JS101", "email": "ann@example.com", "orderId": getattr(payment, reference)}
        assert caller("issue").post("/issue-voucher", body, format="json").status_code == 201
        tell(payment.completed())
        seat = Issuance.objects.get()
        assert (seat.purchase, seat.unit) == (purchase(), 1)
        assert caller("issue").post("/issue-voucher", body, format="json").status_code == 200

    def test_the_other_seats_of_it_are_issued_too(self, course: Course, caller: Caller) -> None:
        make_pool(course, 3)
        payment = Payment(amount=9800, quantity=2)
        body = {"courseId": "JS101", "email": "ann@example.com", "orderId": payment.intent_id}
        assert caller("issue").post("/issue-voucher", body, format="json").status_code == 201
        tell(payment.completed())
        assert [seat.unit for seat in Issuance.objects.order_by("unit")] == [1, 2]

    def test_the_same_order_of_another_course_is_another_request(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        make_pool(CourseFactory.create(id="PY201"), 1)
        payment = Payment()
        tell(payment.completed())
        body = {"courseId": "PY201", "email": "bob@example.com", "orderId": payment.intent_id}
        assert caller("issue").post("/issue-voucher", body, format="json").status_code == 201

    def test_nothing_is_issued_for_a_payment_that_is_not_good_yet(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = Payment(amount=100)
        tell(payment.completed())
        body = {"courseId": "JS101", "email": "ann@example.com", "orderId": payment.intent_id}
        answer = caller("issue").post("/issue-voucher", body, format="json")
        assert (answer.status_code, answer.json()["code"]) == (409, "payment_in_review")
        Purchase.objects.update(paid_at=None, review="")
        answer = caller("issue").post("/issue-voucher", body, format="json")
        assert (answer.status_code, answer.json()["code"]) == (409, "payment_pending")
        assert not Issuance.objects.exists()

    def test_a_payment_that_names_no_course_we_have_is_looked_at_first(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = Payment(course="JS999")
        tell(payment.completed())
        body = {"courseId": "JS101", "email": "ann@example.com", "orderId": payment.intent_id}
        answer = caller("issue").post("/issue-voucher", body, format="json")
        assert (answer.status_code, answer.json()["code"]) == (409, "payment_in_review")

    def test_an_order_that_was_taken_back_is_no_seat_of_the_payment(self, course: Course) -> None:
        make_pool(course, 2)
        payment = Payment()
        before = issue_to(course, order_id=payment.intent_id)
        assert before.voucher is not None
        revoke_voucher(before.voucher, reason="A mistake")
        tell(payment.completed())
        assert Issuance.objects.get(purchase=purchase()).status == "issued"
        assert progress_of(purchase()).status == "issued"

    def test_an_order_of_somebody_else_is_shown_to_staff(self, course: Course) -> None:
        make_pool(course, 2)
        payment = Payment()
        issue_to(course, "bob@example.com", order_id=payment.intent_id)
        tell(payment.completed())
        assert "to another email" in Purchase.objects.for_review().get().review
        tell(payment.refunded(100))  # and stays shown, whatever else is told
        assert "to another email" in Purchase.objects.for_review().get().review

    def test_one_who_waits_by_that_order_is_not_queued_twice(self, course: Course) -> None:
        payment = Payment()
        issue_to(course, order_id=payment.intent_id)
        tell(payment.completed())
        assert Issuance.objects.get().unit == 1
        assert progress_of(purchase()).position == 1

    def test_more_vouchers_than_seats_are_shown_to_staff(self, course: Course) -> None:
        make_pool(course, 3)
        payment = Payment()
        issue_to(course, order_id=payment.intent_id)
        issue_to(course, order_id=payment.session_id)
        tell(payment.completed())
        assert issued() == 2
        assert "than it has seats" in Purchase.objects.for_review().get().review

    def test_an_order_of_a_payment_that_was_given_back_is_closed(self, course: Course, caller: Caller) -> None:
        make_pool(course, 1)
        payment = Payment()
        tell(payment.refunded(4900), payment.completed())
        body = {"courseId": "JS101", "email": "ann@example.com", "orderId": payment.intent_id}
        answer = caller("issue").post("/issue-voucher", body, format="json")
        assert (answer.status_code, answer.json()["code"]) == (409, "issuance_closed")
        assert PaymentFact.objects.count() == 2
