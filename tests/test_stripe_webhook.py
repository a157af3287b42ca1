"""POST /webhooks/stripe/<uuid>/: what is proved, and what is not."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import Client
from djstripe.models import Event, WebhookEndpoint, WebhookEventTrigger
from pytest_django import Settings

from courses.models import Course, PaymentFact, Purchase
from tests.factories import make_pool
from tests.stripe_events import KEY, SECRET, Payment, event, post, signature, tell, webhook_path
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.payments.stripe.endpoint import demo_endpoint, endpoint_of_secret

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def pool(priced: Course) -> None:
    make_pool(priced, 3)


def nothing_happened() -> bool:
    rows = (Event, WebhookEventTrigger, PaymentFact, Purchase, Issuance)
    return (
        not any(model.objects.exists() for model in rows) and not Voucher.objects.exclude(status="available").exists()
    )


class TestProof:
    def test_it_issues_for_an_event_that_is_signed(self) -> None:
        answer = post(Payment().completed())

        assert (answer.status_code, answer.json()) == (200, {"received": True})
        voucher = Voucher.objects.get(status="issued")
        assert voucher.issued_to == "ann@example.com"
        assert Delivery.objects.get().issuance == Issuance.objects.get(voucher=voucher)

    def test_it_handles_events_while_stripe_cannot_be_reached(self, settings: Settings) -> None:
        # Nobody listens there; a call would end in an exception, and that in a 500.
        settings.STRIPE_API_HOST = "http://127.0.0.1:9"
        settings.STRIPE_SECRET_KEY = KEY
        payment = Payment()
        tell(payment.completed(), payment.refunded(4900), payment.disputed(), payment.dispute_ended("won"))
        for kind in ("customer.created", "payment_intent.created", "charge.succeeded", "charge.updated"):
            tell(event(kind, {"id": "x_1", "object": kind.split(".")[0]}))

    @pytest.mark.parametrize("secret", ["whsec_" + "x" * 32, "", " "])
    def test_it_refuses_another_secret(self, secret: str) -> None:
        body = json.dumps(Payment().completed())
        answer = post(body, header=signature(body, secret))
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_signature")
        assert nothing_happened()

    def test_it_refuses_a_body_that_was_changed(self) -> None:
        body = json.dumps(Payment().completed())
        assert post(body.replace("4900", "1"), header=signature(body)).status_code == 400
        assert nothing_happened()

    @pytest.mark.parametrize(
        "header", ["", "t=,v1=", "nonsense", "t=1", "v1=abc", "t=abc,v1=abc", "t=99999999999999999999,v1=a"]
    )
    def test_it_refuses_a_header_that_is_none(self, header: str) -> None:
        answer = post(Payment().completed(), header=header)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_signature")
        assert answer.json()["requestId"] == answer["X-Request-ID"]
        assert nothing_happened()

    @pytest.mark.parametrize("seconds", [-302, 302, 86_400])
    def test_it_refuses_a_time_that_is_not_ours(self, seconds: int) -> None:
        body = json.dumps(Payment().completed())
        assert post(body, header=signature(body, at=time.time() + seconds)).status_code == 400
        assert nothing_happened()

    @pytest.mark.parametrize("seconds", [-290, 290])
    def test_it_takes_clocks_that_differ_a_little(self, seconds: int) -> None:
        body = json.dumps(Payment().completed())
        assert post(body, header=signature(body, at=time.time() + seconds)).status_code == 200

    def test_it_never_verifies_by_an_empty_secret(self) -> None:
        path = webhook_path()
        WebhookEndpoint.objects.update(secret="")
        body = json.dumps(Payment().completed())
        answer = post(body, header=signature(body, ""), path=path)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_signature")
        assert "STRIPE_WEBHOOK_SECRET" in answer.json()["error"]
        assert nothing_happened()
        assert "desk.E002" in {problem.id for problem in run_checks(databases=["default"])}

    def test_it_does_not_do_without_a_signature_where_an_endpoint_is_set_so(self) -> None:
        path = webhook_path()
        WebhookEndpoint.objects.update(djstripe_validation_method="none")
        assert post(Payment().completed(), header="t=1,v1=a", path=path).status_code == 400
        assert nothing_happened()

    @pytest.mark.parametrize(
        "body",
        ["", "{", "[]", "{}", '"x"', '{"id": "evt_1"}', json.dumps(event("charge.refunded", {}) | {"data": {}})],
    )
    def test_it_refuses_what_is_signed_and_no_event(self, body: str) -> None:
        assert post(body).status_code == 400
        assert nothing_happened()

    @pytest.mark.parametrize(
        "odd",
        [
            {"created": "now"},
            {"created": 2**40},
            {"created": -1},
            {"account": 7},
            {"id": "evt_" + "x" * 300},
            {"type": 1},
            {"livemode": None},
            {"request": {"id": "x" * 60}},
            {"pending_webhooks": "\ud800"},
        ],
    )
    def test_it_refuses_what_no_event_of_stripes_has(self, odd: dict[str, Any]) -> None:
        answer = post(Payment().completed() | odd)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert nothing_happened()

    def test_it_refuses_json_that_is_nested_too_deeply(self) -> None:
        assert post("[" * 100_000 + "]" * 100_000).status_code == 400

    def test_it_refuses_a_signature_that_is_no_ascii(self) -> None:
        assert post(Payment().completed(), header=f"t={int(time.time())},v1=é").status_code == 400
        assert nothing_happened()

    def test_a_buyer_may_have_an_odd_name(self) -> None:
        details = {"email": "ann@example.com", "name": "Ann \\u0000 \\"}
        assert post(Payment().completed(customer_details=details)).status_code == 200

    @pytest.mark.parametrize("forwarded", ["unknown", "203.0.113.7, 10.0.0.1", ""])
    def test_it_does_not_mind_what_a_proxy_wrote(self, forwarded: str) -> None:
        body = json.dumps(Payment().completed())
        headers = {"Stripe-Signature": signature(body), "X-Forwarded-For": forwarded}
        answer = Client().post(webhook_path(), body, content_type="application/json", headers=headers)
        assert answer.status_code == 200
        assert WebhookEventTrigger.objects.get().remote_ip == "127.0.0.1"

    def test_it_verifies_by_signature_whatever_an_endpoint_is_set_to(self, settings: Settings) -> None:
        settings.STRIPE_API_HOST = "http://127.0.0.1:9"
        path = webhook_path()
        WebhookEndpoint.objects.update(djstripe_validation_method="retrieve_event")
        assert post(Payment().completed(), path=path).status_code == 200

    @pytest.mark.parametrize("currency", ["jpy", "usd", "kwd"])
    def test_it_can_count_large_amounts(self, currency: str) -> None:
        payment = Payment(amount=10**11, currency=currency)
        tell(payment.completed(), payment.refunded(10**11), payment.disputed(), payment.dispute_ended("lost"))
        assert not Issuance.objects.exists()

    def test_it_refuses_text_that_the_database_cannot_keep(self) -> None:
        assert post(Payment(email="ann\x00@example.com").completed()).status_code == 400
        assert nothing_happened()

    def test_it_knows_no_other_endpoint(self) -> None:
        answer = post(Payment().completed(), path="/webhooks/stripe/8b7c2a52-0c8a-4a39-9a2f-5b1a3c7c0f11/")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        looked = Client().get(webhook_path())
        assert (looked.status_code, looked["Allow"], looked.json()["code"]) == (405, "POST", "method_not_allowed")
        assert nothing_happened()

    def test_the_test_payments_endpoint_is_closed_where_real_ones_are_taken(self, settings: Settings) -> None:
        endpoint = demo_endpoint()
        settings.DEMO_PAYMENTS = False
        body = json.dumps(Payment().completed())
        header = signature(body, endpoint.secret)
        assert post(body, header=header, path=webhook_path(endpoint.secret)).status_code == 404
        settings.DEMO_PAYMENTS = True
        assert post(body, header=header, path=webhook_path(endpoint.secret)).status_code == 200


class TestDelivery:
    def test_an_event_twice_has_one_effect(self) -> None:
        told = Payment().completed()
        tell(told, told)
        assert Issuance.objects.count() == Purchase.objects.count() == Event.objects.count() == 1

    def test_a_payment_in_other_events_has_one_effect(self) -> None:
        payment = Payment()
        tell(payment.completed(), event("payment_intent.succeeded", payment.intent()), payment.completed())
        assert Issuance.objects.count() == Purchase.objects.count() == 1

    def test_a_fault_of_ours_leaves_nothing_half_done(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = Payment().completed()
        path = webhook_path()

        def broken(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("the disk is full")

        monkeypatch.setattr("vouchers.payments.settling.issue_seats", broken)
        body = json.dumps(told)
        client = Client(raise_request_exception=False)
        answer = client.post(path, body, content_type="application/json", headers={"Stripe-Signature": signature(body)})
        assert (answer.status_code, answer.json()["code"]) == (500, "server_error")
        assert not Event.objects.exists()
        assert not Purchase.objects.exists()
        assert not PaymentFact.objects.exists()

        monkeypatch.undo()
        tell(told)  # Stripe tries again
        assert Issuance.objects.get().status == "issued"

    @pytest.mark.parametrize("kind", ["customer.created", "invoice.paid", "unheard.of", "payment_intent.created"])
    def test_an_event_that_does_not_concern_us_is_taken_and_nothing_done(self, kind: str) -> None:
        tell(event(kind, Payment().intent()))
        assert not Purchase.objects.exists()
        assert not PaymentFact.objects.exists()

    @pytest.mark.parametrize(
        "thing", [{}, {"id": 7}, {"id": "cs_1", "metadata": []}, {"id": "cs_1", "payment_intent": {}}]
    )
    @pytest.mark.parametrize("kind", ["checkout.session.completed", "charge.refunded", "charge.dispute.created"])
    def test_an_object_of_another_form_breaks_nothing(self, kind: str, thing: dict[str, Any]) -> None:
        tell(event(kind, thing))
        assert not Issuance.objects.exists()


class TestCommand:
    def test_it_makes_the_endpoint_once_and_prints_its_address(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings.STRIPE_WEBHOOK_SECRET = SECRET
        settings.BASE_URL = "https://shop.example"
        assert "desk.E003" in {problem.id for problem in run_checks(databases=["default"])}
        call_command("stripe_webhook")
        first = capsys.readouterr().out.splitlines()[-1]
        call_command("stripe_webhook")
        assert capsys.readouterr().out.splitlines()[-1] == first
        assert first == "https://shop.example" + webhook_path()
        assert WebhookEndpoint.objects.get().url == first
        assert "desk.E003" not in {problem.id for problem in run_checks(databases=["default"])}
        assert post(Payment().completed(), path=first.removeprefix("https://shop.example")).status_code == 200

    def test_it_says_so_where_there_is_no_secret(self, settings: Settings) -> None:
        settings.STRIPE_WEBHOOK_SECRET = ""
        with pytest.raises(CommandError, match="STRIPE_WEBHOOK_SECRET is not set"):
            call_command("stripe_webhook")
        assert not WebhookEndpoint.objects.exists()

    def test_another_secret_has_an_endpoint_of_its_own(self) -> None:
        first, second = endpoint_of_secret(SECRET), endpoint_of_secret("whsec_other_secret")
        assert first.djstripe_uuid != second.djstripe_uuid
        body = json.dumps(Payment().completed())
        assert post(body, path=webhook_path("whsec_other_secret")).status_code == 400
