"""What a second reader found in the support desk, each hole tried from outside."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from courses.models import Course, Purchase
from tests.factories import VoucherFactory, issue_to, make_pool
from tests.staff import log_in
from tests.stripe_events import Payment, tell
from vouchers.correcting import correct_address
from vouchers.delivery.outbox import claim_due, record_failure, record_sent
from vouchers.delivery.sending import send_due
from vouchers.errors import NotRevealable, VoucherRevoked
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.progress import progress_of
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.reminding import queue_reminders
from vouchers.replacing import replace_voucher
from vouchers.revealing import reveal_code
from vouchers.revoking import revoke_voucher
from vouchers.support.searching import find_cases

pytestmark = pytest.mark.django_db
CODE = "JS101-XZ4B7Q-001"
OLD, NEW = "ann@exmaple.com", "ann@example.com"


@pytest.fixture(autouse=True)
def _locmem(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


@pytest.fixture
def issuance(course: Course) -> Issuance:
    VoucherFactory.create(course=course, code=CODE)
    return issue_to(course, OLD)


def fail_what_is_due() -> None:
    for delivery in claim_due(10):
        record_failure(delivery, "550 no such user", permanent=True)


def send_what_is_due() -> None:
    for delivery in claim_due(10):
        record_sent({delivery: ""})


def take_back(issuance: Issuance) -> None:
    with transaction.atomic():
        Issuance.objects.filter(pk=issuance.pk).update(status="returned")
        Voucher.objects.filter(issuances=issuance).update(
            status="available", issued_at=None, issued_to="", revoked_at=None, revoked_reason=""
        )


class TestLanguageSwitch:
    @pytest.mark.parametrize("path", ["//evil.example/x", "/nothing-here"])
    def test_it_leads_nowhere_from_a_page_that_is_not_there(self, db: None, path: str) -> None:
        answer = Client().get(path, {"language": "de"})
        assert answer.status_code == 404
        assert not answer.cookies

    def test_it_leads_back_to_the_same_page_of_this_site(self, course: Course) -> None:
        assert Client().get("/courses/JS101", {"language": "de"}).headers["Location"] == "/courses/JS101"


class TestReplaced:
    def test_what_was_still_to_be_sent_of_the_old_code_is_withdrawn(self, issuance: Issuance) -> None:
        """Or one Message-ID would stand over two codes."""
        make_pool(issuance.course, 1)
        replace_voucher(issuance, reason="stolen", actor="tests")

        assert send_due() == 1

        first, second = issuance.deliveries.order_by("series")
        assert (first.status, first.last_error) == ("failed", "Not sent: the code was replaced.")
        assert second.status == "sent"
        assert len(mail.outbox) == 1


class TestCodesOfOthers:
    BODY = {"courseId": "JS101", "email": OLD}

    def ask(self, *permissions: str) -> str:
        client = log_in("issue_voucher", *permissions)
        answer = client.post("/issue-voucher", self.BODY, content_type="application/json")
        assert answer.status_code == 200
        return str(answer.json()["voucher"]["_id"])

    def test_staff_who_may_not_see_codes_are_answered_with_a_masked_one(self, issuance: Issuance) -> None:
        assert self.ask() == "••••-001"
        issuance.refresh_from_db()
        assert issuance.told_at is None

    def test_staff_who_may_are_answered_with_it(self, issuance: Issuance) -> None:
        assert self.ask("reveal_voucher") == CODE
        issuance.refresh_from_db()
        assert issuance.told_at is not None

    def test_a_search_spells_out_no_code_for_those_who_may_not_see_it(self, issuance: Issuance) -> None:
        def found(term: str) -> bool:
            page = log_in("view_issuance").get("/admin/support/", {"q": term})
            return page.status_code == 302

        assert [found(term) for term in (CODE, "-001", "Q-001", "XZ4B", "JS101")] == [True, True, False, False, False]
        assert log_in("view_issuance", "reveal_voucher").get("/admin/support/", {"q": "XZ4B"}).status_code == 302

    def test_a_search_takes_what_people_paste_along(self, issuance: Issuance) -> None:
        assert [hit.subject for hit in find_cases(f'"{CODE}".').hits] == [issuance]


class TestUndelivered:
    def test_what_a_stranger_saw_does_not_hide_that_the_holder_got_nothing(self, issuance: Issuance) -> None:
        Issuance.objects.update(seen_at=timezone.now() - dt.timedelta(minutes=1))
        correct_address(issuance, email=NEW, actor="tests")
        fail_what_is_due()
        assert Delivery.objects.undelivered().get().email == NEW

    def test_a_reminder_that_is_on_its_way_hides_nothing(self, issuance: Issuance) -> None:
        fail_what_is_due()
        reminder = Delivery.objects.create(issuance=issuance, kind="reminder", email=OLD, message_id="<r@desk>")
        assert Delivery.objects.undelivered().get().kind == "voucher"
        Delivery.objects.filter(pk=reminder.pk).update(fate="delivered", fate_at=timezone.now())
        assert not Delivery.objects.undelivered().exists()

    def test_the_buyer_is_not_told_that_it_was_sent_to_where_it_was_not(self, priced: Course) -> None:
        make_pool(priced, 1)
        tell(Payment(email=OLD).completed())
        send_what_is_due()
        correct_address(Issuance.objects.get(), email=NEW, actor="tests")
        fail_what_is_due()
        progress = progress_of(Purchase.objects.get())
        assert (progress.sent, progress.unsent) == (0, 1)


class TestNotices:
    def test_news_of_the_queue_does_not_go_where_nobody_waits_any_more(self, priced: Course) -> None:
        tell(Payment(email=OLD).completed())
        correct_address(Issuance.objects.get(), email=NEW, actor="tests")
        assert send_due() == 1
        assert mail.outbox[0].to == [NEW]

    def test_a_reminder_goes_with_the_corrected_address(self, issuance: Issuance) -> None:
        Course.objects.update(remind_after_days=1)
        send_due()
        queue_reminders(timezone.now() + dt.timedelta(days=2))
        correct_address(issuance, email=NEW, actor="tests")
        send_due()
        assert [message.to for message in mail.outbox] == [[OLD], [NEW], [NEW]]

    def test_a_repeat_keeps_its_language_whatever_is_learnt_of_the_buyer(self, priced: Course) -> None:
        make_pool(priced, 1)
        tell(Payment().completed())
        Purchase.objects.update(language="de")
        send_due()
        assert mail.outbox[0].subject == "Your voucher for JavaScript Basics"


class TestRevealed:
    def test_a_link_that_was_opened_before_shows_nothing_once_the_address_is_corrected(
        self, issuance: Issuance
    ) -> None:
        """The page was loaded by whoever got the misdirected email; the button is pressed a moment too late."""
        read_before = Issuance.objects.lock(issuance.pk)
        correct_address(issuance, email=NEW, actor="tests")
        with pytest.raises(NotRevealable):
            reveal_code(read_before)
        issuance.refresh_from_db()
        assert issuance.seen_at is None


class TestReturned:
    def test_a_code_that_somebody_typed_at_a_checkout_never_goes_back(self, issuance: Issuance) -> None:
        Delivery.objects.update(carries_code=False)
        revoke_voucher(Voucher.objects.get(), reason="tests")
        with pytest.raises(VoucherRevoked):
            redeem_voucher(RedeemRequest(code=CODE, guesser=Guesser.of_key("key:a")))
        with pytest.raises(IntegrityError, match="may not go back"):
            take_back(issuance)

    @pytest.mark.django_db(transaction=True)
    def test_the_next_holders_timeline_tells_nothing_of_the_first_one(self, issuance: Issuance) -> None:
        Delivery.objects.update(carries_code=False)
        superuser = log_in("view_voucher", "view_issuance", "revoke_voucher")
        superuser.post(f"/admin/vouchers/voucher/{issuance.voucher_id}/revoke/", {"reason": "first reason"})
        take_back(issuance)
        second = issue_to(issuance.course, "second@example.com")

        def timeline(of: Issuance) -> str:
            return superuser.get(f"/admin/support/issuance/{of.pk}/").content.decode()

        assert second.voucher_id == issuance.voucher_id
        assert "first reason" not in timeline(second)
        assert OLD not in timeline(second)
        assert "first reason" in timeline(issuance)


class TestTimeline:
    def test_a_note_is_never_taken_for_a_deed(self, issuance: Issuance) -> None:
        staff = log_in("view_issuance", "change_voucher")
        staff.post(f"/admin/support/issuance/{issuance.pk}/note/", {"text": "Asked for by hand on the phone"})
        assert LogEntry.objects.count() == 1
        page = staff.get(f"/admin/support/issuance/{issuance.pk}/").content.decode()
        assert "Asked for by hand on the phone" in page
