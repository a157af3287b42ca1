"""Email providers' webhooks: who is believed, and that nobody else has any effect."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.core.checks import run_checks
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from courses.models import Course
from tests.certificates import new_key, root
from tests.email_providers import ACCOUNTS, BASIC, LOGIN, Account, Amazon, AmazonSES, Mailgun, Post, Resend, SendGrid
from tests.factories import queue_emails
from vouchers.models import Delivery, DeliveryEvent
from vouchers.tracking import recording, sns
from vouchers.tracking.providers import PROVIDERS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    sns.fetched.cache_clear()
    amazon = Amazon()
    monkeypatch.setattr(requests, "get", amazon.get)
    yield amazon
    sns.fetched.cache_clear()


@pytest.fixture(params=ACCOUNTS, ids=lambda account: account.provider)
def account(request: pytest.FixtureRequest, settings: Settings) -> Account:
    chosen: Account = request.param
    settings.ANYMAIL = {**chosen.settings}
    return chosen


@pytest.fixture
def sent(course: Course) -> Delivery:
    (delivery,) = queue_emails(course, "ann@example.com")
    Delivery.objects.filter(pk=delivery.pk).update(
        status="sent", sent_at=delivery.created_at, provider_id="id-at-theirs"
    )
    delivery.refresh_from_db()
    return delivery


def refusal(response: HttpResponse) -> tuple[int, str]:
    body = json.loads(response.content)
    assert set(body) == {"error", "code", "requestId"}
    return response.status_code, body["code"]


def assert_refused(post: Post, delivery: Delivery) -> None:
    assert refusal(post.send()) == (400, "bad_signature")
    assert_nothing_was_done(delivery)


def assert_nothing_was_done(delivery: Delivery) -> None:
    assert not DeliveryEvent.objects.exists()
    delivery.refresh_from_db()
    assert (delivery.fate, delivery.fate_at, delivery.fate_reason) == ("", None, "")


class TestProofs:
    """The same for each provider."""

    def test_a_signed_post_is_believed(self, account: Account, sent: Delivery) -> None:
        response = account.post(account.tell("delivered", sent)).send()
        assert (response.status_code, json.loads(response.content)) == (200, {"received": True})
        sent.refresh_from_db()
        assert sent.fate == "delivered"

    def test_a_forged_post_is_refused(self, account: Account, sent: Delivery) -> None:
        assert_refused(account.forged(account.tell("delivered", sent)), sent)

    @pytest.mark.parametrize("secret", [None, "", "  "])
    def test_without_the_secret_every_post_is_refused(
        self, account: Account, sent: Delivery, settings: Settings, secret: str | None
    ) -> None:
        post = account.post(account.tell("delivered", sent))
        settings.ANYMAIL = {} if secret is None else dict.fromkeys(account.settings, secret)
        assert_refused(post, sent)
        assert_refused(Post(account.provider, post.body, {}, post.content_type), sent)

    def test_another_secret_refuses_it(self, account: Account, sent: Delivery, settings: Settings) -> None:
        other = base64.b64encode(b"quite another secret").decode()
        settings.ANYMAIL = dict.fromkeys(account.settings, other)
        assert_refused(account.post(account.tell("delivered", sent)), sent)

    def test_the_login_of_the_address_is_asked_of_all_where_it_is_set(
        self, account: Account, sent: Delivery, settings: Settings
    ) -> None:
        settings.ANYMAIL = {**account.settings, "WEBHOOK_SECRET": LOGIN}
        post = account.post(account.tell("delivered", sent))
        wrong = "Basic " + base64.b64encode(b"desk:wrong").decode()
        assert_refused(post.with_headers(authorization=wrong), sent)
        assert post.with_headers(**BASIC).send().status_code == 200

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 50_000])
    def test_a_body_that_says_nothing_does_nothing(self, account: Account, sent: Delivery, body: bytes) -> None:
        assert Post(account.provider, body, BASIC).send().status_code in (200, 400)  # `{}` is an event of no sort
        assert_nothing_was_done(sent)

    def test_a_large_body_is_refused_unread(self, account: Account, sent: Delivery) -> None:
        post = account.post(account.tell("delivered", sent))
        large = Post(account.provider, post.body + b" " * 4 * 1024 * 1024, post.headers, post.content_type)
        assert refusal(large.send()) == (413, "too_large")
        assert_nothing_was_done(sent)

    def test_a_fault_of_ours_leaves_nothing_half_done(
        self, account: Account, sent: Delivery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise OperationalError

        post = account.post(account.tell("delivered", sent))
        with monkeypatch.context() as patch:
            patch.setattr(recording, "settle", fail)
            assert post.send().status_code == 503
        assert_nothing_was_done(sent)
        assert post.send().status_code == 200
        assert DeliveryEvent.objects.count() == 1

    def test_the_log_names_nobody(self, account: Account, sent: Delivery, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            account.post(account.tell("bounced", sent)).send()
            account.forged(account.tell("bounced", sent)).send()
        assert "was refused" in caplog.text
        assert "ann@example.com" not in caplog.text + str([record.__dict__ for record in caplog.records])


SIGNERS = [account for account in ACCOUNTS if account.settings.keys() != {"WEBHOOK_SECRET"}]
SIGNERS_OF_BODIES = [account for account in ACCOUNTS if account.provider in ("sendgrid", "amazon_ses", "resend")]
SIGNERS_OF_TIMES = [account for account in ACCOUNTS if account.signs_time]


def each_of(accounts: list[Account]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("account", accounts, indirect=True, ids=lambda account: account.provider)


class TestSchemes:
    @each_of(SIGNERS_OF_BODIES)
    def test_a_changed_body_is_refused(self, account: Account, sent: Delivery) -> None:
        post = account.post(account.tell("delivered", sent))
        assert_refused(post.with_body("ann@example.com", "eve@example.com"), sent)

    @each_of(SIGNERS_OF_TIMES)
    @pytest.mark.parametrize("seconds", [-4000, 310])
    def test_another_time_is_refused(self, account: Account, sent: Delivery, seconds: int) -> None:
        assert_refused(account.post(account.tell("delivered", sent), seconds=seconds), sent)

    @each_of([account for account in SIGNERS_OF_TIMES if not isinstance(account, AmazonSES)])
    def test_a_signature_is_good_for_five_minutes(self, account: Account, sent: Delivery) -> None:
        assert_refused(account.post(account.tell("delivered", sent), seconds=-310), sent)
        assert account.post(account.tell("delivered", sent), seconds=-290).send().status_code == 200
        assert account.post(account.tell("opened", sent), seconds=290).send().status_code == 200

    @each_of(list(ACCOUNTS))
    def test_headers_of_the_proof_must_be_there(self, account: Account, sent: Delivery) -> None:
        post = account.post(account.tell("delivered", sent))
        for name in post.headers:
            if not name.startswith("x-amz") and not (isinstance(account, AmazonSES) and name == "Authorization"):
                assert_refused(post.with_headers(**{name: ""}), sent)
                assert_refused(post.with_headers(**{name: "½ , ;"}), sent)
        assert post.send().status_code == 200

    def test_a_token_of_mailgun_has_one_effect(self, sent: Delivery, settings: Settings) -> None:
        """Mailgun signs nothing else, so what was seen once could otherwise be said of any email."""
        mailgun = Mailgun()
        settings.ANYMAIL = mailgun.settings
        first = mailgun.post(mailgun.tell("delivered", sent, token="a" * 50))
        assert first.send().status_code == 200
        assert refusal(first.with_body('"delivered"', '"complained"').send()) == (400, "bad_signature")
        assert refusal(first.with_body(f'"{sent.pk}"', '"0"').with_body(sent.message_id[1:9], "x").send())[0] == 400
        assert first.send().status_code == 200
        assert [event.kind for event in DeliveryEvent.objects.all()] == ["delivered"]
        sent.refresh_from_db()
        assert sent.fate == "delivered"

    def test_no_digit_moves_between_time_and_token_of_mailgun(self, sent: Delivery, settings: Settings) -> None:
        mailgun = Mailgun()
        settings.ANYMAIL = mailgun.settings
        post = mailgun.post(mailgun.tell("delivered", sent, token="7" * 50))
        block = json.loads(post.body)["signature"]
        assert_refused(post.with_body(f'"{block["timestamp"]}"', f'"{block["timestamp"]}7"'), sent)
        moved = post.with_body(f'"{block["timestamp"]}"', f'"{block["timestamp"]}7"').with_body("7" * 50, "7" * 49)
        assert_refused(moved, sent)

    def test_one_of_several_signatures_of_resend_is_enough(self, sent: Delivery, settings: Settings) -> None:
        """A secret that is being replaced signs beside the new one."""
        resend = Resend()
        settings.ANYMAIL = resend.settings
        post = resend.post(resend.tell("delivered", sent))
        both = f"v1,{base64.b64encode(b'x' * 32).decode()} {post.headers['svix-signature']}"
        assert post.with_headers(svix_signature=both).send().status_code == 200

    @pytest.mark.parametrize(
        "key", ["no key", base64.b64encode(b"no key").decode(), "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC="]
    )
    def test_a_key_that_is_none_refuses_all(self, sent: Delivery, settings: Settings, key: str) -> None:
        sendgrid = SendGrid()
        settings.ANYMAIL = dict.fromkeys(sendgrid.settings, key)
        assert_refused(sendgrid.post(sendgrid.tell("delivered", sent)), sent)


class TestAmazon:
    ses = AmazonSES()

    @pytest.fixture(autouse=True)
    def _configured(self, settings: Settings) -> None:
        settings.ANYMAIL = {**self.ses.settings}

    @pytest.mark.parametrize("version", ["1", "2"])
    def test_both_versions_of_its_signature_are_believed(self, sent: Delivery, version: str) -> None:
        assert self.ses.post(self.ses.tell("delivered", sent), version=version).send().status_code == 200

    def test_the_certificate_is_fetched_once(self, sent: Delivery, amazon: Amazon) -> None:
        for kind in ("delivered", "opened"):
            assert self.ses.post(self.ses.tell(kind, sent)).send().status_code == 200
        assert amazon.asked == [self.ses.certificate_url]

    def test_it_is_asked_for_its_login_once_its_signature_is_good(self, sent: Delivery) -> None:
        """SNS sends user and password only in answer to a 401, and a stranger with a topic has no others to send."""
        post = self.ses.post(self.ses.tell("delivered", sent))
        response = post.with_headers(authorization="").send()
        assert refusal(response) == (401, "not_authenticated")
        assert response["WWW-Authenticate"].startswith("Basic ")
        assert_nothing_was_done(sent)
        assert_refused(self.ses.forged(self.ses.tell("delivered", sent)).with_headers(authorization=""), sent)

    def test_who_shows_neither_is_refused_also_where_amazon_is_away(self, sent: Delivery, amazon: Amazon) -> None:
        amazon.away = True
        post = self.ses.post(self.ses.tell("delivered", sent))
        assert_refused(post.with_headers(authorization=""), sent)
        assert refusal(post.send()) == (503, "provider_unreachable")
        amazon.away = False
        assert post.send().status_code == 200

    @pytest.mark.parametrize(
        "url",
        [
            "https://sns.eu-west-1.amazonaws.com.example/SimpleNotificationService-1.pem",
            "https://eve@sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
            "https://sns.eu-west-1.amazonaws.com@example.com/SimpleNotificationService-1.pem",
            "https://sns.eu-west-1.amazonaws.com\t/SimpleNotificationService-1.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem\n",
            "https://s3.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.s3.amazonaws.com/SimpleNotificationService-1.pem",
            "https://sns.eu-west-1.amazonaws.com/somebody/else.pem",
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://[sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
            "",
        ],
    )
    def test_a_certificate_from_elsewhere_is_not_even_fetched(self, sent: Delivery, amazon: Amazon, url: str) -> None:
        post = self.ses.post(self.ses.tell("delivered", sent))
        assert_refused(post.with_body(self.ses.certificate_url, json.dumps(url)[1:-1]), sent)
        assert amazon.asked == []

    @pytest.mark.parametrize(
        "certificate",
        [
            b"<html>",
            root("Amazon").issue(new_key("SNS"), name="sns.amazonaws.com", until=-dt.timedelta(hours=1)),
            root("Amazon").issue(new_key("SNS"), name="sns.amazonaws.com", since=dt.timedelta(hours=1)),
        ],
        ids=["none", "ended", "not begun"],
    )
    def test_a_certificate_that_is_not_good_refuses_and_is_forgotten(
        self, sent: Delivery, amazon: Amazon, certificate: bytes
    ) -> None:
        good, amazon.certificate = amazon.certificate, certificate
        post = self.ses.post(self.ses.tell("delivered", sent))
        assert_refused(post, sent)
        amazon.certificate = good
        assert post.send().status_code == 200

    @pytest.mark.parametrize(("status", "answer"), [(404, 400), (302, 400), (503, 503), (429, 503)])
    def test_a_certificate_that_is_not_served_refuses(
        self, sent: Delivery, amazon: Amazon, status: int, answer: int
    ) -> None:
        amazon.status = status
        assert self.ses.post(self.ses.tell("delivered", sent)).send().status_code == answer
        assert_nothing_was_done(sent)

    def test_what_sns_still_tries_after_an_hour_is_believed_once(self, sent: Delivery) -> None:
        post = self.ses.post(self.ses.tell("delivered", sent), seconds=-3500)
        assert [post.send().status_code for _ in range(2)] == [200, 200]
        assert DeliveryEvent.objects.count() == 1

    def test_a_subscription_is_confirmed_at_amazon_only(self, amazon: Amazon) -> None:
        url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=a&Token=2336412f37fb"
        assert self.ses.confirmation(url).send().status_code == 200
        assert amazon.asked == [self.ses.certificate_url, url]
        for other in ("https://sns.example.com/?Action=ConfirmSubscription", url.replace("Confirm", "Delete")):
            assert refusal(self.ses.confirmation(other).send()) == (400, "bad_signature")
        assert amazon.asked == [self.ses.certificate_url, url]

    def test_a_subscription_is_confirmed_for_nobody_without_the_login(self, amazon: Amazon) -> None:
        url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription"
        assert self.ses.confirmation(url).with_headers(authorization="").send().status_code == 401
        wrong = "Basic " + base64.b64encode(b"desk:wrong").decode()
        assert self.ses.confirmation(url).with_headers(authorization=wrong).send().status_code == 400
        assert amazon.asked == [self.ses.certificate_url]

    def test_a_subscription_waits_where_the_settings_say_so(self, amazon: Amazon, settings: Settings) -> None:
        settings.ANYMAIL = {**self.ses.settings, "AMAZON_SES_AUTO_CONFIRM_SNS_SUBSCRIPTIONS": "False"}
        url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription"
        assert self.ses.confirmation(url).send().status_code == 200
        assert amazon.asked == [self.ses.certificate_url]

    def test_the_end_of_a_subscription_and_the_test_of_a_topic_are_no_events(self, sent: Delivery) -> None:
        ended = self.ses.envelope(
            "UnsubscribeConfirmation", Message="Bye", SubscribeURL="https://x.example/", Token="t"
        )
        tried = self.ses.envelope(
            "Notification", Message="Successfully validated SNS topic for Amazon SES event publishing."
        )
        assert [post.send().status_code for post in (ended, tried)] == [200, 200]
        assert_nothing_was_done(sent)


class TestAddresses:
    def test_an_unknown_provider_is_not_found(self) -> None:
        assert refusal(Post("pigeon", b"{}").send()) == (404, "not_found")
        assert refusal(Client().get("/webhooks/email/pigeon/tracking/")) == (405, "method_not_allowed")  # type: ignore[arg-type]
        assert refusal(Client().post("/webhooks/email/mailgun/inbound/")) == (404, "not_found")  # type: ignore[arg-type]

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_no_provider_is_believed_without_proof(self, provider: str, settings: Settings, sent: Delivery) -> None:
        settings.ANYMAIL = {}
        assert_refused(Post(provider, b"[]", BASIC), sent)
        settings.ANYMAIL = {PROVIDERS[provider].setting: "a secret"}
        assert_refused(Post(provider, b"[]"), sent)
        assert_refused(Post(provider, b'{"auth": "", "signature": 5}', BASIC), sent)

    def test_providers_may_look_whether_it_is_there(self) -> None:
        assert Client().head("/webhooks/email/mandrill/tracking/").status_code == 200
        assert Client().head("/webhooks/email/pigeon/tracking/").status_code == 404
        assert Client().get("/webhooks/email/unisender_go/tracking/").status_code == 200
        assert Client().get("/webhooks/email/mailgun/tracking/").status_code == 405


class TestCheck:
    def warnings(self, settings: Settings, backend: str, **anymail: str) -> list[str]:
        settings.EMAIL_BACKEND, settings.ANYMAIL = f"anymail.backends.{backend}.EmailBackend", anymail
        return [f"{problem.msg} {problem.hint}" for problem in run_checks() if problem.id == "desk.W005"]

    @pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailNotSupportedWarning")  # it says so of SendGrid
    @pytest.mark.parametrize(
        ("backend", "setting"),
        [
            ("mailgun", "MAILGUN_WEBHOOK_SIGNING_KEY"),
            ("sendgrid", "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY"),
            ("postmark", "WEBHOOK_SECRET"),
            ("amazon_ses", "WEBHOOK_SECRET"),
            ("resend", "RESEND_SIGNING_SECRET"),
        ],
    )
    def test_a_provider_that_cannot_be_believed_is_named(self, settings: Settings, backend: str, setting: str) -> None:
        (warning,) = self.warnings(settings, backend)
        assert f"ANYMAIL_{setting}" in warning
        assert f"{settings.BASE_URL}/webhooks/email/{backend}/tracking/" in warning.replace("user:password@", "")
        assert self.warnings(settings, backend, **{setting: "desk:a-long-password"}) == []

    @pytest.mark.parametrize("backend", ["postmark", "mailgun"])
    def test_a_login_without_a_colon_is_none(self, settings: Settings, backend: str) -> None:
        secrets = {"WEBHOOK_SECRET": "a-long-password", "MAILGUN_WEBHOOK_SIGNING_KEY": "key"}
        (warning,) = self.warnings(settings, backend, **secrets)
        assert "Set ANYMAIL_WEBHOOK_SECRET as user:password, and" in warning

    def test_a_login_is_no_key(self, settings: Settings) -> None:
        (warning,) = self.warnings(settings, "mailgun", WEBHOOK_SECRET=LOGIN)
        assert "Set ANYMAIL_MAILGUN_WEBHOOK_SIGNING_KEY, and enter http" in warning
        assert "://user:password@" in warning

    def test_who_tells_nothing_is_not_asked_for_anything(self, settings: Settings) -> None:
        assert self.warnings(settings, "scaleway") == []
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        assert [problem.id for problem in run_checks() if problem.id == "desk.W005"] == []
