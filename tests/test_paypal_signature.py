"""The signature of PayPal's webhooks: every way in which it may be wrong, against a real chain of certificates."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils import timezone
from pytest_django import Settings

from tests.certificates import DAY, below, new_key, root
from tests.paypal_account import AUTHORITY, CERTIFICATES, SIGNING_KEY, PayPalServer
from vouchers.errors import BadSignature, ProviderUnreachable
from vouchers.payments.paypal import signature
from vouchers.payments.paypal.signature import verify

pytest_plugins = ["tests.paypal_server"]

BODY = b'{"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED"}'


def shifted(seconds: int) -> str:
    return (timezone.now() + dt.timedelta(seconds=seconds)).isoformat()


def cannot_be_true(headers: dict[str, str], sentence: str, body: bytes = BODY) -> None:
    with pytest.raises(BadSignature, match=sentence):
        verify(headers, body)


# What is good -----------------------------------------------------------------------------------------


def test_it_takes_what_paypal_signed(paypal: PayPalServer) -> None:
    verify(paypal.sign(BODY), BODY)


def test_it_takes_a_time_up_to_five_minutes_off_either_way(paypal: PayPalServer) -> None:
    verify(paypal.sign(BODY, at=shifted(-290)), BODY)
    verify(paypal.sign(BODY, at=shifted(290)), BODY)


def test_it_fetches_a_certificate_once(paypal: PayPalServer) -> None:
    verify(paypal.sign(BODY), BODY)
    verify(paypal.sign(BODY), BODY)

    assert paypal.asked == [f"GET {CERTIFICATES}CERT-1"]


@pytest.mark.parametrize("name", ["messageverificationcerts.sandbox.paypal.com", "127.0.0.1"])
def test_it_takes_the_other_names_of_a_signer(paypal: PayPalServer, name: str) -> None:
    paypal.certificates["OTHER"] = below(AUTHORITY).issue(new_key(SIGNING_KEY), name=name)

    verify(paypal.sign(BODY, certificate="OTHER"), BODY)


# What is not ------------------------------------------------------------------------------------------


def test_it_refuses_a_tampered_body(paypal: PayPalServer) -> None:
    cannot_be_true(paypal.sign(BODY), "not one of this body", BODY + b" ")


def test_it_refuses_what_was_signed_for_another_webhook(paypal: PayPalServer) -> None:
    cannot_be_true(paypal.sign(BODY, webhook_id="WH-OF-ANOTHER-SHOP"), "not one of this body")


@pytest.mark.parametrize("name", ["PAYPAL-TRANSMISSION-ID", "PAYPAL-TRANSMISSION-TIME"])
def test_it_refuses_another_id_or_time_than_was_signed(paypal: PayPalServer, name: str) -> None:
    other = {"PAYPAL-TRANSMISSION-ID": "another", "PAYPAL-TRANSMISSION-TIME": shifted(1)}

    cannot_be_true(paypal.sign(BODY) | {name: other[name]}, "not one of this body")


@pytest.mark.parametrize(
    "name",
    [
        "PAYPAL-TRANSMISSION-ID",
        "PAYPAL-TRANSMISSION-TIME",
        "PAYPAL-TRANSMISSION-SIG",
        "PAYPAL-CERT-URL",
        "PAYPAL-AUTH-ALGO",
    ],
)
def test_it_refuses_a_missing_header(paypal: PayPalServer, name: str) -> None:
    headers = paypal.sign(BODY)

    cannot_be_true({header: value for header, value in headers.items() if header != name}, f"{name} is missing")
    cannot_be_true(headers | {name: ""}, f"{name} is missing")


def test_it_refuses_everything_while_the_webhook_id_is_not_set(paypal: PayPalServer, settings: Settings) -> None:
    settings.PAYPAL_WEBHOOK_ID = ""

    cannot_be_true(paypal.sign(BODY, webhook_id=""), "PAYPAL_WEBHOOK_ID is not set")


@pytest.mark.parametrize("algorithm", ["SHA1withRSA", "sha256withrsa", "none", "SHA256withECDSA"])
def test_it_refuses_another_algorithm(paypal: PayPalServer, algorithm: str) -> None:
    cannot_be_true(paypal.sign(BODY) | {"PAYPAL-AUTH-ALGO": algorithm}, "PAYPAL-AUTH-ALGO is not SHA256withRSA")


@pytest.mark.parametrize("given", ["not base64!", "====", "ÿ"])
def test_it_refuses_a_signature_that_is_none(paypal: PayPalServer, given: str) -> None:
    cannot_be_true(paypal.sign(BODY) | {"PAYPAL-TRANSMISSION-SIG": given}, "not base64")


def test_it_refuses_the_signature_of_another_key(paypal: PayPalServer) -> None:
    forged = base64.b64encode(b"\x01" * 256).decode()

    cannot_be_true(paypal.sign(BODY) | {"PAYPAL-TRANSMISSION-SIG": forged}, "not one of this body")
    cannot_be_true(paypal.sign(BODY, key="a thief"), "not one of this body")


@pytest.mark.parametrize("seconds", [-310, 310, -86_400, 86_400])
def test_it_refuses_an_old_time_and_one_to_come(paypal: PayPalServer, seconds: int) -> None:
    cannot_be_true(paypal.sign(BODY, at=shifted(seconds)), "more than 300 seconds")
    assert paypal.asked == []


@pytest.mark.parametrize("time", ["yesterday", "2026-11-25T12:00:00", "1764072000", "9999-99-99T00:00:00Z"])
def test_it_refuses_a_time_that_is_none(paypal: PayPalServer, time: str) -> None:
    cannot_be_true(paypal.sign(BODY, at=time), "no time with a zone")


# The certificate's address ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/CERT-1",  # this desk asks another host
        "http://127.0.0.1:1/v1/notifications/certs/CERT-1",
        "{url}.evil.example/v1/notifications/certs/CERT-1",
        "http://user:password@{host}/v1/notifications/certs/CERT-1",
        "http://{host}@evil.example/v1/notifications/certs/CERT-1",
        "{url}/v1/notifications/certs/../CERT-1",
        "{url}/v1/notifications/certs/a/b",
        "{url}/v1/notifications/certs/%2e%2e",
        "{url}/v1/notifications/certs/",
        "{url}/v1/notifications/certs/CERT-1?to=evil.example",
        "{url}/v1/notifications/certs/CERT-1#fragment",
        "{url}/v2/notifications/certs/CERT-1",
        "file:///v1/notifications/certs/CERT-1",
        "/v1/notifications/certs/CERT-1",
        "https://[/v1/notifications/certs/CERT-1",
        "nonsense",
    ],
)
def test_it_asks_no_host_but_paypals_for_the_certificate(paypal: PayPalServer, url: str) -> None:
    address = url.format(url=paypal.url, host=paypal.url.removeprefix("http://"))

    cannot_be_true(paypal.sign(BODY) | {"PAYPAL-CERT-URL": address}, "not the address of a certificate at PayPal")
    assert paypal.asked == []


@pytest.mark.parametrize(
    ("host", "good", "bad"),
    [
        ("https://api-m.paypal.com", "https://api.paypal.com", "https://api.sandbox.paypal.com"),
        ("https://api-m.paypal.com", "https://api-m.paypal.com:443", "http://api.paypal.com"),
        ("https://api-m.sandbox.paypal.com", "https://api.sandbox.paypal.com", "https://api.paypal.com"),
        ("https://paypal.example:8443", "https://paypal.example:8443", "https://paypal.example"),
        ("https://paypal.example", "https://PAYPAL.example", "http://paypal.example"),
        ("http://localhost:8421", "http://localhost:8421", "https://localhost:8421"),
    ],
)
def test_it_allows_the_hosts_that_go_with_the_api(settings: Settings, host: str, good: str, bad: str) -> None:
    settings.PAYPAL_API_HOST = host

    signature._check_address(f"{good}{CERTIFICATES}CERT-1")
    with pytest.raises(BadSignature):
        signature._check_address(f"{bad}{CERTIFICATES}CERT-1")


def test_it_reads_no_certificate_in_the_clear_from_another_machine(settings: Settings) -> None:
    settings.PAYPAL_API_HOST = "http://paypal.example"

    with pytest.raises(BadSignature):
        signature._check_address(f"http://paypal.example{CERTIFICATES}CERT-1")


# The certificate itself -------------------------------------------------------------------------------


def test_it_refuses_a_certificate_of_an_authority_it_does_not_trust(paypal: PayPalServer) -> None:
    paypal.certificates["FOREIGN"] = below("A foreign authority").issue(new_key(SIGNING_KEY))

    cannot_be_true(paypal.sign(BODY, certificate="FOREIGN"), "The certificate is not PayPal's")


def test_it_refuses_a_chain_with_a_foreign_authority_in_it(paypal: PayPalServer) -> None:
    leaf = below("A foreign authority").issue(new_key(SIGNING_KEY), with_chain=False)
    paypal.certificates["MIXED"] = leaf + below(AUTHORITY).pem + root(AUTHORITY).pem

    cannot_be_true(paypal.sign(BODY, certificate="MIXED"), "The certificate is not PayPal's")


def test_it_refuses_a_certificate_that_brings_its_own_root(paypal: PayPalServer) -> None:
    foreign = "A foreign authority"
    paypal.certificates["OWN"] = below(foreign).issue(new_key(SIGNING_KEY)) + root(foreign).pem

    cannot_be_true(paypal.sign(BODY, certificate="OWN"), "The certificate is not PayPal's")


def test_it_refuses_a_chain_with_a_part_missing(paypal: PayPalServer) -> None:
    paypal.certificates["SHORT"] = below(AUTHORITY).issue(new_key(SIGNING_KEY), with_chain=False)

    cannot_be_true(paypal.sign(BODY, certificate="SHORT"), "The certificate is not PayPal's")


@pytest.mark.parametrize(("since", "until"), [(-2 * DAY, -DAY), (DAY, 2 * DAY)])
def test_it_refuses_a_certificate_before_and_after_its_time(
    paypal: PayPalServer, since: dt.timedelta, until: dt.timedelta
) -> None:
    paypal.certificates["DATED"] = below(AUTHORITY).issue(new_key(SIGNING_KEY), since=since, until=until)

    cannot_be_true(paypal.sign(BODY, certificate="DATED"), "The certificate is not PayPal's")


def test_it_refuses_a_kept_certificate_once_it_has_ended(paypal: PayPalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    verify(paypal.sign(BODY), BODY)
    later = timezone.now() + 2 * DAY
    monkeypatch.setattr(timezone, "now", lambda: later)

    cannot_be_true(paypal.sign(BODY, at=later.isoformat()), "The certificate is not PayPal's")


def test_it_fetches_a_renewed_certificate_at_the_same_address(paypal: PayPalServer) -> None:
    good = paypal.certificates["CERT-1"]
    paypal.certificates["CERT-1"] = below(AUTHORITY).issue(new_key(SIGNING_KEY), since=-2 * DAY, until=-DAY)
    cannot_be_true(paypal.sign(BODY), "The certificate is not PayPal's")
    paypal.certificates["CERT-1"] = good

    verify(paypal.sign(BODY), BODY)


@pytest.mark.parametrize("name", ["paypal.com", "api.paypal.com", "messageverificationcerts.paypal.com.evil.example"])
def test_it_refuses_the_certificate_of_another_name(paypal: PayPalServer, name: str) -> None:
    paypal.certificates["NAMED"] = below(AUTHORITY).issue(new_key(SIGNING_KEY), name=name)

    cannot_be_true(paypal.sign(BODY, certificate="NAMED"), "The certificate is not PayPal's")


def test_it_refuses_the_hosts_own_name_where_the_host_is_paypals(paypal: PayPalServer, settings: Settings) -> None:
    settings.PAYPAL_API_HOST = "https://api-m.paypal.com"

    assert [name.value for name in signature._signers()] == [*signature.SIGNERS]


def test_it_refuses_a_key_of_another_kind(paypal: PayPalServer) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    paypal.certificates["EC"] = below(AUTHORITY).issue(key)

    cannot_be_true(paypal.sign(BODY, certificate="EC"), "The certificate is not PayPal's")


@pytest.mark.parametrize("content", [b"<html>", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_it_refuses_what_is_no_certificate(paypal: PayPalServer, content: bytes) -> None:
    paypal.certificates["NONE"] = content

    cannot_be_true(paypal.sign(BODY, certificate="NONE"), "There is no certificate at PAYPAL-CERT-URL")


def test_it_refuses_a_certificate_that_is_not_there(paypal: PayPalServer) -> None:
    cannot_be_true(paypal.sign(BODY, certificate="GONE"), "There is no certificate at PAYPAL-CERT-URL")


def test_it_reads_no_more_than_a_certificate_may_be_long(paypal: PayPalServer) -> None:
    paypal.certificates["LONG"] = paypal.certificates["CERT-1"] + b"\n" * signature.CERTIFICATE_MAX_BYTES

    cannot_be_true(paypal.sign(BODY, certificate="LONG"), "too large for a certificate")


def test_it_follows_no_redirect(paypal: PayPalServer) -> None:
    paypal.redirects["ELSEWHERE"] = f"{paypal.url}{CERTIFICATES}CERT-1"

    cannot_be_true(paypal.sign(BODY, certificate="ELSEWHERE"), "There is no certificate at PAYPAL-CERT-URL")
    assert paypal.asked == [f"GET {CERTIFICATES}ELSEWHERE"]


def test_it_says_that_paypal_is_away_where_the_certificate_cannot_be_had(
    paypal: PayPalServer, settings: Settings
) -> None:
    headers = paypal.sign(BODY)
    paypal.down = True
    with pytest.raises(ProviderUnreachable):
        verify(headers, BODY)

    settings.PAYPAL_API_HOST = "http://127.0.0.1:9"  # nobody listens there
    with pytest.raises(ProviderUnreachable):
        verify(headers | {"PAYPAL-CERT-URL": f"http://127.0.0.1:9{CERTIFICATES}CERT-1"}, BODY)


def test_it_trusts_what_the_machine_trusts_where_nothing_else_is_said(
    paypal: PayPalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    cannot_be_true(paypal.sign(BODY), "The certificate is not PayPal's")
