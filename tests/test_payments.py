"""From "this purchase is paid" to its vouchers: which payments are good, and what is issued for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings

from courses.models import Course, PaymentFact, Purchase
from tests.conftest import Caller
from tests.factories import CourseFactory, issue_to, make_pool
from tests.stripe_events import KEY, Payment, event, tell
from vouchers.errors import NotReviewable
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.deeds import accept_purchase, close_review
from vouchers.payments.progress import progress_of
from vouchers.payments.settling import settle
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def course_for_sale(course: Course) -> Course:
    course.price = Decimal("49.00")
    course.save(update_fields=["price"])
    return course


def purchase() -> Purchase:
    return Purchase.objects.get()


def issued() -> int:
    return Issuance.objects.filter(status="issued").count()


def for_review(*events: dict[str, Any]) -> str:
    """Why what these events tell must be looked at; nothing may have been issued."""
    tell(*events)
    found = purchase()
    assert found.paid_at is not None
    assert found.completed_at is None
    assert not Issuance.objects.exists()
    assert progress_of(found).status == "review"
    assert list(Purchase.objects.for_review()) == [found]
    return found.review


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


class TestReview:
    @pytest.fixture(autouse=True)
    def pool(self, course: Course) -> None:
        make_pool(course, 3)

    def test_too_little(self) -> None:
        assert "48.99 USD were paid" in for_review(Payment(amount=4899).completed())

    def test_too_little_for_so_many(self) -> None:
        assert "98.00 USD are asked" in for_review(Payment(quantity=2).completed())

    def test_wholly_discounted(self) -> None:
        free = {"amount_total": 0, "payment_status": "no_payment_required", "payment_intent": None}
        discount = {"total_details": {"amount_discount": 4900, "amount_tax": 0}}
        assert "discounted wholly" in for_review(Payment().completed(**free, **discount))

    def test_wholly_discounted_is_for_review_without_a_price_too(self) -> None:
        Course.objects.update(price=None)
        assert "Nothing was paid" in for_review(Payment(amount=0).completed(payment_status="no_payment_required"))

    def test_another_currency(self) -> None:
        assert "sold in USD" in for_review(Payment(amount=490000, currency="jpy").completed())

    @pytest.mark.parametrize("name", ["JS999", "js101", "JS101 OR 1=1", "x" * 300])
    def test_an_unknown_course(self, name: str) -> None:
        assert "There is no course" in for_review(Payment(course=name).completed())

    def test_a_subscription(self) -> None:
        assert "subscription" in for_review(Payment().completed(mode="subscription"))

    def test_a_checkout_without_a_course(self) -> None:
        assert "does not say which course" in for_review(Payment(course=None).completed())

    @pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "two", "1001", "\uff19", "9" * 200])
    def test_a_quantity_that_is_none(self, quantity: str) -> None:
        metadata = Payment().metadata | {"quantity": quantity}
        assert "no number from 1 to 1000" in for_review(Payment(amount=10**9).completed(metadata=metadata))

    @pytest.mark.parametrize("email", ["ann", "ann@example.com, bob@example.com", "a" * 250 + "@example.com"])
    def test_an_email_that_is_none(self, email: str) -> None:
        assert "email" in for_review(Payment(email=email).completed())

    def test_no_email(self) -> None:
        assert "no email" in for_review(Payment(email=None).completed(customer_details=None))

    def test_another_account(self) -> None:
        assert "another account, acct_other" in for_review(Payment().completed() | {"account": "acct_other"})

    def test_a_test_payment_where_real_ones_are_taken(self, settings: Settings) -> None:
        settings.STRIPE_SECRET_KEY = KEY.replace("test", "live")
        assert "test payment" in for_review(Payment().completed())

    def test_a_real_payment_where_test_ones_are_taken(self, settings: Settings) -> None:
        settings.STRIPE_SECRET_KEY = KEY
        assert "real payment" in for_review(Payment().completed() | {"livemode": True})

    def test_staff_accept_it_and_it_is_issued(self, course: Course) -> None:
        tell(Payment(course="JS999", amount=100).completed())
        accepted = accept_purchase(purchase(), course=course, email="bob@example.com", quantity=1)
        assert progress_of(accepted).status == "issued"
        assert Voucher.objects.get(status="issued").issued_to == "bob@example.com"
        assert not Purchase.objects.for_review().exists()
        settle(accepted)
        assert issued() == 1
        with pytest.raises(NotReviewable):
            accept_purchase(purchase(), course=course, email="bob@example.com", quantity=1)

    def test_staff_say_how_many_seats_there_are(self, course: Course) -> None:
        metadata = Payment().metadata | {"quantity": "two"}
        tell(Payment(amount=9800).completed(metadata=metadata))
        accept_purchase(purchase(), course=course, email="ann@example.com", quantity=2)
        assert issued() == 2

    def test_what_was_issued_is_not_accepted_once_more(self, course: Course) -> None:
        payment = Payment()
        tell(payment.completed(), event("refund.failed", payment.refund(100, status="failed")))
        with pytest.raises(NotReviewable):
            accept_purchase(purchase(), course=course, email="bob@example.com", quantity=2)
        assert purchase().quantity == 1

    def test_what_staff_closed_is_not_issued_when_it_would_be_good_later(self, course: Course) -> None:
        payment = Payment(amount=100)
        tell(payment.completed())
        close_review(purchase())
        Course.objects.update(price=1)
        tell(event("payment_intent.succeeded", payment.intent()), payment.dispute_ended("won"))
        assert not Issuance.objects.exists()
        assert purchase().reviewed_at is not None

    def test_staff_close_it_and_it_stays_closed(self) -> None:
        payment = Payment(amount=100)
        tell(payment.completed())
        close_review(purchase())
        tell(event("payment_intent.succeeded", payment.intent()))
        assert not Purchase.objects.for_review().exists()
        assert not Issuance.objects.exists()
        with pytest.raises(NotReviewable):
            close_review(purchase())


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
