"""An email backend for a desk that has no way of sending yet: mail is kept, and the admin shows it."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend

from vouchers.models import KeptEmail


class KeptEmailBackend(BaseEmailBackend):
    """Stores what other backends send; one row for each recipient."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            KeptEmail.objects.bulk_create(_rows(message))
        return len(email_messages)


def _rows(message: EmailMessage) -> list[KeptEmail]:
    message_id = message.message()["Message-ID"]  # refuses a header of several lines, as sending does
    alternatives = message.alternatives if isinstance(message, EmailMultiAlternatives) else []
    html = next((str(content) for content, mimetype in alternatives if mimetype == "text/html"), "")
    return [
        KeptEmail(
            message_id=str(message_id)[:255],
            to=recipient[:254],
            subject=str(message.subject)[:998],
            text=str(message.body),
            html=html,
        )
        for recipient in message.recipients()
    ]
