"""django-anymail's readers of what providers tell, corrected where they would mislead or do not know a word."""

from __future__ import annotations

from typing import Any

from anymail.signals import AnymailTrackingEvent, EventType, RejectReason
from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView
from anymail.webhooks.mailersend import MailerSendTrackingWebhookView
from anymail.webhooks.postmark import PostmarkTrackingWebhookView
from anymail.webhooks.resend import ResendTrackingWebhookView
from django.utils.dateparse import parse_datetime


class Postmark(PostmarkTrackingWebhookView):
    event_types = {
        **PostmarkTrackingWebhookView.event_types,
        # Not the buyer but the mail server took it for spam, so the buyer has not got it.
        "SpamNotification": (EventType.BOUNCED, RejectReason.SPAM),
        # A bounce of an unknown sort is a bounce all the same.
        "Unknown": (EventType.BOUNCED, RejectReason.OTHER),
    }


class Resend(ResendTrackingWebhookView):
    event_types = {
        **ResendTrackingWebhookView.event_types,
        "email.failed": EventType.FAILED,
        "email.suppressed": EventType.REJECTED,
    }


class MailerSend(MailerSendTrackingWebhookView):
    event_types = {**MailerSendTrackingWebhookView.event_types, "deferred": EventType.DEFERRED}


class AmazonSES(AmazonSESTrackingWebhookView):
    """With the time of what happened rather than of the message about it, and with delays.

    A transient bounce is a bounce here: SES tells of it when it has given up.
    """

    def esp_to_anymail_events(self, ses_event: dict[str, Any], sns_message: Any) -> list[AnymailTrackingEvent]:
        events: list[AnymailTrackingEvent] = super().esp_to_anymail_events(ses_event, sns_message)  # type: ignore[no-untyped-call]
        word = ses_event.get("eventType") or ses_event.get("notificationType") or ""
        about = ses_event.get(word[:1].lower() + word[1:]) or {}
        for event in events:
            event.timestamp = parse_datetime(about.get("timestamp", "")) or event.timestamp
            if word == "DeliveryDelay":
                event.event_type, event.description = EventType.DEFERRED, about.get("delayType")
                event.mta_response = about["delayedRecipients"][0].get("diagnosticCode")
        return events
