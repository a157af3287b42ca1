"""GET and POST /vouchers/…: the page that shows a code to whoever presses its button. In a browser:
tests/test_browser_reveal.py."""

from __future__ import annotations

import datetime as dt
import logging
import re
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from courses.models import Course, Purchase
from tests.factories import issue_to, make_pool
from tests.racing import in_thread, somebody_waits_for_a_lock, wait_until
from tests.shop import text_of
from tests.stripe_events import Payment, tell
from vouchers import revealing
from vouchers.correcting import correct_address
from vouchers.delivery.sending import send_due
from vouchers.errors import NotReturnable, NotRevealable
from vouchers.guesses import Guesser
from vouchers.issuing import find_course
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.deeds import return_voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher
from vouchers.revealing import find_revealable, reveal_code, reveal_url
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
CODE = "JS101-XZ4B7Q-001"
BUTTON = "Show my code"


@pytest.fixture
def linked(course: Course) -> Course:
    """A course whose emails carry a link."""
    course.reveal = Course.Reveal.LINK
    course.price = 49
    course.save(update_fields=["reveal", "price"])
    return course


@pytest.fixture
def issuance(linked: Course) -> Issuance:
    make_pool(linked, 1, code=CODE)
    return issue_to(linked)


def voucher_of(issuance: Issuance) -> Voucher:
    issuance.refresh_from_db()
    assert issuance.voucher is not None
    return issuance.voucher


def seen_at(issuance: Issuance) -> dt.datetime | None:
    return Issuance.objects.values_list("seen_at", flat=True).get(pk=issuance.pk)


class TestLooking:
    def test_it_shows_a_button_and_no_code(self, client: Client, issuance: Issuance) -> None:
        page = text_of(client.get(reveal_url(issuance)))
        assert "JavaScript Basics" in page
        assert BUTTON in page
        assert "It does not expire." in page
        assert CODE not in page

    @pytest.mark.parametrize("method", ["get", "head"])
    def test_it_changes_nothing(self, client: Client, issuance: Issuance, method: str) -> None:
        before = Issuance.objects.values().get()
        assert getattr(client, method)(reveal_url(issuance)).status_code == 200
        assert Issuance.objects.values().get() == before
        assert seen_at(issuance) is None

    def test_it_says_until_when_the_code_is_valid(self, client: Client, issuance: Issuance, settings: Settings) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        Voucher.objects.update(expires_on=dt.date(2027, 12, 31))
        assert "valid until the end of 31 December 2027 (Europe/Berlin)." in text_of(client.get(reveal_url(issuance)))

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_nobody_else_learns_of_the_address(self, client: Client, issuance: Issuance, method: str) -> None:
        response = getattr(client, method)(reveal_url(issuance))
        assert response["Cache-Control"] == "no-store"
        assert response["Referrer-Policy"] == "no-referrer"
        assert response["X-Robots-Tag"] == "noindex"
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text_of(response))

    def test_it_speaks_the_language_of_the_purchase(self, client: Client, linked: Course) -> None:
        make_pool(linked, 1)
        tell(Payment().completed())
        Purchase.objects.update(language="de")
        (issuance,) = Issuance.objects.all()
        assert '<html lang="de">' in text_of(client.get(reveal_url(issuance), headers={"Accept-Language": "en"}))
        Purchase.objects.update(language="")
        assert '<html lang="en">' in text_of(client.get(reveal_url(issuance), headers={"Accept-Language": "en"}))

    def test_it_asks_a_fixed_number_of_questions(
        self, client: Client, issuance: Issuance, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(2):  # the issuance with all of its own; whether it was replaced
            client.get(reveal_url(issuance))

    def test_names_are_text(self, client: Client, issuance: Issuance) -> None:
        Course.objects.update(name="<script>alert(1)</script>")
        assert "<script>alert" not in client.post(reveal_url(issuance)).content.decode()


class TestPressing:
    def test_it_shows_the_code_and_writes_down_that_it_was_seen(self, client: Client, issuance: Issuance) -> None:
        response = client.post(reveal_url(issuance))
        assert response.status_code == 200
        assert CODE in text_of(response)
        assert 'href="/courses/JS101/checkout#id_code"' in text_of(response)
        assert seen_at(issuance)

    def test_it_needs_neither_a_cookie_nor_a_referrer(self, issuance: Issuance) -> None:
        """As a browser posts a form under `no-referrer`."""
        client = Client(enforce_csrf_checks=True, headers={"Origin": "null"})
        assert CODE in text_of(client.post(reveal_url(issuance)))

    def test_again_it_shows_the_same_and_keeps_the_first_time(self, client: Client, issuance: Issuance) -> None:
        client.post(reveal_url(issuance))
        first = seen_at(issuance)
        assert CODE in text_of(client.post(reveal_url(issuance)))
        assert seen_at(issuance) == first

    def test_where_the_rule_is_the_holders_it_says_whose_in_outline(self, client: Client, issuance: Issuance) -> None:
        Course.objects.update(redemption="holder")
        page = text_of(client.post(reveal_url(issuance)))
        assert "only together with this email address, a***@example.com." in page
        assert "ann@" not in page

    def test_no_log_line_holds_the_token_or_the_code(
        self, client: Client, issuance: Issuance, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = reveal_url(issuance)
        with caplog.at_level(logging.DEBUG, logger="desk"):
            client.post(url)
        said = [str(vars(record)) for record in caplog.records if record.name.startswith("desk")]
        assert "/vouchers/<int:pk>/<str:token>" in said[-1]
        assert not any(url.rpartition("/")[2] in line or CODE in line for line in said)


def redeem(issuance: Issuance) -> None:
    redeem_voucher(RedeemRequest(code=CODE, guesser=Guesser.of_address("127.0.0.1")))


def revoke(issuance: Issuance) -> None:
    revoke_voucher(voucher_of(issuance), reason="Refunded")


def expire(issuance: Issuance) -> None:
    Voucher.objects.update(expires_on=timezone.localdate() - dt.timedelta(days=1))


def hold(issuance: Issuance) -> None:
    Voucher.objects.update(held_since=timezone.now())


def take_back(issuance: Issuance) -> None:
    revoke(issuance)
    return_voucher(issuance)


class TestUseless:
    @pytest.mark.parametrize(
        ("deed", "sentence"),
        [
            (redeem, "This voucher has been redeemed."),
            (revoke, "This voucher is no longer valid."),
            (expire, "This voucher has expired."),
            (hold, "This voucher is on hold."),
            (take_back, "This voucher was taken back."),
        ],
    )
    def test_it_says_what_became_of_the_code_and_shows_none(
        self, client: Client, issuance: Issuance, deed: Any, sentence: str
    ) -> None:
        deed(issuance)
        looked, pressed = client.get(reveal_url(issuance)), client.post(reveal_url(issuance))
        assert (looked.status_code, pressed.status_code) == (200, 409)
        for page in (text_of(looked), text_of(pressed)):
            assert sentence in page
            assert CODE not in page
            assert BUTTON not in page
        assert seen_at(issuance) is None

    def test_a_code_of_the_next_holder_is_not_shown(self, client: Client, issuance: Issuance, linked: Course) -> None:
        take_back(issuance)
        assert voucher_of(issue_to(linked, "bob@example.com")).code == CODE
        assert CODE not in text_of(client.post(reveal_url(issuance)))

    def test_one_that_was_replaced_shows_the_new_code(self, client: Client, issuance: Issuance, linked: Course) -> None:
        client.post(reveal_url(issuance))
        make_pool(linked, 1, code="JS101-XZ4B7Q-002")
        replace_voucher(issuance, reason="Stolen", actor="user:7")
        assert "in the place of the one that you had before" in text_of(client.get(reveal_url(issuance)))
        page = text_of(client.post(reveal_url(issuance)))
        assert "JS101-XZ4B7Q-002" in page
        assert "It takes the place of the code that you had before" in page
        assert CODE not in page


class TestWrongLinks:
    def test_an_unknown_address_is_a_page_that_says_so(self, client: Client, issuance: Issuance) -> None:
        url = reveal_url(issuance)
        other = reveal_url(issue_to(find_course("JS101"), "bob@example.com")).rpartition("/")[2]
        wrong = [f"{url}x", url[:-1], f"/vouchers/{issuance.pk}/{other}", f"/vouchers/{issuance.pk}/%00"]
        wrong += [url.replace(f"/{issuance.pk}/", f"/{pk}/") for pk in (issuance.pk + 7, 10**30)]
        for path in wrong:
            for response in (client.get(path), client.post(path)):
                assert response.status_code == 404, path
                assert response["Referrer-Policy"] == "no-referrer"
                assert "Use the link as it stands in the newest email." in text_of(response)
                assert "JavaScript Basics" not in text_of(response)
        assert not Issuance.objects.exclude(seen_at=None).exists()

    def test_a_waiting_buyer_has_no_page(self, client: Client, linked: Course) -> None:
        waiting = issue_to(linked)
        assert waiting.status == "waiting"
        assert client.get(reveal_url(waiting)).status_code == 404

    def test_the_link_of_an_address_that_was_corrected_leads_nowhere(self, client: Client, issuance: Issuance) -> None:
        old = reveal_url(issuance)
        correct_address(issuance, email="bob@example.com", actor="user:7")
        issuance.refresh_from_db()
        assert client.post(old).status_code == 404
        assert CODE in text_of(client.post(reveal_url(issuance)))


class TestFromPaymentToPool:
    """A signed payment, its email, a scanner, a refund: whether the code may be sold again."""

    def bought(self, course: Course) -> tuple[Payment, Issuance]:
        make_pool(course, 1, code=CODE)
        payment = Payment()
        tell(payment.completed())
        assert send_due() == 1
        return payment, Issuance.objects.get()

    def link(self, issuance: Issuance) -> str:
        """As it stands in the email, which holds no code."""
        (message,) = mail.outbox
        assert isinstance(message, EmailMultiAlternatives)
        ((html, _),) = message.alternatives
        found = re.search(r"https?://\S+(/vouchers/\d+/\S+)", str(message.body))
        assert found
        assert found[1] in str(html)
        assert CODE not in message.subject + str(message.body) + str(html)
        assert found[1] == reveal_url(issuance)
        return found[1]

    def test_the_page_of_the_purchase_speaks_of_a_link(self, client: Client, linked: Course) -> None:
        self.bought(linked)
        path = f"/purchases/{Purchase.objects.get().token}"
        assert "The link to the code is in the email to a***@example.com" in text_of(client.get(path))
        Course.objects.update(reveal="email")
        assert "The code is in the email to a***@example.com" in text_of(client.get(path))

    def test_nobody_saw_it_and_it_goes_back(self, client: Client, linked: Course) -> None:
        payment, issuance = self.bought(linked)
        client.get(self.link(issuance))  # a scanner
        client.head(self.link(issuance))
        tell(payment.refunded(4900))
        assert Voucher.objects.get().status == "revoked"
        return_voucher(issuance)
        assert Voucher.objects.get().status == "available"

    def test_its_buyer_saw_it_and_it_stays_revoked(self, client: Client, linked: Course) -> None:
        payment, issuance = self.bought(linked)
        assert CODE in text_of(client.post(self.link(issuance)))
        tell(payment.refunded(4900))
        with pytest.raises(NotReturnable, match="It stays revoked"):
            return_voucher(issuance)
        issuance.refresh_from_db()
        assert (issuance.status, Voucher.objects.get().status) == ("issued", "revoked")

    def test_it_stood_in_the_email_and_stays_revoked(self, linked: Course) -> None:
        Course.objects.update(reveal="email")
        payment, issuance = self.bought(linked)
        assert CODE in str(mail.outbox[0].body)
        tell(payment.refunded(4900))
        with pytest.raises(NotReturnable, match="It stays revoked"):
            return_voucher(issuance)
        assert Voucher.objects.get().status == "revoked"

    def test_a_setting_that_changes_later_changes_no_email(self, linked: Course) -> None:
        make_pool(linked, 1, code=CODE)
        issue_to(linked)
        Course.objects.update(reveal="email")
        send_due()
        assert CODE not in str(mail.outbox[0].body)
        assert not Delivery.objects.get().carries_code


@pytest.mark.django_db(transaction=True)
class TestRaces:
    """The buyer presses the button while staff take the code back: seen, or in the pool, and never both."""

    def test_a_return_waits_for_who_is_looking_and_is_refused(self, issuance: Issuance) -> None:
        with transaction.atomic():
            reveal_code(issuance)
            taken_back = in_thread(lambda: take_back(Issuance.objects.get()))
            wait_until(somebody_waits_for_a_lock)
        with pytest.raises(NotReturnable, match="It stays revoked"):
            taken_back()
        assert seen_at(issuance)
        assert Voucher.objects.get().status == "revoked"

    def look_while_it_is_taken_back(self, issuance: Issuance) -> str:
        found = find_revealable(issuance.pk, reveal_url(issuance).rpartition("/")[2])
        with transaction.atomic():
            take_back(issuance)
            looked = in_thread(lambda: reveal_code(found))
            wait_until(somebody_waits_for_a_lock)
        return looked()

    def test_who_looks_too_late_sees_nothing(self, issuance: Issuance) -> None:
        with pytest.raises(NotRevealable):
            self.look_while_it_is_taken_back(issuance)
        assert seen_at(issuance) is None
        assert Voucher.objects.get().status == "available"

    def test_control_without_the_condition_a_code_of_the_pool_is_shown(
        self, issuance: Issuance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def its_row(issuance: Issuance, voucher: Voucher) -> QuerySet[Issuance]:
            return Issuance.objects.filter(pk=issuance.pk)

        monkeypatch.setattr(revealing, "_still_open", its_row)
        assert self.look_while_it_is_taken_back(issuance) == CODE
        assert Voucher.objects.get().status == "available"
