"""Amazon SNS, by which Amazon SES tells of emails: its signature, and the address by which a subscription is confirmed.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. The signature only says that Amazon
sent it, and anybody may have Amazon send something here; user and password of the address say that we asked for it.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import requests
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from vouchers.errors import BadSignature, ProviderUnreachable
from vouchers.tracking.proofs import WRONG, decoded, json_object, secret

logger = logging.getLogger(__name__)

NAME = "Amazon SNS"
SECONDS = 10
# Whoever chooses an address chooses the key, and what we ask for, so only Amazon's own will do: hosts of a region.
# Whose bucket is named `sns` has a host of its own at amazonaws.com, too.
AMAZON = r"https://sns\.[a-z]{2}(-[a-z]+)+-\d+\.amazonaws\.com(\.cn)?"
CERTIFICATE = re.compile(AMAZON + r"/SimpleNotificationService-[A-Za-z0-9]{1,64}\.pem")
SUBSCRIPTION = re.compile(AMAZON + r"/\?([!-~]+&)?Action=ConfirmSubscription(&[!-~]+)?")
CHUNK, CHUNKS = 8192, 8  # no certificate is larger
HASHES: dict[str, type[HashAlgorithm]] = {"1": SHA1, "2": SHA256}
NOTIFICATION, CONFIRMATION = "Notification", "SubscriptionConfirmation"
SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
# SNS signs a message once, when it is published, and offers that very post again for an hour. What comes twice has
# no second effect, for the id of the message is the key of its event.
EARLIEST, LATEST = -dt.timedelta(hours=1, seconds=300), dt.timedelta(seconds=300)


def verify(request: HttpRequest, _basic_auth: str) -> None:
    """Raises `BadSignature`, or `ProviderUnreachable` where the certificate cannot be had."""
    message = json_object(request)
    algorithm = HASHES.get(str(message.get("SignatureVersion")))
    if message.get("Type") not in SIGNED or algorithm is None:
        raise BadSignature("It is no message of Amazon SNS; turn raw message delivery off.")
    # All that can be told without the network comes first: anybody may call this.
    _check_time(message.get("Timestamp"))
    signature = decoded(str(message.get("Signature", "")))
    url = str(message.get("SigningCertURL", ""))
    if not CERTIFICATE.fullmatch(url):
        raise BadSignature("SigningCertURL is not the address of a certificate of Amazon SNS.")
    try:
        _key(url).verify(signature, signed_text(message), PKCS1v15(), algorithm())
    except InvalidSignature:
        raise BadSignature(WRONG) from None


def signed_text(message: Mapping[str, Any]) -> bytes:
    names = [name for name in SIGNED[message["Type"]] if message.get(name) is not None]
    return "".join(f"{name}\n{message[name]}\n" for name in names).encode(errors="replace")


def settle_subscription(message: Mapping[str, Any]) -> None:
    """Confirms a proved wish of SNS to tell us of emails, by the address that it came with.

    Raises `BadSignature` where that address is not Amazon's, and `ProviderUnreachable`.
    """
    event = {"topic": str(message.get("TopicArn"))}
    if message["Type"] != CONFIRMATION:
        logger.warning("A subscription of Amazon SNS has ended", extra={"event": event})
        return
    if secret("AMAZON_SES_AUTO_CONFIRM_SNS_SUBSCRIPTIONS").lower() in {"false", "no", "off", "0"}:
        logger.warning("A subscription of Amazon SNS waits to be confirmed in its console", extra={"event": event})
        return
    url = str(message.get("SubscribeURL", ""))
    if not SUBSCRIPTION.fullmatch(url):
        raise BadSignature("SubscribeURL is not the address of a subscription at Amazon SNS.")
    _get(url)
    logger.warning("A subscription of Amazon SNS was confirmed", extra={"event": event})


def _check_time(given: object) -> None:
    at = parse_datetime(given) if isinstance(given, str) else None
    if at is None or at.tzinfo is None:
        raise BadSignature("The message has no time.")
    if not EARLIEST <= at - timezone.now() <= LATEST:
        raise BadSignature("The message is too old or of the future; check this machine's clock.")


def _key(url: str) -> RSAPublicKey:
    """Amazon serves no chain with its certificate, so that it is Amazon's is told by the host and its TLS."""
    try:
        certificate = x509.load_pem_x509_certificate(fetched(url))
    except ValueError:
        fetched.cache_clear()
        raise BadSignature("There is no certificate at SigningCertURL.") from None
    if not certificate.not_valid_before_utc <= timezone.now() <= certificate.not_valid_after_utc:
        fetched.cache_clear()  # it may have been renewed at the same address
        raise BadSignature("The certificate at SigningCertURL has ended, or has not begun.")
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise BadSignature("The certificate at SigningCertURL is not one that SNS signs with.")
    return key


@lru_cache(maxsize=8)
def fetched(url: str) -> bytes:
    """A certificate as PEM; kept, for SNS uses the same one for a year."""
    return _get(url)


def _get(url: str) -> bytes:
    """Raises `ProviderUnreachable` where trying again may help, else `BadSignature`."""
    try:
        with requests.get(url, timeout=SECONDS, allow_redirects=False, stream=True) as answer:
            if answer.status_code == 429 or answer.status_code >= 500:
                raise ProviderUnreachable(NAME)
            if answer.status_code != 200:
                raise BadSignature("Amazon SNS does not know an address in this message.")
            return b"".join(islice(answer.iter_content(CHUNK), CHUNKS))
    except requests.RequestException:
        raise ProviderUnreachable(NAME) from None
