"""The timeline of a case and the answer above it: everything that happened, once each, and no code."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course, PaymentFact
from tests.factories import PurchaseFactory, UserFactory, VoucherFactory, issue_to, make_pool
from vouchers.correcting import correct_address
from vouchers.delivery.outbox import resend_voucher
from vouchers.errors import DeskError
from vouchers.guesses import Guesser
from vouchers.issuing import IssueRequest, issue_voucher
from vouchers.models import ApiKey, Delivery, DeliveryEvent, Issuance, Voucher
from vouchers.payments.deeds import return_voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.revoking import revoke_voucher
from vouchers.support.answering import answer_of
from vouchers.support.cases import Case, case_of_issuance, case_of_purchase, case_of_voucher
from vouchers.support.entries import NOTE, Entry
from vouchers.support.timeline import timeline_of

pytestmark = pytest.mark.django_db
CODE = "JS101-XZ4B7Q-001"
NOON = dt.datetime(2026, 8, 3, 12, tzinfo=dt.UTC)


@pytest.fixture
def staff(db: None) -> User:
    user: User = UserFactory.create(username="carol")
    return user


@pytest.fixture
def issuance(course: Course) -> Issuance:
    VoucherFactory.create(course=course, code=CODE)
    return issue_to(course, order_id="order-77")


def at(minutes: int) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minutes)


def set_row(row: Model, **fields: Any) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**fields)


def log(row: Model, user: User, words: str) -> None:
    entries = LogEntry.objects.log_actions(user.pk, [row], CHANGE, change_message=words, single_object=True)
    assert entries


def history(issuance: Issuance) -> list[Entry]:
    return timeline_of(case_of_issuance(issuance.pk))


def told(entries: list[Entry]) -> list[str]:
    return [entry.what for entry in entries]


def entry(entries: list[Entry], words: str) -> Entry:
    """The one entry that says so."""
    (found,) = [entry for entry in entries if words in entry.what]
    return found


def answer(case: Case) -> str:
    return answer_of(case).words


def redeem(code: str = CODE, **fields: Any) -> None:
    redeem_voucher(RedeemRequest(code=code, guesser=Guesser("address:192.0.2.1/32", 10), **fields))


def refuse(code: str = CODE, **fields: Any) -> None:
    with pytest.raises(DeskError):
        redeem(code, **fields)


def test_it_tells_the_whole_story_in_its_order(course: Course, staff: User) -> None:
    VoucherFactory.create(course=course, code=CODE)
    VoucherFactory.create(course=course, code="JS101-AAAAAA-002")
    me = f"user:{staff.pk}"
    issuance = issue_to(course, "amn@example.com", order_id="order-77")
    delivery = issuance.deliveries.get()
    set_row(delivery, status="sent", sent_at=timezone.now())
    DeliveryEvent.objects.create(
        delivery=delivery, provider="postmark", key="1", kind="bounced", at=timezone.now(), reason="550 no such user"
    )
    correct_address(issuance, email="ann@example.com", actor=me)
    assert issuance.voucher
    log(issuance.voucher, staff, f"Corrected the address of issuance {issuance.pk} and sent its email there.")
    refuse(course_id="PY201")
    new = replace_voucher(issuance, reason="posted in a forum", actor=me)
    log(issuance.voucher, staff, f"Replaced the code of issuance {issuance.pk} by voucher {new.pk}: posted in a forum")
    redeem("JS101-AAAAAA-002", email="ann@example.com")

    assert told(history(issuance)) == [
        "Voucher of JS101 asked for, for amn@example.com",
        "Issued: ••••-001",
        "Voucher email queued for amn@example.com",
        "Voucher email sent to amn@example.com",
        "Voucher email bounced",
        "Address corrected: amn@example.com → ann@example.com",
        "Voucher email 2 queued for ann@example.com",
        "Redeeming ••••-001 was refused: another course was named",
        "Code replaced: ••••-001 is revoked, ••••-002 issued",
        "Voucher email 3 queued for ann@example.com",
        "••••-002 redeemed by ann@example.com, a free purchase made",
    ]


def test_no_entry_holds_a_code(issuance: Issuance, staff: User) -> None:
    make_pool(issuance.course, 1)
    refuse(course_id="PY201")
    replace_voucher(issuance, reason="stolen", actor=f"user:{staff.pk}")
    refuse()
    revoke_voucher(Voucher.objects.get(status="issued"), reason="stolen too")

    said = " ".join(f"{entry.what} {entry.detail} {entry.who}" for entry in history(issuance))
    for code in Voucher.objects.values_list("code", flat=True):
        assert code not in said
        assert f"••••{code[-4:]}" in said


@pytest.mark.parametrize(
    ("caller", "who"),
    [
        ("command", "the command line"),
        ("payment:paypal", "the payment (PayPal)"),
        ("user:1000000", "user:1000000"),
        ("key:gone1234", "key:gone1234"),
    ],
)
def test_it_says_who_asked(issuance: Issuance, caller: str, who: str) -> None:
    set_row(issuance, caller=caller)

    assert entry(history(issuance), "asked for").who == who
    assert entry(history(issuance), "asked for").detail == "Order order-77"


def test_it_calls_staff_and_api_keys_by_their_names(issuance: Issuance, staff: User) -> None:
    key, _ = ApiKey.objects.create_key(name="shop", scopes=["issue"])
    set_row(issuance, caller=f"key:{key.prefix}")
    correct_address(issuance, email="bob@example.com", actor=f"user:{staff.pk}")

    assert entry(history(issuance), "asked for").who == "API key shop"
    assert entry(history(issuance), "Address corrected").who == "carol"


def test_every_fact_of_the_payment_is_told(course: Course) -> None:
    make_pool(course, 1)
    purchase = PurchaseFactory.create(course=course, reference="pi_77", began_here=True, created_at=at(0))
    issuance = issue_to(course)
    set_row(issuance, purchase=purchase, unit=1)
    for number, kind in enumerate(PaymentFact.Kind):
        fact = {"amount": Decimal("49.00"), "at": at(number + 1), "source": "evt", "key": f"key_{number}"}
        PaymentFact.objects.create(provider="stripe", reference="pi_77", kind=kind, **fact)
    PaymentFact.objects.create(provider="stripe", reference="pi_78", kind="paid", **fact | {"key": "another"})

    assert told(history(issuance))[:9] == [
        "Checkout begun: 1 seat of JS101 for ann@example.com",
        "Paid: 49.00 USD",
        "The payment is on its way: 49.00 USD",
        "The payment failed: 49.00 USD",
        "Refunded: 49.00 USD",
        "A refund failed: 49.00 USD",
        "The payment is disputed: 49.00 USD",
        "The dispute was won: 49.00 USD",
        "The dispute was lost: 49.00 USD",
    ]
    assert entry(history(issuance), "Paid").who == "Stripe"


def test_a_refund_that_stripe_tells_of_twice_is_told_once(course: Course) -> None:
    purchase = PurchaseFactory.create(course=course, reference="pi_77")
    for key, amount in (("re_1", 10), ("re_2", 15), ("ch_1", 25)):
        told_of = {"key": key, "amount": Decimal(amount), "at": NOON, "source": "evt"}
        PaymentFact.objects.create(provider="stripe", reference="pi_77", kind="refunded", **told_of)

    refunds = [what for what in told(timeline_of(case_of_purchase(purchase.pk))) if "Refunded" in what]
    assert refunds == ["Refunded: 10.00 USD", "Refunded: 15.00 USD"]


def test_what_was_decided_about_a_payment_is_told_once_with_who_did_it(course: Course, staff: User) -> None:
    times = {"paid_at": at(1), "reviewed_at": at(5), "accepted_at": at(5), "completed_at": at(6)}
    purchase = PurchaseFactory.create(course=course, review="Paid too little.", created_at=at(0), **times)
    log(purchase, staff, "Accepted after review.")

    entries = timeline_of(case_of_purchase(purchase.pk))

    assert told(entries)[1:] == [
        "To be reviewed by staff",
        "Accepted after review",
        "Payment found good, 1 voucher owed",
    ]
    assert (entries[1].detail, entries[2].who) == ("Paid too little.", "carol")


def test_waiting_is_told_with_the_place_of_now(course: Course) -> None:
    first, second = issue_to(course, "first@example.com"), issue_to(course, "second@example.com")

    assert "Put into the queue, now at place 2" in told(history(second))
    assert answer(case_of_issuance(second.pk)).endswith(", place 2 in the queue.")
    set_row(first, held_since=NOON)
    assert "Put into the queue, now at place 1" in told(history(second))
    assert "On hold, not filled meanwhile: the payment is disputed" in told(history(first))
    assert answer(case_of_issuance(first.pk)).endswith(", on hold: the payment is disputed.")


def test_how_long_somebody_waited_is_told(issuance: Issuance) -> None:
    set_row(issuance, created_at=NOON, issued_at=at(180))

    assert "Issued after 3\xa0hours in the queue: ••••-001" in told(history(issuance))


def test_evidence_that_a_code_was_seen_is_told_of_each_code(issuance: Issuance) -> None:
    make_pool(issuance.course, 1)
    set_row(issuance, seen_at=at(1), told_at=at(0))
    replace_voucher(issuance, reason="stolen", actor="user:0")
    new = Issuance.objects.get(pk=issuance.pk)
    set_row(new, seen_at=timezone.now())
    assert new.voucher

    seen = [what for what in told(history(issuance)) if "saw" in what or "answered" in what]
    assert seen == [
        "The program that asked was answered with ••••-001",
        "The buyer saw ••••-001",
        f"The buyer saw ••••{new.voucher.code[-4:]}",
    ]


@pytest.mark.parametrize("kind", list(DeliveryEvent.Kind))
def test_whatever_the_provider_told_of_an_email_is_told_with_its_reason(issuance: Issuance, kind: str) -> None:
    event = {"provider": "mailgun", "key": "1", "at": timezone.now(), "reason": "4.2.2 mailbox full"}
    DeliveryEvent.objects.create(delivery=issuance.deliveries.get(), kind=kind, **event)

    last = history(issuance)[-1]
    assert last.what.startswith("Voucher email ")
    assert (last.detail, last.who, last.kind) == ("4.2.2 mailbox full", "mailgun", "email")


def test_an_email_that_we_could_not_send_is_told_with_the_reason(issuance: Issuance) -> None:
    delivery = issuance.deliveries.get()
    set_row(delivery, last_error="451 try later", attempts=2, due_at=timezone.now() + dt.timedelta(hours=1))
    assert entry(history(issuance), "queued for").detail.endswith(": 451 try later")
    assert " after 2 attempts: 451 try later" in answer(case_of_issuance(issuance.pk))

    set_row(delivery, status="failed", last_error="550 no such user")
    assert entry(history(issuance), "could not be sent").detail == "550 no such user"
    assert "email failed: 550 no such user" in answer(case_of_issuance(issuance.pk))


def test_a_resend_is_told_once_with_who_did_it(issuance: Issuance, staff: User) -> None:
    delivery = resend_voucher(issuance)
    assert issuance.voucher
    log(issuance.voucher, staff, f"Sent the email of issuance {issuance.pk} again (delivery {delivery.pk}).")

    assert entry(history(issuance), "email 2 queued").who == "carol"
    assert not [what for what in told(history(issuance)) if what.startswith("Sent the email")]


def test_each_refusal_is_told_in_full_words(issuance: Issuance) -> None:
    refuse(course_id="PY201", email="eve@example.com")
    refuse(course_id="PY202", email="eve@example.com")

    refused = entry(history(issuance), "refused")
    assert refused.what == "Redeeming ••••-001 was refused 2 times: another course was named"
    assert refused.detail.endswith("course given: PY202, email given: eve@example.com")
    assert refused.who == "anonymous, 192.0.2.1"


def test_a_revocation_is_told_once_with_its_reason_and_who_did_it(issuance: Issuance, staff: User) -> None:
    assert issuance.voucher
    revoke_voucher(issuance.voucher, reason="stolen")
    log(issuance.voucher, staff, "Revoked: stolen")

    revoked = entry(history(issuance), "revoked")
    assert (revoked.what, revoked.detail, revoked.who) == ("••••-001 revoked", "stolen", "carol")
    assert told(history(issuance)).count("Revoked: stolen") == 0
    assert ": stolen" in answer(case_of_issuance(issuance.pk))


def test_a_return_to_the_pool_is_told_once_and_nothing_of_the_next_buyer(course: Course, staff: User) -> None:
    course.reveal = Course.Reveal.LINK
    course.save(update_fields=["reveal"])
    voucher = VoucherFactory.create(course=course, code=CODE)
    issuance = issue_to(course)
    revoke_voucher(voucher, reason="refunded")
    return_voucher(issuance)
    log(issuance, staff, f"Put the code of voucher {voucher.pk} back into the pool.")
    following = issue_to(course, "bob@example.com")
    redeem()

    assert entry(history(issuance), "back into the pool").who == "carol"
    assert not [what for what in told(history(issuance)) if "redeemed" in what]
    assert "nothing is owed any more" in answer(case_of_issuance(issuance.pk))
    assert [what for what in told(history(following)) if "redeemed" in what]


def test_what_only_the_log_knows_is_told_too(issuance: Issuance, staff: User) -> None:
    assert issuance.voucher
    log(issuance.voucher, staff, "Saw the whole code.")
    log(issuance, staff, f"{NOTE}money given back in cash")

    seen, note = history(issuance)[-2:]
    assert (seen.what, seen.who, seen.kind) == ("Saw the whole code.", "carol", "staff")
    assert (note.what, note.detail) == ("Note", "money given back in cash")


def test_the_log_of_a_code_from_before_it_was_owed_here_is_left_out(issuance: Issuance, staff: User) -> None:
    assert issuance.voucher
    log(issuance.voucher, staff, "Revoked: of the buyer before")
    LogEntry.objects.update(action_time=NOON)
    set_row(issuance, created_at=at(1))

    assert "Revoked: of the buyer before" not in told(history(issuance))


def test_the_end_of_its_validity_comes_last_while_it_is_ahead(issuance: Issuance, settings: Any) -> None:
    assert issuance.voucher
    day = timezone.localdate() + dt.timedelta(days=5)
    set_row(issuance.voucher, expires_on=day)

    last = history(issuance)[-1]
    assert last.is_ahead
    assert last.what == f"••••-001 expires at the end of {day.day} {day:%b %Y}"
    set_row(issuance.voucher, expires_on=dt.date(2026, 8, 3))
    assert "••••-001 expired at the end of 3 Aug 2026" in told(history(issuance))
    assert answer(case_of_issuance(issuance.pk)) == "Expired at the end of 3 Aug 2026, not redeemed."


def test_the_page_of_a_payment_tells_of_all_its_seats(course: Course) -> None:
    make_pool(course, 1)
    purchase = PurchaseFactory.create(course=course, quantity=2, paid_at=NOON)
    for unit in (1, 2):
        set_row(issue_to(course, order_id=f"{unit}"), purchase=purchase, unit=unit)

    case = case_of_purchase(purchase.pk)

    assert {entry.seat for entry in timeline_of(case)} == {None, 1, 2}
    assert answer(case) == "Paid, 49.00 USD, 3 Aug 2026 12:00. Of its seats: 1 issued, email queued; 1 waiting."


def test_a_code_redeemed_from_the_pool_has_a_timeline_of_its_own(course: Course) -> None:
    voucher = VoucherFactory.create(course=course, code=CODE)
    assert answer(case_of_voucher(voucher.pk)) == "In the pool: nobody holds this code."
    redeem(email="eve@example.com")

    case = case_of_voucher(voucher.pk)

    assert told(timeline_of(case)) == ["••••-001 redeemed by eve@example.com, a free purchase made"]
    assert answer(case).endswith(", never issued to anybody.")


FATES = {
    "queued": ({}, "email queued, due 3 Aug 2026 12:00"),
    "sending": ({"status": "sending"}, "email being sent"),
    "accepted": ({"status": "sent"}, "email accepted by the mail server 3 Aug 2026 12:01"),
    "delivered": ({"status": "sent", "fate": "delivered"}, "email delivered 3 Aug 2026 12:02"),
    "bounced": (
        {"status": "sent", "fate": "bounced", "fate_reason": "550 no such user"},
        "email bounced 3 Aug 2026 12:02: 550 no such user",
    ),
}


@pytest.mark.parametrize("fate", FATES)
def test_the_answer_says_where_the_email_of_an_unredeemed_voucher_is(issuance: Issuance, fate: str) -> None:
    fields, words = FATES[fate]
    times = {"sent_at": at(1)} if fields.get("status") == "sent" else {}
    times |= {"fate_at": at(2)} if fields.get("fate") else {}
    set_row(issuance.deliveries.get(), due_at=NOON, **times, **fields)
    set_row(issuance, issued_at=NOON)

    assert answer(case_of_issuance(issuance.pk)) == f"Issued on 3 Aug 2026 12:00, {words}, not redeemed."


def test_the_answer_says_whether_a_code_behind_a_link_was_seen(course: Course) -> None:
    course.reveal = Course.Reveal.LINK
    course.save(update_fields=["reveal"])
    make_pool(course, 1)
    issuance = issue_to(course)
    assert answer(case_of_issuance(issuance.pk)).endswith(", not seen, not redeemed.")

    set_row(issuance, seen_at=at(5))
    assert answer(case_of_issuance(issuance.pk)).endswith(", seen 3 Aug 2026 12:05, not redeemed.")


def test_the_answer_about_a_redeemed_voucher_is_when(issuance: Issuance) -> None:
    redeem()
    when = Voucher.objects.get().redeemed_at
    assert when

    assert answer(case_of_issuance(issuance.pk)) == f"Redeemed on {when.day} {when:%b %Y %H:%M}."


def test_times_are_those_of_the_shop(issuance: Issuance, settings: Any) -> None:
    set_row(issuance, seen_at=at(0))
    with timezone.override("Asia/Tokyo"):
        assert "seen 3 Aug 2026 21:00" in answer(case_of_issuance(issuance.pk))


def test_it_takes_the_same_number_of_statements_however_much_happened(
    course: Course, staff: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    def happen(email: str) -> None:
        refuse(course_id=email[:3], code=Voucher.objects.get(pk=held()).code)
        correct_address(issuance, email=email, actor=f"user:{staff.pk}")
        log(issuance, staff, f"{NOTE}{email}")
        replace_voucher(issuance, reason="again", actor=f"user:{staff.pk}")
        for number, delivery in enumerate(Delivery.objects.all()):
            event = {"provider": email, "key": f"{number}", "kind": "deferred", "at": timezone.now()}
            DeliveryEvent.objects.create(delivery=delivery, **event)

    def held() -> int:
        return Issuance.objects.values_list("voucher", flat=True).get() or 0

    make_pool(course, 9)
    purchase = PurchaseFactory.create(course=course)
    asked = IssueRequest(course_id=course.pk, email="ann@example.com", caller=f"user:{staff.pk}")
    issuance = issue_voucher(asked).issuance
    set_row(issuance, purchase=purchase, unit=1)
    happen("first@example.com")
    with CaptureQueriesContext(connection) as few:
        timeline_of(case_of_issuance(issuance.pk))
    for number in range(5):
        happen(f"{number}@example.com")

    with django_assert_num_queries(len(few)):
        assert len(history(issuance)) > 40
    with django_assert_num_queries(len(few) + 1):  # purchase and seats are two
        timeline_of(case_of_purchase(purchase.pk))
    assert len(few) == 10
