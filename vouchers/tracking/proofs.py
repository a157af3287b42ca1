"""Whether a post comes from an email provider, told by the raw body and the provider's own scheme.

A scheme is given the request and the secret of the settings, which is never empty, and raises `BadSignature`.
django-anymail checks most of this too, but not the times, and some of it only where a setting happens to be there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from anymail.utils import get_request_basic_auth
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from standardwebhooks import Webhook, WebhookVerificationError

from vouchers.errors import BadSignature

TOLERANCE = 300  # seconds, either way
WRONG = "The signature is missing, or is not one of this body with the secret of the desk."
Scheme = Callable[[HttpRequest, str], None]


def secret(name: str) -> str:
    """One of `ANYMAIL_…`; empty where it is not set."""
    return str(settings.ANYMAIL.get(name) or "").strip()


def basic_auth(request: HttpRequest, given: str) -> None:
    """`user:password` of the address that was entered at the provider: django-anymail's WEBHOOK_SECRET."""
    if not constant_time_compare(login_of(request), given):
        raise BadSignature("The user and password in the address are missing, or are not ANYMAIL_WEBHOOK_SECRET.")


def mailgun(request: HttpRequest, key: str) -> None:
    """https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks

    Nothing of the body is signed but a time and a token; see `recording.py` for what follows from that.
    """
    block = json_object(request).get("signature")
    if not isinstance(block, dict):
        raise BadSignature(WRONG)
    timestamp, token, signature = (str(block.get(name, "")) for name in ("timestamp", "token", "signature"))
    check_time(timestamp)
    expected = hmac.new(key.encode(), f"{timestamp}{token}".encode(errors="replace"), hashlib.sha256).hexdigest()
    if not token or not same(signature, expected):
        raise BadSignature(WRONG)


def sendgrid(request: HttpRequest, key: str) -> None:
    """https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features"""
    public_key = load_key(key, "ANYMAIL_SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY")
    if not isinstance(public_key, EllipticCurvePublicKey):
        raise BadSignature("ANYMAIL_SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY is no key of an elliptic curve.")
    timestamp = request.headers.get("X-Twilio-Email-Event-Webhook-Timestamp", "")
    check_time(timestamp)
    signature = decoded(request.headers.get("X-Twilio-Email-Event-Webhook-Signature", ""))
    try:
        public_key.verify(signature, timestamp.encode() + request.body, ECDSA(SHA256()))
    except InvalidSignature:
        raise BadSignature(WRONG) from None


def svix(request: HttpRequest, key: str) -> None:
    """https://docs.svix.com/receiving/verifying-payloads/how-manual: Standard Webhooks under older names of headers.

    Its library allows five minutes either way, as we do.
    """
    headers = {f"webhook-{name}": request.headers.get(f"svix-{name}", "") for name in ("id", "timestamp", "signature")}
    try:
        webhook = Webhook(key)
    except (ValueError, RuntimeError):
        raise BadSignature("The signing secret of the settings is none; it begins with whsec_.") from None
    try:
        webhook.verify(request.body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):  # ValueError: not base64, not in pairs, not UTF-8
        raise BadSignature(WRONG) from None


def hmac_in(header: str) -> Scheme:
    """A scheme that signs the body with HMAC-SHA256 in hexadecimal, and no time."""

    def scheme(request: HttpRequest, key: str) -> None:
        expected = hmac.new(key.encode(), request.body, hashlib.sha256).hexdigest()
        if not same(request.headers.get(header, ""), expected):
            raise BadSignature(WRONG)

    return scheme


def mandrill(request: HttpRequest, key: str) -> None:
    """https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/#authenticating-webhook-requests

    The address is signed as it was entered there, with user and password if it has them.
    """
    signed = secret("MANDRILL_WEBHOOK_URL") or address_of(request)
    fields: dict[str, Any] = request.POST.dict()
    signed += "".join(f"{name}{fields[name]}" for name in sorted(fields))
    expected = base64.b64encode(hmac.new(key.encode(), signed.encode(errors="replace"), hashlib.sha1).digest())
    if not same(request.headers.get("X-Mandrill-Signature", ""), expected.decode()):
        raise BadSignature(WRONG)


def postal(request: HttpRequest, key: str) -> None:
    """https://docs.postalserver.io/developer/webhooks"""
    public_key = load_key(key, "ANYMAIL_POSTAL_WEBHOOK_KEY")
    if not isinstance(public_key, RSAPublicKey):
        raise BadSignature("ANYMAIL_POSTAL_WEBHOOK_KEY is no RSA key.")
    try:
        signature = decoded(request.headers.get("X-Postal-Signature", ""))
        public_key.verify(signature, request.body, PKCS1v15(), SHA1())  # noqa: S303  # Postal knows no other
    except InvalidSignature:
        raise BadSignature(WRONG) from None


def unisender_go(request: HttpRequest, key: str) -> None:
    """https://godocs.unisender.ru/web-api-ref#callback-format: the MD5 of the body with the key in the place of it."""
    given = json_object(request).get("auth")
    if not isinstance(given, str) or not re.fullmatch("[0-9a-f]{32}", given):
        raise BadSignature(WRONG)
    body = request.body.replace(given.encode(), key.encode())
    if not same(given, hashlib.md5(body).hexdigest()):  # noqa: S324  # it knows no other
        raise BadSignature(WRONG)


def same(given: str, expected: str) -> bool:
    return constant_time_compare(given.encode(errors="replace"), expected)


def check_time(given: str) -> None:
    """When it was signed, in seconds since 1970."""
    if not re.fullmatch(r"[0-9]{1,12}", given):
        raise BadSignature("The time of the signature is missing.")
    if abs(time.time() - int(given)) > TOLERANCE:
        raise BadSignature(f"It was signed more than {TOLERANCE} seconds from now; check this machine's clock.")


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The body; empty where it is something else."""
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise BadSignature(WRONG) from None


def load_key(key: str, name: str) -> object:
    """A public key as base64 without the lines that PEM has around it."""
    try:
        return load_der_public_key(base64.b64decode(key))
    except (ValueError, UnsupportedAlgorithm):
        raise BadSignature(f"{name} is no public key.") from None


def login_of(request: HttpRequest) -> str:
    return get_request_basic_auth(request) or ""  # type: ignore[no-untyped-call]


def address_of(request: HttpRequest) -> str:
    """The webhook's address by `BASE_URL`, for what a proxy makes of it is nobody's business but ours."""
    base = urlsplit(settings.BASE_URL)
    login = login_of(request)
    return f"{base.scheme}://{f'{login}@' if login else ''}{base.netloc}{base.path}{request.path}"
