"""The voucher's email: what it says, and how it goes out without SMTP."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from anymail.exceptions import AnymailCancelSend
from anymail.signals import pre_send
from django.conf import settings as django_settings
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives, get_connection
from pytest_django import Settings

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool, voucher_of
from vouchers.delivery.messages import message_of
from vouchers.delivery.sending import send_due
from vouchers.models import Delivery, KeptEmail

pytestmark = pytest.mark.django_db
KEPT = "vouchers.delivery.kept.KeptEmailBackend"


def queue(course: Course, email: str = "ann@example.com", **voucher: Any) -> Delivery:
    make_pool(course, 1, **voucher)
    return issue_to(course, email).deliveries.get()


def message_for(delivery: Delivery) -> tuple[EmailMultiAlternatives, str]:
    """The email and its HTML."""
    message = message_of(delivery)
    ((html, mimetype),) = message.alternatives
    assert mimetype == "text/html"
    return message, str(html)


# What it says ---------------------------------------------------------------------------------------


def test_it_says_until_when_the_voucher_is_valid(course: Course, settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    message, html = message_for(queue(course, expires_on=dt.date(2027, 12, 31)))

    assert "valid until the end of 31 December 2027 (Europe/Berlin)." in message.body
    assert "valid until the end of <strong>31 December 2027</strong> (Europe/Berlin)." in html


def test_it_says_nothing_of_an_end_where_there_is_none(course: Course) -> None:
    message, html = message_for(queue(course))

    assert "valid until" not in message.body + html


def test_it_names_the_email_a_voucher_is_bound_to() -> None:
    bearer, _ = message_for(queue(CourseFactory.create(), "ann@example.com"))
    holder, html = message_for(queue(CourseFactory.create(redemption="holder"), "ann@example.com"))

    assert "ann@example.com" not in bearer.body
    assert "only together with this email address, ann@example.com" in holder.body
    assert "only together with this email address, ann@example.com" in html


def test_it_names_the_shop_and_where_it_is(course: Course, settings: Settings) -> None:
    settings.DEFAULT_FROM_EMAIL = "Course Shop <vouchers@shop.example>"
    settings.BASE_URL = "https://shop.example"
    message, html = message_for(queue(course))

    assert message.from_email == "Course Shop <vouchers@shop.example>"
    assert message.body.endswith("Course Shop\nhttps://shop.example\n")
    assert "Course Shop<br>" in html
    assert 'href="https://shop.example"' in html


def test_it_escapes_the_course_name_in_html_and_only_there() -> None:
    name = '<b>C++ & "you"</b>'
    message, html = message_for(queue(CourseFactory.create(name=name)))

    assert message.subject == f"Your voucher for {name}"
    assert f"voucher for {name}:" in message.body
    assert name not in html
    assert "&lt;b&gt;C++ &amp; &quot;you&quot;&lt;/b&gt;" in html


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\x0b", "\x85", "\u2028"])
def test_a_course_name_of_several_lines_does_not_become_a_header(line_end: str) -> None:
    delivery = queue(CourseFactory.create(name=f"Go{line_end}Bcc: eve@example.com"))
    message, _ = message_for(delivery)

    assert message.subject == "Your voucher for Go Bcc: eve@example.com"
    sent = message.message()
    assert sent["Bcc"] is None
    assert message.recipients() == ["ann@example.com"]


def test_it_puts_no_code_into_a_url(course: Course) -> None:
    delivery = queue(course)
    _, html = message_for(delivery)

    assert html.count(voucher_of(delivery).code) == 1
    assert "src=" not in html


def test_a_shop_can_replace_its_templates(course: Course, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "email").mkdir()
    (tmp_path / "email" / "voucher_subject.txt").write_text("{{ course.id }} from {{ voucher.issued_to }}")
    (tmp_path / "email" / "voucher.txt").write_text("{{ code }}")
    (tmp_path / "email" / "voucher.html").write_text("<p>{{ code }}</p>")
    settings.TEMPLATES = [django_settings.TEMPLATES[0] | {"DIRS": [tmp_path]}]
    delivery = queue(course)

    message, html = message_for(delivery)

    assert message.subject == "JS101 from ann@example.com"
    assert message.body == f"{voucher_of(delivery).code}\n"
    assert html == f"<p>{voucher_of(delivery).code}</p>"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{% if course.id == 'BAD' %}{% include 'email/missing.txt' %}{% endif %}", "TemplateDoesNotExist"),
        ("{% if course.id == 'BAD' %}{{ course.name|add:course|divisibleby:0 }}{% endif %}", "Error"),
    ],
)
def test_a_template_that_fails_is_tried_again_and_stops_nobody_else(
    settings: Settings, tmp_path: Path, text: str, error: str
) -> None:
    shutil.copytree(django_settings.BASE_DIR / "templates" / "email", tmp_path / "email")
    (tmp_path / "email" / "voucher.txt").write_text(text)
    settings.TEMPLATES = [django_settings.TEMPLATES[0] | {"DIRS": [tmp_path]}]
    settings.EMAIL_BACKEND = KEPT
    bad = queue(CourseFactory.create(id="BAD"), "bad@example.com")
    queue(CourseFactory.create(id="GOOD"), "good@example.com")

    assert send_due() == 1

    bad.refresh_from_db()
    assert (bad.status, bad.attempts) == (Delivery.Status.QUEUED, 1)
    assert error in bad.last_error
    assert KeptEmail.objects.get().to == "good@example.com"


# Kept here ------------------------------------------------------------------------------------------


def test_it_keeps_emails_where_nothing_sends_them(course: Course, settings: Settings) -> None:
    settings.EMAIL_BACKEND = KEPT
    delivery = queue(course)
    message, html = message_for(delivery)

    assert send_due() == 1

    kept = KeptEmail.objects.get()
    assert kept.to == "ann@example.com"
    assert kept.message_id == delivery.message_id
    assert kept.subject == "Your voucher for JavaScript Basics"
    assert (kept.text, kept.html) == (message.body, html)
    delivery.refresh_from_db()
    assert delivery.status == Delivery.Status.SENT


def test_it_keeps_one_email_for_each_recipient() -> None:
    message = EmailMessage("Hello", "Text", to=["ann@example.com", "bob@example.com"], bcc=["cid@example.com"])

    assert get_connection(KEPT).send_messages([message, EmailMessage("Alone", "x", to=["dan@example.com"])]) == 2

    kept = KeptEmail.objects.order_by("id")
    assert [email.to for email in kept] == [f"{name}@example.com" for name in ("ann", "bob", "cid", "dan")]
    assert {email.html for email in kept} == {""}
    assert all(email.message_id for email in kept)


# By a provider --------------------------------------------------------------------------------------


def test_it_notes_the_id_that_a_provider_gives_an_email(course: Course, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "anymail.backends.test.EmailBackend"
    delivery = queue(course)

    assert send_due() == 1

    delivery.refresh_from_db()
    assert (delivery.status, delivery.provider_id) == (Delivery.Status.SENT, "0")
    (message,) = mail.outbox
    assert message.__dict__["anymail_test_params"]["metadata"] == {"delivery": str(delivery.pk)}


def test_it_does_not_call_sent_what_was_not(course: Course, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "anymail.backends.test.EmailBackend"
    delivery = queue(course)

    def cancel(**signal: object) -> None:
        raise AnymailCancelSend

    pre_send.connect(cancel)
    try:
        assert send_due() == 0
    finally:
        pre_send.disconnect(cancel)

    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == (Delivery.Status.QUEUED, 1)
    assert delivery.last_error == "NotSent: The email backend did not send it."


@dataclass
class Provider:
    """Something that speaks as Resend does, on 127.0.0.1."""

    status: int = 200
    answer: dict[str, object] = field(default_factory=lambda: {"id": "provider-1"})
    calls: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    drop: bool = False


@pytest.fixture
def provider(settings: Settings) -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            provider.calls.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            provider.keys.append(self.headers["Idempotency-Key"])
            if provider.drop:
                self.close_connection = True
                return
            body = json.dumps(provider.answer).encode()
            self.send_response(provider.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.EMAIL_BACKEND = "anymail.backends.resend.EmailBackend"
    settings.ANYMAIL = django_settings.ANYMAIL | {
        "RESEND_API_KEY": "re_test",
        "RESEND_API_URL": f"http://127.0.0.1:{server.server_port}/",
    }
    yield provider
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_gives_a_repeat_the_same_idempotency_key(course: Course, provider: Provider) -> None:
    delivery = queue(course)
    provider.drop = True
    assert send_due() == 0
    delivery.refresh_from_db()
    # The provider may have taken it before it hung up, so this was an attempt.
    assert (delivery.status, delivery.attempts) == (Delivery.Status.QUEUED, 1)

    provider.drop = False
    Delivery.objects.update(due_at=delivery.created_at)
    assert send_due() == 1

    first, second = provider.calls
    assert first == second
    assert set(provider.keys) == {delivery.message_id.strip("<>")}
    delivery.refresh_from_db()
    assert (delivery.status, delivery.provider_id) == (Delivery.Status.SENT, "provider-1")


@pytest.mark.parametrize("status", [401, 403, 429])
def test_it_takes_a_refused_key_for_its_own_trouble(course: Course, provider: Provider, status: int) -> None:
    provider.status, provider.answer = status, {"message": "API key is invalid"}
    delivery = queue(course)

    assert send_due() == 0

    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == (Delivery.Status.QUEUED, 0)
    assert "API key is invalid" in delivery.last_error


@pytest.mark.parametrize("status", [422, 500, 503])
def test_it_tries_again_what_a_provider_could_not_do(course: Course, provider: Provider, status: int) -> None:
    provider.status, provider.answer = status, {"message": "Not now"}
    delivery = queue(course)

    assert send_due() == 0

    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == (Delivery.Status.QUEUED, 1)
    assert "Not now" in delivery.last_error


def test_it_puts_everything_back_when_the_provider_is_away(
    course: Course, provider: Provider, settings: Settings
) -> None:
    settings.ANYMAIL = settings.ANYMAIL | {"RESEND_API_URL": "http://127.0.0.1:1/"}
    queue(course, "ann@example.com")
    queue(course, "bob@example.com")

    assert send_due() == 0

    assert list(Delivery.objects.values_list("status", "attempts")) == [(Delivery.Status.QUEUED, 0)] * 2
    assert provider.calls == []


def test_it_gives_up_an_address_that_no_provider_takes(course: Course, settings: Settings) -> None:
    settings.EMAIL_BACKEND = "anymail.backends.test.EmailBackend"
    delivery = queue(course, "ann@@example..com")

    assert send_due() == 0

    delivery.refresh_from_db()
    assert delivery.status == Delivery.Status.FAILED
    assert "AnymailInvalidAddress" in delivery.last_error
