"""What the emails say. A shop changes that by replacing the files in `templates/email/`."""

from __future__ import annotations

from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from vouchers.models import Delivery, Voucher


def voucher_message(delivery: Delivery, voucher: Voucher) -> EmailMultiAlternatives:
    """The email of a delivery. Made of the row alone, so that a repeat is the same email."""
    context = {
        "course": voucher.course,
        "voucher": voucher,
        "code": voucher.code,
        "email": delivery.email,
        "expires_on": voucher.expires_on,
        "time_zone": settings.TIME_ZONE,
        "base_url": settings.BASE_URL,
        "shop_name": parseaddr(settings.DEFAULT_FROM_EMAIL)[0],
    }
    # split() knows every kind of line end: a course name with one in it must not become a header.
    subject = " ".join(render_to_string("email/voucher_subject.txt", context).split())
    message = EmailMultiAlternatives(
        subject=subject,
        body=render_to_string("email/voucher.txt", context).strip() + "\n",
        to=[delivery.email],
        headers={"Message-ID": delivery.message_id, "Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(render_to_string("email/voucher.html", context), "text/html")
    message.metadata = {"delivery": str(delivery.pk)}  # type: ignore[attr-defined]  # for django-anymail
    return message
