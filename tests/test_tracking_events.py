"""What providers tell becomes the fate of an email: each word, any order, any repetition, and whose email it is."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import permutations
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from anymail.signals import AnymailTrackingEvent
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from courses.models import Course
from tests.certificates import new_key
from tests.email_providers import (
    ACCOUNTS,
    AT,
    BASIC,
    LOGIN,
    Account,
    Amazon,
    AmazonSES,
    Mailgun,
    Post,
    Postmark,
    Resend,
    SendGrid,
    Tree,
    iso,
)
from tests.factories import queue_emails
from vouchers.models import Delivery, DeliveryEvent
from vouchers.tombstones import tombstone_of
from vouchers.tracking import sns
from vouchers.tracking.events import time_of
from vouchers.tracking.fates import decisive

pytestmark = pytest.mark.django_db

FATES = {
    "accepted": "",
    "deferred": "deferred",
    "delivered": "delivered",
    "opened": "opened",
    "clicked": "opened",
    "bounced": "bounced",
    "failed": "failed",
    "complained": "complained",
    "unsubscribed": "",
}
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sns.fetched.cache_clear()
    monkeypatch.setattr(requests, "get", Amazon().get)
    yield
    sns.fetched.cache_clear()


@pytest.fixture(autouse=True)
def _secrets(settings: Settings) -> None:
    settings.ANYMAIL = {name: value for account in ACCOUNTS for name, value in account.settings.items()}
    del settings.ANYMAIL["WEBHOOK_SECRET"]


@pytest.fixture
def sent(course: Course) -> Delivery:
    (delivery,) = queue_emails(course, "ann@example.com")
    return as_sent(delivery, "id-at-theirs")


def as_sent(delivery: Delivery, provider_id: str) -> Delivery:
    fields = {"status": "sent", "sent_at": delivery.created_at, "provider_id": provider_id}
    Delivery.objects.filter(pk=delivery.pk).update(**fields)
    delivery.refresh_from_db()
    return delivery


def receive(settings: Settings, account: Account, *events: Tree) -> int:
    settings.ANYMAIL = {**account.settings}
    return account.post(*events).send().status_code


def fate_of(delivery: Delivery) -> tuple[str, dt.datetime | None, str]:
    delivery.refresh_from_db()
    return delivery.fate, delivery.fate_at, delivery.fate_reason


class TestWords:
    @pytest.mark.parametrize(
        ("account", "kind"),
        [(account, kind) for account in ACCOUNTS for kind in account.kinds],
        ids=lambda value: value if isinstance(value, str) else value.provider,
    )
    def test_each_word_has_its_fate(self, settings: Settings, sent: Delivery, account: Account, kind: str) -> None:
        assert receive(settings, account, account.tell(kind, sent)) == 200
        fate, at, reason = fate_of(sent)
        assert fate == FATES[kind]
        if (account.provider, kind) != ("amazon_ses", "failed"):  # SES does not say when it refused
            assert at == (AT if fate else None)
        if kind == "bounced":
            assert "No such user" in reason

    @pytest.mark.parametrize(
        ("account", "event", "fate"),
        [
            # The mail server took it for spam, not the buyer.
            (Postmark(), {"RecordType": "Bounce", "Type": "SpamNotification"}, "bounced"),
            (Postmark(), {"RecordType": "Bounce", "Type": "Unknown"}, "bounced"),
            (Postmark(), {"RecordType": "Bounce", "Type": "SoftBounce"}, "bounced"),
            (Postmark(), {"RecordType": "Bounce", "Type": "DnsError"}, "deferred"),
            (Postmark(), {"RecordType": "Bounce", "Type": "AutoResponder"}, ""),
            (Postmark(), {"RecordType": "News"}, ""),
            (Resend(), {"type": "email.failed"}, "failed"),
            (Resend(), {"type": "email.suppressed"}, "failed"),
            (Resend(), {"type": "email.scheduled"}, ""),
            (Resend(), {"type": "domain.created"}, ""),
        ],
        ids=str,
    )
    def test_words_that_could_mislead(
        self, settings: Settings, sent: Delivery, account: Account, event: Tree, fate: str
    ) -> None:
        assert receive(settings, account, account.tell("bounced", sent) | event) == 200
        assert fate_of(sent)[0] == fate

    @pytest.mark.parametrize(
        ("event", "fate"),
        [
            # SES tells of a transient bounce when it has given up.
            ({"bounceType": "Transient", "bounceSubType": "MailboxFull"}, "bounced"),
            ({"bounceType": "Undetermined", "bounceSubType": "Undetermined"}, "bounced"),
        ],
    )
    def test_a_bounce_of_amazon_is_one_of_any_sort(
        self, settings: Settings, sent: Delivery, event: Tree, fate: str
    ) -> None:
        ses = AmazonSES()
        assert receive(settings, ses, ses.tell("bounced", sent, **event)) == 200
        assert fate_of(sent) == (fate, AT, f"{event['bounceType']}: {event['bounceSubType']} / smtp; 550 No such user")

    def test_the_older_form_of_amazon_is_read_too(self, settings: Settings, sent: Delivery) -> None:
        ses = AmazonSES()
        event = ses.tell("bounced", sent)
        event["notificationType"] = event.pop("eventType")
        assert receive(settings, ses, event) == 200
        assert fate_of(sent)[0] == "bounced"

    def test_what_has_no_id_is_told_apart_by_its_time(self, settings: Settings, sent: Delivery) -> None:
        for at in (AT, AT + MINUTE, AT):
            assert receive(settings, Postmark(), Postmark().tell("opened", sent, at)) == 200
        assert [event.at for event in sent.events.all()] == [AT, AT + MINUTE]

    def test_an_id_longer_than_its_column_is_kept_in_short(self, settings: Settings, sent: Delivery) -> None:
        for last in "aab":
            event = SendGrid().tell("opened", sent) | {"sg_event_id": "x" * 300 + last}
            assert receive(settings, SendGrid(), event) == 200
        assert sent.events.count() == 2

    def test_a_time_without_a_zone_is_utc(self, settings: Settings, sent: Delivery) -> None:
        event = Postmark().tell("delivered", sent, DeliveredAt="2026-03-01T12:00:00")
        assert receive(settings, Postmark(), event) == 200
        assert fate_of(sent)[:2] == ("delivered", AT)

    def test_a_reason_fits_its_column_and_the_database(self, settings: Settings, sent: Delivery) -> None:
        reason = "550\r\n\x00No \ud800such user " + "x" * 600
        assert receive(settings, SendGrid(), SendGrid().tell("bounced", sent, reason=reason)) == 200
        assert fate_of(sent)[2] == ("550 No such user " + "x" * 600)[:500]

    @pytest.mark.parametrize("account", ACCOUNTS, ids=lambda account: account.provider)
    def test_a_proved_post_of_another_form_does_nothing(
        self, settings: Settings, sent: Delivery, account: Account
    ) -> None:
        settings.ANYMAIL = {**account.settings}
        for event in (
            {"event-data": {"event": []}, "signature": {"token": "a" * 50}},
            {"event-data": 5, "signature": {"token": "b" * 50}},
            {"RecordType": ["Bounce"], "type": None, "event": {}, "eventType": 7, "signature": {"token": "c" * 50}},
        ):
            assert account.post(event).send().status_code in (200, 400)
        assert not DeliveryEvent.objects.exists()

    def test_ids_and_metadata_of_any_type_are_borne(self, settings: Settings, sent: Delivery) -> None:
        odd: Any
        for odd in (None, 7, [], {}, "\x00", "\ud800", "9" * 30, "x" * 300, "-1", True, "½"):
            odd_fields = {"delivery": odd, "anymail_id": odd, "sg_event_id": odd, "email": odd}
            assert receive(settings, SendGrid(), SendGrid().tell("delivered", sent) | odd_fields) == 200
        assert not DeliveryEvent.objects.exists()


# Each provider beside the five, with one bounce in its own form; those without a scheme by the login alone.
def mailersend(delivery: Delivery, kind: str = "hard_bounced") -> Post:
    email = {"message": {"id": delivery.provider_id}, "recipient": {"email": delivery.email}}
    event = {"type": f"activity.{kind}", "data": {"type": kind, "id": "62f1", "created_at": iso(AT), "email": email}}
    body = json.dumps(event).encode()
    return Post("mailersend", body, {"Signature": hmac.new(b"secret", body, hashlib.sha256).hexdigest()})


def mailtrap(delivery: Delivery) -> Post:
    event = {"event": "bounce", "message_id": delivery.provider_id, "email": delivery.email, "event_id": "e1"}
    event |= {"timestamp": int(AT.timestamp()), "custom_variables": {"delivery": str(delivery.pk)}}  # type: ignore[dict-item]
    body = json.dumps({"events": [event]}).encode()
    return Post("mailtrap", body, {"Mailtrap-Signature": hmac.new(b"secret", body, hashlib.sha256).hexdigest()})


def mandrill(delivery: Delivery, url: str) -> Post:
    msg = {"email": delivery.email, "metadata": {"delivery": str(delivery.pk)}, "diag": "smtp;550"}
    event = {"event": "hard_bounce", "_id": delivery.provider_id, "ts": int(AT.timestamp()), "msg": msg}
    fields = {"mandrill_events": json.dumps([event])}
    signed = url + "mandrill_events" + fields["mandrill_events"]
    signature = b64encode(hmac.new(b"secret", signed.encode(), hashlib.sha1).digest()).decode()
    form = "application/x-www-form-urlencoded"
    return Post("mandrill", urlencode(fields).encode(), {"X-Mandrill-Signature": signature}, form)


def postal(delivery: Delivery) -> Post:
    message = {"id": delivery.provider_id, "to": delivery.email, "direction": "outgoing"}
    payload = {"original_message": message, "bounce": {"id": 1}}
    event = {"event": "MessageBounced", "timestamp": AT.timestamp(), "payload": payload, "uuid": "u1"}
    body = json.dumps(event).encode()
    signature = new_key("Postal").sign(body, PKCS1v15(), SHA1())  # noqa: S303
    return Post("postal", body, {"X-Postal-Signature": b64encode(signature).decode()})


def unisender_go(delivery: Delivery) -> Post:
    data = {"status": "hard_bounced", "email": delivery.email, "job_id": delivery.provider_id}
    data |= {"event_time": AT.strftime("%Y-%m-%d %H:%M:%S"), "metadata": {"delivery": str(delivery.pk)}}  # type: ignore[dict-item]
    events = [{"event_name": "transactional_email_status", "event_data": data}]
    body = json.dumps({"auth": "secret", "events_by_user": [{"user_id": 1, "events": events}]})
    return Post("unisender_go", body.replace("secret", hashlib.md5(body.encode()).hexdigest()).encode())  # noqa: S324


def brevo(delivery: Delivery) -> Post:
    event = {"event": "hard_bounce", "email": delivery.email, "message-id": delivery.provider_id, "reason": "550"}
    event |= {"ts_epoch": AT.timestamp() * 1000, "X-Mailin-custom": json.dumps({"delivery": str(delivery.pk)})}  # type: ignore[dict-item]
    return Post("brevo", json.dumps(event).encode(), BASIC)


def mailjet(delivery: Delivery) -> Post:
    event = {"event": "bounce", "email": delivery.email, "MessageID": 19421777835146490, "hard_bounce": True}
    event |= {
        "time": int(AT.timestamp()),
        "Payload": json.dumps({"delivery": str(delivery.pk)}),
        "error": "user unknown",
    }
    return Post("mailjet", json.dumps([event]).encode(), BASIC)


def sparkpost(delivery: Delivery) -> Post:
    event = {"type": "bounce", "event_id": "92", "bounce_class": "10", "raw_rcpt_to": delivery.email}
    event |= {"timestamp": str(int(AT.timestamp())), "rcpt_meta": {"delivery": str(delivery.pk)}}  # type: ignore[dict-item]
    return Post("sparkpost", json.dumps([{"msys": {"message_event": event}}]).encode(), BASIC)


class TestOtherProviders:
    @pytest.fixture(autouse=True)
    def _configured(self, settings: Settings) -> None:
        key = new_key("Postal").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        settings.ANYMAIL = {
            "MAILERSEND_SIGNING_SECRET": "secret",
            "MAILTRAP_TRACKING_SECRET": "secret",
            "MANDRILL_WEBHOOK_KEY": "secret",
            "POSTAL_WEBHOOK_KEY": b64encode(key).decode(),
            "UNISENDER_GO_API_KEY": "secret",
        }

    def assert_bounces(self, post: Post, sent: Delivery) -> None:
        for _ in range(2):
            assert post.send().status_code == 200
        assert fate_of(sent)[:2] == ("bounced", AT)
        assert sent.events.count() == 1

    @pytest.mark.parametrize("made", [mailersend, mailtrap, postal, unisender_go])
    def test_its_signature_is_believed_and_no_other(self, sent: Delivery, made: Any) -> None:
        post = made(sent)
        assert post.with_body("ounce", "0unce").send().status_code == 400
        assert not DeliveryEvent.objects.exists()
        self.assert_bounces(post, sent)

    @pytest.mark.parametrize("login", ["", f"{LOGIN}@"])
    def test_mandrill_signs_the_address_that_was_entered(self, sent: Delivery, settings: Settings, login: str) -> None:
        url = settings.BASE_URL.replace("://", f"://{login}") + "/webhooks/email/mandrill/tracking/"
        post = mandrill(sent, url)
        assert mandrill(sent, url.replace("mandrill/", "mandrel/")).send().status_code == 400
        self.assert_bounces(
            Post("mandrill", post.body, post.headers | (BASIC if login else {}), post.content_type), sent
        )

    @pytest.mark.parametrize("made", [brevo, mailjet, sparkpost])
    def test_those_that_sign_nothing_are_believed_by_the_login(
        self, sent: Delivery, settings: Settings, made: Any
    ) -> None:
        assert made(sent).send().status_code == 400
        settings.ANYMAIL = {"WEBHOOK_SECRET": LOGIN}
        assert made(sent).with_headers(authorization="").send().status_code == 400
        assert not DeliveryEvent.objects.exists()
        self.assert_bounces(made(sent), sent)

    def test_a_delay_of_mailersend_is_one(self, sent: Delivery) -> None:
        assert mailersend(sent, "deferred").send().status_code == 200
        assert fate_of(sent)[0] == "deferred"


class TestFates:
    @pytest.mark.parametrize(
        ("told", "fate"),
        [
            (["accepted"], ""),
            (["accepted", "deferred"], "deferred"),
            (["deferred", "delivered", "opened"], "opened"),
            (["deferred", "delivered"], "delivered"),
            (["delivered", "deferred"], "delivered"),
            (["opened", "delivered"], "opened"),
            (["opened"], "opened"),
            (["delivered", "bounced"], "bounced"),
            (["bounced", "delivered"], "delivered"),
            (["delivered", "opened", "bounced", "opened"], "bounced"),
            (["bounced", "delivered", "opened"], "opened"),
            (["delivered", "failed"], "failed"),
            (["complained", "delivered", "bounced", "opened"], "complained"),
        ],
    )
    def test_any_order_means_the_same(self, told: list[str], fate: str) -> None:
        events = [DeliveryEvent(kind=kind, at=AT + n * MINUTE) for n, kind in enumerate(told)]
        found = [decisive(order) for order in permutations(events)]
        assert len({event and event.at for event in found}) == 1
        assert {event.kind if event else "" for event in found} == {fate}

    @pytest.mark.parametrize(
        ("told", "fate"),
        [
            (["deferred", "delivered", "opened"], "opened"),
            (["delivered", "clicked", "bounced"], "bounced"),
            (["complained", "bounced", "delivered"], "complained"),
        ],
    )
    def test_any_order_and_repetition_ends_the_same(
        self, settings: Settings, sent: Delivery, told: list[str], fate: str
    ) -> None:
        sendgrid = SendGrid()
        events = [sendgrid.tell(kind, sent, AT + n * MINUTE) for n, kind in enumerate(told)]
        ends = set()
        for order in permutations(events):
            DeliveryEvent.objects.all().delete()
            Delivery.objects.update(fate="", fate_at=None, fate_reason="")
            for event in (*order, order[0]):
                assert receive(settings, sendgrid, event) == 200
            ends.add(fate_of(sent))
            assert sent.events.count() == len(told)
        assert {end[0] for end in ends} == {fate}
        assert len(ends) == 1

    def test_of_the_same_moment_the_worse_is_believed(self) -> None:
        for kinds in (("delivered", "bounced"), ("delivered", "failed"), ("failed", "bounced")):
            for order in permutations([DeliveryEvent(kind=kind, at=AT, key=kind) for kind in kinds]):
                found = decisive(order)
                assert found is not None
                assert found.kind == kinds[1]

    def test_of_the_same_word_in_the_same_moment_one_is_always_the_one(self) -> None:
        events = [DeliveryEvent(kind=kind, at=AT, reason=reason) for kind in ("bounced", "opened") for reason in "abc"]
        found = {(event.kind, event.reason) for order in permutations(events) if (event := decisive(order))}
        assert len(found) == 1

    def test_many_events_of_one_post_cost_what_few_do(
        self, settings: Settings, course: Course, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        queued = queue_emails(course, *(f"{n}@example.com" for n in range(10)))
        emails = [as_sent(email, f"theirs-{n}") for n, email in enumerate(queued)]
        sendgrid = SendGrid()
        settings.ANYMAIL = {**sendgrid.settings}
        events = [sendgrid.tell(kind, email) for email in emails for kind in ("delivered", "opened", "clicked")]
        post = sendgrid.post(*events)
        find, lock, store, read, transaction = 3, 1, 1, 1, 2
        with django_assert_num_queries(find + lock + store + read + transaction + len(emails)):
            assert post.send().status_code == 200
        assert DeliveryEvent.objects.count() == 30
        assert not Delivery.objects.exclude(fate="opened").exists()


class TestWhose:
    def tell(self, settings: Settings, delivery: Delivery, **fields: Any) -> int:
        return receive(settings, SendGrid(), SendGrid().tell("delivered", delivery, **fields))

    def test_the_named_one_where_the_address_agrees(self, settings: Settings, sent: Delivery) -> None:
        assert self.tell(settings, sent, anymail_id="another", email="ANN@example.com") == 200
        assert fate_of(sent)[0] == "delivered"
        assert sent.provider_id == "id-at-theirs"

    def test_the_named_one_where_an_id_agrees(self, settings: Settings, sent: Delivery) -> None:
        Delivery.objects.filter(pk=sent.pk).update(email="new@example.com")
        assert self.tell(settings, sent) == 200
        assert fate_of(sent)[0] == "delivered"

    def test_the_named_one_also_after_its_address_was_erased(self, settings: Settings, sent: Delivery) -> None:
        Delivery.objects.filter(pk=sent.pk).update(email=tombstone_of("Ann@example.com"))
        assert self.tell(settings, sent, anymail_id="another") == 200
        assert fate_of(sent)[0] == "delivered"

    def test_not_the_one_of_the_same_number_at_another_desk(self, settings: Settings, sent: Delivery) -> None:
        assert self.tell(settings, sent, anymail_id="another", email="somebody@example.com") == 200
        assert fate_of(sent)[0] == ""
        assert not DeliveryEvent.objects.exists()

    def test_the_one_of_the_id_where_the_number_is_of_another_desk(
        self, settings: Settings, course: Course, sent: Delivery
    ) -> None:
        other = as_sent(queue_emails(course, "bob@example.com")[0], "other")
        event = SendGrid().tell("delivered", sent) | {"delivery": str(other.pk), "email": "x@example.com"}
        assert receive(settings, SendGrid(), event) == 200
        assert fate_of(sent)[0] == "delivered"
        assert fate_of(other)[0] == ""

    @pytest.mark.parametrize("given", ["id-at-theirs", "{message_id}", "{bare}"])
    def test_the_one_of_the_id_where_nothing_was_named(self, settings: Settings, sent: Delivery, given: str) -> None:
        given = given.format(message_id=sent.message_id, bare=sent.message_id.strip("<>"))
        event = SendGrid().tell("delivered", sent, anymail_id=given, email="x@example.com")
        del event["delivery"]
        assert receive(settings, SendGrid(), event) == 200
        assert fate_of(sent)[0] == "delivered"

    def test_nobodys_where_there_is_no_id(self, settings: Settings, course: Course) -> None:
        as_sent(queue_emails(course, "ann@example.com")[0], "")
        event = {"event": "delivered", "timestamp": 1772366400, "email": "x@example.com", "sg_event_id": "e"}
        assert receive(settings, SendGrid(), event) == 200
        assert not DeliveryEvent.objects.exists()

    def test_the_id_is_kept_where_its_sender_did_not_live_to(self, settings: Settings, course: Course) -> None:
        (delivery,) = queue_emails(course, "ann@example.com")
        Delivery.objects.update(status="sending", attempts=1)
        assert receive(settings, SendGrid(), SendGrid().tell("delivered", delivery, anymail_id="theirs")) == 200
        delivery.refresh_from_db()
        assert (delivery.fate, delivery.provider_id, delivery.status) == ("delivered", "theirs", "sending")


class TestOvertaking:
    """A provider may tell of an email before its answer to the sending of it was written down."""

    def event(self, email: str, kind: str = "delivered") -> Tree:
        return {"event": kind, "timestamp": 1772366400, "email": email, "sg_event_id": "e", "anymail_id": "theirs"}

    def test_it_is_to_be_told_again_and_is_taken_then(self, settings: Settings, course: Course) -> None:
        (delivery,) = queue_emails(course, "ann@example.com")
        Delivery.objects.update(status="sending")
        settings.ANYMAIL = {**SendGrid.settings}
        post = SendGrid().post(self.event("Ann@example.com"))
        response = post.send()
        assert response.status_code == 503
        assert json.loads(response.content)["code"] == "not_recorded_yet"
        assert int(response["Retry-After"]) > 0
        assert not DeliveryEvent.objects.exists()
        as_sent(delivery, "theirs")
        assert post.send().status_code == 200
        assert fate_of(delivery)[0] == "delivered"

    def test_nothing_else_of_the_post_is_half_done(self, settings: Settings, course: Course, sent: Delivery) -> None:
        queue_emails(course, "bob@example.com")
        Delivery.objects.filter(email="bob@example.com").update(status="sending")
        events = [SendGrid().tell("delivered", sent), self.event("bob@example.com")]
        assert receive(settings, SendGrid(), *events) == 503
        assert not DeliveryEvent.objects.exists()

    @pytest.mark.parametrize("event", [("bob@example.com", "delivered"), ("ann@example.com", "unsubscribe")])
    def test_what_cannot_be_of_it_is_passed_over(
        self, settings: Settings, course: Course, event: tuple[str, str]
    ) -> None:
        queue_emails(course, "ann@example.com")
        Delivery.objects.update(status="sending")
        assert receive(settings, SendGrid(), self.event(*event)) == 200
        assert not DeliveryEvent.objects.exists()

    def test_with_nothing_on_its_way_it_is_somebody_elses(self, settings: Settings, sent: Delivery) -> None:
        assert receive(settings, SendGrid(), self.event("ann@example.com")) == 200
        assert not DeliveryEvent.objects.exists()


def test_a_whole_life_at_mailgun(settings: Settings, course: Course) -> None:
    """By its id alone, which is our own: Mailgun takes the angle brackets off."""
    (delivery,) = queue_emails(course, "ann@example.com")
    as_sent(delivery, delivery.message_id)
    mailgun, seen = Mailgun(), []
    for n, kind in enumerate(("accepted", "deferred", "delivered", "opened", "clicked", "complained")):
        event = mailgun.tell(kind, delivery, AT + n * MINUTE)
        event["event-data"]["user-variables"] = {}
        assert receive(settings, mailgun, event) == 200
        delivery.refresh_from_db()
        seen.append(delivery.state)
    assert seen == ["accepted", "deferred", "delivered", "opened", "opened", "complained"]
    assert delivery.fate_at == AT + 5 * MINUTE


@pytest.mark.parametrize("at", [None, dt.datetime(1999, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)])  # noqa: DTZ001
def test_a_time_that_is_out_of_the_question_is_ours(at: dt.datetime | None) -> None:
    event = AnymailTrackingEvent(event_type="delivered", timestamp=at)  # type: ignore[no-untyped-call]
    assert abs(time_of(event) - timezone.now()) < dt.timedelta(minutes=1)


def test_a_time_that_no_clock_can_show_is_refused_and_not_a_fault(sent: Delivery, settings: Settings) -> None:
    settings.ANYMAIL = {"WEBHOOK_SECRET": "user:password"}
    body = [{"event": "sent", "time": 10**18, "MessageID": 1}]
    login = b64encode(b"user:password").decode()
    answer = Client().post(
        "/webhooks/email/mailjet/tracking/",
        json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Basic {login}"},
    )
    assert answer.status_code == 400
    assert not DeliveryEvent.objects.exists()
