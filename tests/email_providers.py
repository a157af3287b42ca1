"""What email providers post, in the form that they document, and signed as they sign.

An `Account` is one provider with the secrets that it shares with the desk. `tell` makes one event of one email, and
`post` what is sent to the desk for it: body and headers, signed `seconds` from now.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import io
import json
import time
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from tests.certificates import new_key, root
from vouchers.models import Delivery

Tree = dict[str, Any]
AT = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)  # when things happen to emails
LOGIN = "desk:a-long-password"
BASIC = {"Authorization": "Basic " + base64.b64encode(LOGIN.encode()).decode()}


@dataclass(frozen=True)
class Post:
    provider: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def send(self) -> HttpResponse:
        client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        path = f"/webhooks/email/{self.provider}/tracking/"
        return client.post(path, self.body, content_type=self.content_type, headers=self.headers)  # type: ignore[return-value]

    def with_headers(self, **headers: str) -> Post:
        """With some of its headers changed, `_` for `-`; gone where the value is empty."""
        changed = {name.lower(): value for name, value in self.headers.items()}
        changed |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
        return replace(self, headers={name: value for name, value in changed.items() if value})

    def with_body(self, before: str, after: str) -> Post:
        assert before.encode() in self.body
        return replace(self, body=self.body.replace(before.encode(), after.encode()))


class Account(ABC):
    provider: ClassVar[str]
    signs_time: ClassVar[bool] = True
    settings: ClassVar[dict[str, str]]  # for `settings.ANYMAIL`
    kinds: ClassVar[tuple[str, ...]] = (
        *("accepted", "deferred", "delivered", "opened", "clicked"),
        *("bounced", "failed", "complained", "unsubscribed"),
    )

    @abstractmethod
    def tell(self, kind: str, delivery: Delivery, at: dt.datetime = AT, **fields: Any) -> Tree:
        """An event as this provider writes it."""

    @abstractmethod
    def post(self, *events: Tree, seconds: float = 0) -> Post:
        """Events with the provider's proof, made so many seconds ago."""

    @abstractmethod
    def forged(self, *events: Tree) -> Post:
        """The same, by somebody who knows everything but the secret."""


def iso(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Mailgun(Account):
    provider = "mailgun"
    key = "key-of-mailgun-webhooks"
    settings = {"MAILGUN_WEBHOOK_SIGNING_KEY": key}
    words: ClassVar[dict[str, Tree]] = {
        "deferred": {"event": "failed", "severity": "temporary", "reason": "generic"},
        "bounced": {"event": "failed", "severity": "permanent", "reason": "bounce"},
        "failed": {"event": "rejected", "reject": {"reason": "Sandbox subdomains are for test purposes only."}},
    }

    def tell(self, kind: str, delivery: Delivery, at: dt.datetime = AT, **fields: Any) -> Tree:
        return {
            "signature": {"token": fields.pop("token", None) or uuid.uuid4().hex + "a6bd57e5a2"},
            "event-data": {
                "id": "G9Bn5sl1TC6nu79C8C0bwg",
                "timestamp": at.timestamp(),
                "log-level": "info",
                "recipient": delivery.email,
                "message": {"headers": {"to": delivery.email, "message-id": delivery.message_id.strip("<>")}},
                "delivery-status": {"code": 550, "description": "", "message": "5.1.1 No such user", "attempt-no": 1},
                "user-variables": {"delivery": str(delivery.pk)},
                "tags": [],
            }
            | self.words.get(kind, {"event": kind})
            | fields,
        }

    def post(self, *events: Tree, seconds: float = 0, key: str = "") -> Post:
        (event,) = events
        timestamp, token = str(int(time.time() + seconds)), event["signature"]["token"]
        signature = hmac.new((key or self.key).encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
        block = {"timestamp": timestamp, "token": token, "signature": signature}
        return Post(self.provider, json.dumps(event | {"signature": block}).encode())

    def forged(self, *events: Tree) -> Post:
        return self.post(*events, key="another")


class SendGrid(Account):
    provider = "sendgrid"
    key = ec.generate_private_key(ec.SECP256R1())
    settings = {
        "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY": base64.b64encode(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()
    }
    words: ClassVar[dict[str, Tree]] = {
        "accepted": {"event": "processed"},
        "deferred": {"event": "deferred", "response": "451 4.7.1 Try again later", "attempt": "5"},
        "delivered": {"event": "delivered", "response": "250 OK"},
        "opened": {"event": "open", "useragent": "Mozilla/4.0"},
        "clicked": {"event": "click", "url": "https://shop.example/"},
        "bounced": {"event": "bounce", "type": "bounce", "reason": "550 5.1.1 No such user", "status": "5.1.1"},
        "failed": {"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"},
        "complained": {"event": "spamreport"},
        "unsubscribed": {"event": "unsubscribe"},
    }

    def tell(self, kind: str, delivery: Delivery, at: dt.datetime = AT, **fields: Any) -> Tree:
        return (
            {
                "email": delivery.email,
                "timestamp": int(at.timestamp()),
                "smtp-id": delivery.message_id,
                "sg_event_id": base64.urlsafe_b64encode(uuid.uuid4().bytes).decode(),
                "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
                "anymail_id": delivery.provider_id,
                "delivery": str(delivery.pk),
            }
            | self.words[kind]
            | fields
        )

    def post(self, *events: Tree, seconds: float = 0, key: ec.EllipticCurvePrivateKey | None = None) -> Post:
        body, timestamp = json.dumps(events).encode(), str(int(time.time() + seconds))
        signature = (key or self.key).sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        headers = {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        }
        return Post(self.provider, body, headers)

    def forged(self, *events: Tree) -> Post:
        return self.post(*events, key=ec.generate_private_key(ec.SECP256R1()))


class Postmark(Account):
    provider = "postmark"
    signs_time = False
    settings = {"WEBHOOK_SECRET": LOGIN}
    kinds = ("deferred", "delivered", "opened", "clicked", "bounced", "failed", "complained", "unsubscribed")

    def tell(self, kind: str, delivery: Delivery, at: dt.datetime = AT, **fields: Any) -> Tree:
        time, bounce = iso(at), {"ID": uuid.uuid4().int % 10**18, "Email": delivery.email, "BouncedAt": iso(at)}
        bounce |= {"Description": "The server was unable to deliver your message.", "Details": "550 No such user"}
        words: dict[str, Tree] = {
            "deferred": {"RecordType": "Bounce", "Type": "Transient", **bounce},
            "delivered": {"RecordType": "Delivery", "Recipient": delivery.email, "DeliveredAt": time},
            "opened": {"RecordType": "Open", "Recipient": delivery.email, "ReceivedAt": time, "FirstOpen": True},
            "clicked": {"RecordType": "Click", "Recipient": delivery.email, "ReceivedAt": time},
            "bounced": {"RecordType": "Bounce", "Type": "HardBounce", **bounce},
            "failed": {"RecordType": "Bounce", "Type": "ManuallyDeactivated", **bounce},
            "complained": {"RecordType": "SpamComplaint", "Type": "SpamComplaint", **bounce},
            "unsubscribed": {
                "RecordType": "SubscriptionChange",
                "Recipient": delivery.email,
                "SuppressSending": True,
                "SuppressionReason": "ManualSuppression",
                "ChangedAt": time,
            },
        }
        known = {"MessageID": delivery.provider_id, "Metadata": {"delivery": str(delivery.pk)}, "ServerID": 23}
        return known | words[kind] | fields

    def post(self, *events: Tree, seconds: float = 0) -> Post:
        (event,) = events
        return Post(self.provider, json.dumps(event).encode(), BASIC)

    def forged(self, *events: Tree) -> Post:
        wrong = "Basic " + base64.b64encode(b"desk:a-wrong-password").decode()
        return self.post(*events).with_headers(authorization=wrong)


class Resend(Account):
    provider = "resend"
    key = b"a-secret-of-twenty-four"
    settings = {"RESEND_SIGNING_SECRET": "whsec_" + base64.b64encode(key).decode()}
    words: ClassVar[dict[str, str]] = {"accepted": "sent", "deferred": "delivery_delayed"}

    def tell(self, kind: str, delivery: Delivery, at: dt.datetime = AT, **fields: Any) -> Tree:
        data: Tree = {
            "created_at": iso(at),
            "email_id": delivery.provider_id,
            "from": "Shop <shop@example.com>",
            "to": [delivery.email],
            "subject": "Your voucher",
            "headers": [{"name": "X-Metadata", "value": json.dumps({"delivery": str(delivery.pk)})}],
        }
        if kind == "bounced":
            data["bounce"] = {"type": "Permanent", "subType": "General", "message": "550 No such user"}
        return {"type": f"email.{self.words.get(kind, kind)}", "created_at": iso(at), "data": data | fields}

    def post(self, *events: Tree, seconds: float = 0, key: bytes = b"", id: str = "") -> Post:  # noqa: A002
        (event,) = events
        body, timestamp, id_ = json.dumps(event), str(int(time.time() + seconds)), id or f"msg_{uuid.uuid4().hex}"
        digest = hmac.new(key or self.key, f"{id_}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
        signature = "v1," + base64.b64encode(digest).decode()
        headers = {"svix-id": id_, "svix-timestamp": timestamp, "svix-signature": signature}
        return Post(self.provider, body.encode(), headers)

    def forged(self, *events: Tree) -> Post:
        return self.post(*events, key=b"another")


class AmazonSES(Account):
    provider = "amazon_ses"
    settings = {"WEBHOOK_SECRET": LOGIN}
    topic = "arn:aws:sns:eu-west-1:123456789012:emails"
    certificate_url = (
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
    )
    words: ClassVar[dict[str, str]] = {
        "accepted": "Send",
        "deferred": "DeliveryDelay",
        "delivered": "Delivery",
        "opened": "Open",
        "clicked": "Click",
        "bounced": "Bounce",
        "failed": "Reject",
        "complained": "Complaint",
        "unsubscribed": "Subscription",
    }

    def tell(self, kind: str, delivery: Delivery, at: dt.datetime = AT, **fields: Any) -> Tree:
        """A message of SES, which stands in a notification of SNS."""
        to = [{"emailAddress": delivery.email, "status": "5.1.1", "diagnosticCode": "smtp; 550 No such user"}]
        abouts: dict[str, Tree] = {
            "deferred": {"delayType": "MailboxFull", "delayedRecipients": to},
            "delivered": {"recipients": [delivery.email], "smtpResponse": "250 OK"},
            "bounced": {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": to},
            "failed": {"reason": "Bad content"},
            "complained": {"complaintFeedbackType": "abuse", "complainedRecipients": to},
        }
        about = abouts.get(kind, {})
        if kind not in ("accepted", "failed"):
            about |= {"timestamp": iso(at)}
        word = self.words[kind]
        mail = {
            "timestamp": iso(at),
            "messageId": delivery.provider_id,
            "destination": [delivery.email],
            "headers": [{"name": "X-Metadata", "value": json.dumps({"delivery": str(delivery.pk)})}],
        }
        return {"eventType": word, "mail": mail, word[0].lower() + word[1:]: about | fields}

    def post(self, *events: Tree, seconds: float = 0, version: str = "1", signer: str = "SNS") -> Post:
        (event,) = events
        return self.envelope(
            "Notification", seconds=seconds, version=version, signer=signer, Message=json.dumps(event), Subject="SES"
        )

    def confirmation(self, url: str) -> Post:
        return self.envelope("SubscriptionConfirmation", Message="Confirm", SubscribeURL=url, Token="2336412f37fb")

    def envelope(
        self, type_: str, *, seconds: float = 0, version: str = "1", signer: str = "SNS", **fields: str
    ) -> Post:
        at = timezone.now() + dt.timedelta(seconds=seconds)
        signed = {"Type": type_, "MessageId": str(uuid.uuid4()), "TopicArn": self.topic, "Timestamp": iso(at)} | fields
        text = "".join(f"{name}\n{value}\n" for name, value in sorted(signed.items()))
        signature = new_key(signer).sign(text.encode(), PKCS1v15(), SHA1() if version == "1" else SHA256())  # noqa: S303
        envelope = signed | {
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": self.certificate_url,
        }
        headers = {"x-amz-sns-message-type": type_, "x-amz-sns-message-id": signed["MessageId"], **BASIC}
        return Post(self.provider, json.dumps(envelope).encode(), headers, "text/plain; charset=UTF-8")

    def forged(self, *events: Tree) -> Post:
        return self.post(*events, signer="Somebody")


@dataclass
class Amazon:
    """Amazon's hosts, as far as the desk asks them: a certificate, and addresses that confirm a subscription."""

    certificate: bytes = field(default_factory=lambda: root("Amazon").issue(new_key("SNS"), name="sns.amazonaws.com"))
    status: int = 200
    away: bool = False
    asked: list[str] = field(default_factory=list)

    def get(self, url: str, **how: Any) -> requests.Response:
        assert how["timeout"]
        assert how["allow_redirects"] is False
        self.asked.append(url)
        if self.away:
            raise requests.ConnectionError
        answer = requests.Response()
        answer.status_code = self.status
        answer.raw = io.BytesIO(self.certificate if url.endswith(".pem") else b"<ConfirmSubscriptionResponse/>")
        return answer


ACCOUNTS: tuple[Account, ...] = (Mailgun(), SendGrid(), Postmark(), AmazonSES(), Resend())
