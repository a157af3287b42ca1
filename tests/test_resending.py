"""/codes: send me my codes again. What the page answers, and what the worker makes of it."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool, queue_emails
from tests.racing import DEADLINE, failures, together
from tests.shop import text_of
from vouchers import guesses, resending
from vouchers.delivery.outbox import claim_due
from vouchers.delivery.sending import send_due
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Guess, Issuance, RedeemAttempt, ResendRequest, Voucher
from vouchers.resending import ask_again, carry_out_requests
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
PAGE = "/codes"
EMAIL = "ann@example.com"


def ask(email: str = EMAIL, *, address: str = "127.0.0.1", client: Client | None = None) -> Any:
    return (client or Client()).post(PAGE, {"email": email}, REMOTE_ADDR=address)


def request_for(email: str = EMAIL, language: str = "") -> None:
    ResendRequest.objects.create(email=email, language=language)


def an_hour_ago() -> None:
    """Everything sent so far was sent then."""
    Delivery.objects.update(
        status="sent", created_at=timezone.now() - dt.timedelta(minutes=61), sent_at=timezone.now() - resending.EVERY
    )


@pytest.fixture
def issuance(course: Course) -> Issuance:
    """A voucher whose email arrived a while ago."""
    make_pool(course, 1)
    issued = issue_to(course, EMAIL)
    an_hour_ago()
    return issued


def resent() -> list[tuple[str, int]]:
    return list(Delivery.objects.filter(series__gt=1).order_by("pk").values_list("email", "series"))


class TestPage:
    def test_it_asks_for_an_address(self, client: Client) -> None:
        page = text_of(client.get(PAGE))
        assert "Send me my codes again" in page
        assert page.count("<input") == 2  # the field, and the token against forged requests

    def test_the_shop_leads_there(self, client: Client) -> None:
        assert f'<a href="{PAGE}">Send me my codes again</a>' in text_of(client.get("/"))

    def test_it_answers_known_and_unknown_addresses_with_the_same_words_and_work(
        self, issuance: Issuance, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        answers = []
        for email in (EMAIL, "nobody@example.com"):
            with django_assert_num_queries(6):  # a transaction, the limit under its lock, the guess, the request
                answers.append(ask(email))
        known, unknown = answers
        assert known.status_code == unknown.status_code == 200
        assert known.content == unknown.content
        assert "Look into your inbox" in text_of(known)
        assert [*ResendRequest.objects.values_list("email", flat=True)] == [EMAIL, "nobody@example.com"]
        assert resent() == []

    @pytest.mark.parametrize("email", ["", "ann", "ann@", "a b@example.com", "x" * 250 + "@example.com", "a\0@b.com"])
    def test_it_says_what_is_no_address(self, email: str) -> None:
        response = ask(email)
        assert 'class="field-error"' in text_of(response)
        assert not ResendRequest.objects.exists()
        assert not Guess.objects.exists()

    def test_it_takes_no_forged_requests(self) -> None:
        assert ask(client=Client(enforce_csrf_checks=True)).status_code == 403
        assert not ResendRequest.objects.exists()

    def test_neither_its_answer_nor_a_log_line_holds_the_address(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            response = ask("secret@example.com")
        assert "secret@" not in text_of(response)
        assert not response.has_header("Location")
        assert not any("secret@" in str(vars(record)) for record in caplog.records if record.name != "django.db")

    def test_it_keeps_the_language_of_who_asked(self) -> None:
        ask()
        assert ResendRequest.objects.get().language == "en"

    def test_no_cache_keeps_it(self, client: Client) -> None:
        assert client.get(PAGE)["Cache-Control"] == ask()["Cache-Control"] == "no-store"


class TestLimit:
    def test_it_is_the_same_for_known_and_unknown_addresses(self, issuance: Issuance) -> None:
        for emails in ([EMAIL] * 11, [f"nobody{n}@example.com" for n in range(11)]):
            Guess.objects.all().delete()
            assert [ask(email).status_code for email in emails] == [200] * 10 + [429]
        assert ResendRequest.objects.count() == 20

    def test_it_says_when_to_come_back(self) -> None:
        for _ in range(10):
            ask()
        response = ask()
        assert 0 < int(response["Retry-After"]) <= 600
        assert "Try again in 10 minutes." in text_of(response)

    def test_it_counts_an_address_of_the_internet_and_a_network_of_ipv6(self) -> None:
        for n in range(10):
            ask(address=f"2001:db8::{n}")
        assert ask(address="2001:db8::ffff").status_code == 429
        assert ask(address="2001:db8:0:1::1").status_code == 200
        assert ask(address="198.51.100.7").status_code == 200

    def test_it_is_not_the_limit_on_codes(self, client: Client) -> None:
        for _ in range(10):
            ask()
        wrong = client.post("/redeem-voucher", {"code": "GUESS-1"}, content_type="application/json")
        assert wrong.status_code == 404
        assert not RedeemAttempt.objects.exists()

    def test_it_forgets(self) -> None:
        for _ in range(10):
            ask()
        Guess.objects.update(at=timezone.now() - guesses.WINDOW)
        assert ask().status_code == 200


class TestCarryingOut:
    def test_it_sends_every_voucher_that_can_be_redeemed(self, course: Course, issuance: Issuance) -> None:
        other = CourseFactory.create(id="PY201")
        queue_emails(other, EMAIL.upper(), "bob@example.com")
        an_hour_ago()
        request_for("Ann@Example.com")
        assert carry_out_requests() == 1
        assert resent() == [(EMAIL, 2), (EMAIL.upper(), 2)]
        assert not ResendRequest.objects.exists()

    def test_it_sends_the_same_code_by_an_email_of_its_own(self, issuance: Issuance) -> None:
        request_for()
        carry_out_requests()
        assert send_due() == 1
        assert issuance.voucher is not None
        assert issuance.voucher.code in str(mail.outbox[0].body)
        assert mail.outbox[0].to == [EMAIL]

    def test_it_writes_in_the_language_of_the_request(self, issuance: Issuance) -> None:
        request_for(language="de")
        carry_out_requests()
        assert Delivery.objects.get(series=2).language == "de"

    @pytest.mark.parametrize(
        "deed",
        [
            lambda voucher: revoke_voucher(voucher, reason="Refunded"),
            lambda voucher: Voucher.objects.update(held_since=timezone.now()),
            lambda voucher: Voucher.objects.update(expires_on=timezone.localdate() - dt.timedelta(days=1)),
        ],
    )
    def test_it_sends_nothing_that_is_of_no_use(self, issuance: Issuance, deed: Callable[[Voucher], object]) -> None:
        assert issuance.voucher is not None
        deed(issuance.voucher)
        request_for()
        assert carry_out_requests() == 1
        assert resent() == []
        assert not ResendRequest.objects.exists()

    def test_it_sends_nothing_of_what_still_waits(self, course: Course) -> None:
        issue_to(course, EMAIL)
        request_for()
        assert carry_out_requests() == 1
        assert not Delivery.objects.exists()

    def test_asked_every_hour_it_sends_three_emails_a_day(self, issuance: Issuance) -> None:
        """The page is open to everybody: whoever wants to annoy somebody has this much of it."""
        for hours in range(1, 8):
            request_for()
            carry_out_requests()
            Delivery.objects.update(status="sent", sent_at=timezone.now() - hours * resending.EVERY)
            for delivery in Delivery.objects.all():
                delivery.created_at -= dt.timedelta(minutes=61)
                delivery.save(update_fields=["created_at"])
        assert Delivery.objects.count() == resending.A_DAY

    def test_asked_five_times_in_a_minute_it_sends_one_email(self, issuance: Issuance) -> None:
        for _ in range(5):
            ask()
        assert carry_out_requests() == 5
        send_due()
        ask()
        carry_out_requests()
        assert resent() == [(EMAIL, 2)]

    @pytest.mark.parametrize(
        ("fields", "sent"),
        [
            ({"status": "queued", "sent_at": None}, 0),  # stuck for longer: it will still be sent
            ({"status": "sending", "sent_at": None}, 0),
            ({"sent_at": timezone.now}, 0),
            ({"created_at": timezone.now}, 0),
            ({"status": "failed", "sent_at": None}, 1),
            ({"fate": "bounced", "fate_at": timezone.now}, 1),
        ],
    )
    def test_it_waits_for_an_email_that_may_still_arrive(
        self, issuance: Issuance, fields: dict[str, Any], sent: int
    ) -> None:
        Delivery.objects.update(**{name: value() if callable(value) else value for name, value in fields.items()})
        request_for()
        carry_out_requests()
        assert len(resent()) == sent

    def test_the_oldest_request_comes_first_and_a_run_is_bounded(self, course: Course) -> None:
        emails = [f"{name}@example.com" for name in ("ann", "bob", "cid")]
        queue_emails(course, *emails)
        an_hour_ago()
        for email in reversed(emails):
            request_for(email)
        assert carry_out_requests(limit=2) == 2
        assert [email for email, _ in resent()] == ["cid@example.com", "bob@example.com"]
        assert ResendRequest.objects.get().email == "ann@example.com"

    def test_many_vouchers_of_one_address_are_sent_some_at_a_time(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resending, "CHUNK", 2)
        queue_emails(course, *[f"{n}@example.com" for n in range(5)])
        Issuance.objects.update(email=EMAIL)
        Voucher.objects.filter(status="issued").update(issued_to=EMAIL)
        an_hour_ago()
        request_for()
        assert carry_out_requests(limit=1) == 1
        assert (len(resent()), ResendRequest.objects.count()) == (2, 1)
        assert carry_out_requests() == 2
        assert (len(resent()), ResendRequest.objects.count()) == (5, 0)

    def test_what_cannot_be_sent_holds_nobody_up(self, issuance: Issuance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resending, "CHUNK", 1)
        Voucher.objects.update(held_since=timezone.now())
        request_for()
        assert carry_out_requests(limit=5) == 1
        assert not ResendRequest.objects.exists()

    def test_there_is_nothing_to_do_without_requests(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        with django_assert_num_queries(3):
            assert carry_out_requests() == 0

    def test_a_link_is_sent_where_the_course_wants_it(self, course: Course, settings: Settings) -> None:
        Course.objects.update(reveal="link")
        course.refresh_from_db()
        make_pool(course, 1)
        issue_to(course, EMAIL)
        an_hour_ago()
        request_for()
        carry_out_requests()
        assert not Delivery.objects.get(series=2).carries_code


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_it_answers_ten_of_many_at_once(self) -> None:
        answers = together(24, lambda n: ask(f"{n}@example.com").status_code)
        assert Counter(answers) == {200: 10, 429: 14}
        assert ResendRequest.objects.count() == 10

    def test_control_without_the_lock_more_get_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        all_counted = threading.Barrier(12, timeout=DEADLINE)
        count = Guesser._count

        def count_and_wait(self: Guesser) -> int:
            counted = count(self)
            all_counted.wait()
            return counted

        monkeypatch.setattr(guesses, "lock_names", lambda *names, seconds: None)
        monkeypatch.setattr(Guesser, "_count", count_and_wait)
        asker = Guesser.of_asker("127.0.0.1")
        results = together(12, lambda n: ask_again(email=f"{n}@example.com", language="", asker=asker))
        assert not failures(results)
        assert ResendRequest.objects.count() == 12

    def carry_out_at_once(self, issuance: Issuance, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two workers have chosen the same voucher for two requests before either has locked it."""
        both_chose = threading.Barrier(2, timeout=DEADLINE)
        owed_to = resending._owed_to

        def choose_and_wait(email: str) -> QuerySet[Issuance]:
            chosen = [issuance.pk for issuance in owed_to(email)]
            both_chose.wait()
            return Issuance.objects.filter(pk__in=chosen).order_by("pk")

        monkeypatch.setattr(resending, "_owed_to", choose_and_wait)
        request_for()
        request_for()
        assert together(2, lambda n: carry_out_requests(limit=1)) == [1, 1]
        assert not ResendRequest.objects.exists()

    def test_two_workers_send_one_email(self, issuance: Issuance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.carry_out_at_once(issuance, monkeypatch)
        assert resent() == [(EMAIL, 2)]

    def test_control_without_the_second_look_they_send_two(
        self, issuance: Issuance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resending, "_rested", lambda issuances: issuances)
        self.carry_out_at_once(issuance, monkeypatch)
        assert resent() == [(EMAIL, 2), (EMAIL, 3)]

    def test_a_sender_at_work_holds_nobody_up(self, issuance: Issuance) -> None:
        request_for()
        carry_out_requests()
        assert len(claim_due(10)) == 1
        request_for()
        assert carry_out_requests() == 1
        assert resent() == [(EMAIL, 2)]
