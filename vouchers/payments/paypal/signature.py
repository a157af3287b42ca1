"""Whether a webhook comes from PayPal, told without asking PayPal: by its signature, its certificate and the time.

https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod. What is signed holds only a CRC32 of
the body, and a body with any CRC32 can be made. So a good signature says that PayPal has something to tell, and never
what: that is fetched (`webhook.py`).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ipaddress
import os
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

import certifi
import requests
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.verification import PolicyBuilder, Store, Subject, VerificationError
from django.conf import settings
from django.utils import timezone

from vouchers.errors import BadSignature, ProviderUnreachable
from vouchers.payments.paypal.client import NAME, SECONDS
from vouchers.payments.paypal.events import LIVE_HOST, SANDBOX_HOST

TOLERANCE = dt.timedelta(seconds=300)
ALGORITHM = "SHA256withRSA"
CERTIFICATE_PATH = re.compile(r"/v1/notifications/certs/[A-Za-z0-9._-]{1,200}")
CERTIFICATE_MAX_BYTES = 64 * 1024
CERTIFICATE_HOSTS = {
    LIVE_HOST: frozenset({"https://api.paypal.com", LIVE_HOST}),
    SANDBOX_HOST: frozenset({"https://api.sandbox.paypal.com", SANDBOX_HOST}),
}
SIGNERS = ("messageverificationcerts.paypal.com", "messageverificationcerts.sandbox.paypal.com")


def verify(headers: Mapping[str, str], body: bytes) -> None:
    """Raises `BadSignature`, which says what is wrong, or `ProviderUnreachable` where the certificate cannot be had."""
    if not settings.PAYPAL_WEBHOOK_ID:
        raise BadSignature("PAYPAL_WEBHOOK_ID is not set, so no webhook of PayPal can be checked.")
    sent_id, sent_at = _header(headers, "PAYPAL-TRANSMISSION-ID"), _header(headers, "PAYPAL-TRANSMISSION-TIME")
    signature = _decoded(_header(headers, "PAYPAL-TRANSMISSION-SIG"))
    url = _header(headers, "PAYPAL-CERT-URL")
    if _header(headers, "PAYPAL-AUTH-ALGO") != ALGORITHM:
        raise BadSignature(f"PAYPAL-AUTH-ALGO is not {ALGORITHM}.")
    # All that can be told without the network comes first: anybody may call this.
    _check_time(sent_at)
    _check_address(url)
    message = f"{sent_id}|{sent_at}|{settings.PAYPAL_WEBHOOK_ID}|{zlib.crc32(body)}"
    try:
        _trusted_key(url).verify(signature, message.encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        raise BadSignature("The signature is not one of this body for this webhook (PAYPAL_WEBHOOK_ID).") from None


def _header(headers: Mapping[str, str], name: str) -> str:
    if value := headers.get(name):
        return value
    raise BadSignature(f"The header {name} is missing.")


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise BadSignature("PAYPAL-TRANSMISSION-SIG is not base64.") from None


def _check_time(sent_at: str) -> None:
    try:
        time = dt.datetime.fromisoformat(sent_at)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadSignature("PAYPAL-TRANSMISSION-TIME is no time with a zone.")
    if abs(timezone.now() - time) > TOLERANCE:
        raise BadSignature("It was sent more than 300 seconds from now; check this machine's clock.")


# The certificate --------------------------------------------------------------------------------------


def _check_address(url: str) -> None:
    """Whoever chooses the address chooses the key, so only PayPal's own hosts will do."""
    fault = BadSignature("PAYPAL-CERT-URL is not the address of a certificate at PayPal.")
    try:
        parts = urlsplit(url)
        if parts.query or parts.fragment or not CERTIFICATE_PATH.fullmatch(parts.path):
            raise fault
        if _origin(parts) not in _allowed_origins() or not _may_be_read(parts):
            raise fault
    except ValueError:  # no port, or a bracket too many
        raise fault from None


def _origin(parts: SplitResult) -> str:
    """Scheme, host and port, with user and password still in it, so that an address with them is none we allow."""
    return f"{parts.scheme}://{parts.netloc.lower()}".removesuffix(":443" if parts.scheme == "https" else ":80")


def _allowed_origins() -> frozenset[str]:
    host = settings.PAYPAL_API_HOST
    return CERTIFICATE_HOSTS.get(host) or frozenset({_origin(urlsplit(host))})


def _may_be_read(parts: SplitResult) -> bool:
    """In the clear only from this machine itself."""
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trusted_key(url: str) -> RSAPublicKey:
    """The key of PayPal's certificate, checked anew each time: it may have ended since it was fetched."""
    leaf, *others = _chain(url)
    for signer in _signers():
        verifier = PolicyBuilder().store(_roots()).time(timezone.now()).build_server_verifier(signer)
        try:
            verifier.verify(leaf, others)
        except VerificationError:
            continue
        key = leaf.public_key()
        if isinstance(key, RSAPublicKey):
            return key
    fetched.cache_clear()  # it may have been renewed at the same address
    raise BadSignature("The certificate is not PayPal's: its name, its dates or its issuer is wrong.")


def _signers() -> list[Subject]:
    """The names of which one must be in the certificate. A host that is not PayPal's may have one of its own."""
    names: list[Subject] = [x509.DNSName(name) for name in SIGNERS]
    host = urlsplit(settings.PAYPAL_API_HOST).hostname or ""
    if settings.PAYPAL_API_HOST not in CERTIFICATE_HOSTS:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _chain(url: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(fetched(url))
    except ValueError:
        fetched.cache_clear()
        raise BadSignature("There is no certificate at PAYPAL-CERT-URL.") from None


@lru_cache(maxsize=8)
def fetched(url: str) -> bytes:
    """A certificate and those above it, as PEM; kept, for PayPal uses the same one for years."""
    try:
        with requests.get(url, timeout=SECONDS, allow_redirects=False, stream=True) as answer:
            if answer.status_code in (401, 429) or answer.status_code >= 500:
                raise ProviderUnreachable(NAME)
            if answer.status_code != 200:
                raise BadSignature("There is no certificate at PAYPAL-CERT-URL.")
            found = b"".join(_at_most(answer))
    except requests.RequestException:
        raise ProviderUnreachable(NAME) from None
    return found


def _at_most(answer: requests.Response) -> list[bytes]:
    chunks: list[bytes] = []
    for chunk in answer.iter_content(8192):
        chunks.append(chunk)
        if sum(map(len, chunks)) > CERTIFICATE_MAX_BYTES:
            raise BadSignature("What is at PAYPAL-CERT-URL is too large for a certificate.")
    return chunks


def _roots() -> Store:
    """Whom this machine trusts: `SSL_CERT_FILE` where it is set, as for OpenSSL, else what certifi ships."""
    path = os.environ.get("SSL_CERT_FILE") or certifi.where()
    return _store(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=2)
def _store(path: str, changed: int) -> Store:
    with open(path, "rb") as file:
        return Store(x509.load_pem_x509_certificates(file.read()))
