"""What the emails say. A shop changes that by replacing the files in `templates/email/`."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from courses.models import Purchase
from vouchers.models import Delivery, Issuance, Voucher


class Pointless(Exception):
    """This email must not be sent any more; the message says why, as a sentence."""


class OnHold(Exception):
    """This email must not be sent yet; the message says why, as a sentence."""


def message_of(delivery: Delivery) -> EmailMultiAlternatives:
    """The email of a delivery, made of the rows alone, so that a repeat is the same email.

    What it is about is looked up as late as can be. Raises `Pointless` and `OnHold`.
    """
    about = delivery.issuance_id
    context = _about_purchase(delivery) if about is None else _about_voucher(about)
    context |= {
        "email": delivery.email,
        "time_zone": settings.TIME_ZONE,
        "base_url": settings.BASE_URL,
        "shop_name": parseaddr(settings.DEFAULT_FROM_EMAIL)[0],
    }
    # split() knows every kind of line end: a course name with one in it must not become a header.
    subject = " ".join(render_to_string(f"email/{delivery.kind}_subject.txt", context).split())
    message = EmailMultiAlternatives(
        subject=subject,
        body=render_to_string(f"email/{delivery.kind}.txt", context).strip() + "\n",
        to=[delivery.email],
        headers={"Message-ID": delivery.message_id, "Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(render_to_string(f"email/{delivery.kind}.html", context), "text/html")
    message.metadata = {"delivery": str(delivery.pk)}  # type: ignore[attr-defined]  # for django-anymail
    return message


def _about_voucher(issuance_id: int) -> dict[str, Any]:
    issuance = Issuance.objects.select_related("voucher__course", "purchase").get(pk=issuance_id)
    voucher = issuance.voucher
    if issuance.status != Issuance.Status.ISSUED or voucher is None:
        raise Pointless(f"Not sent: the issuance is {issuance.get_status_display().lower()}.")
    if voucher.shown_status != Voucher.Status.ISSUED:
        raise Pointless(f"Not sent: the voucher is {voucher.shown_status}.")
    if voucher.held_since:
        raise OnHold("Not sent yet: the voucher is on hold, its payment is disputed.")
    return {
        "course": voucher.course,
        "voucher": voucher,
        "code": voucher.code,
        "expires_on": voucher.expires_on,
        "checkout_url": settings.BASE_URL + reverse("checkout", args=[voucher.course_id]),
        "status_url": status_url(issuance.purchase) if issuance.purchase else "",
    }


def _about_purchase(delivery: Delivery) -> dict[str, Any]:
    purchase = Purchase.objects.select_related("course").get(deliveries=delivery)
    seats = Issuance.objects.filter(purchase=purchase)
    waiting = seats.filter(status=Issuance.Status.WAITING)
    if delivery.kind == Delivery.Kind.WAITING and not waiting.exists():
        raise Pointless("Not sent: nobody waits any more.")
    return {
        "course": purchase.course,
        "purchase": purchase,
        "waiting": waiting.count(),
        "issued": seats.filter(status=Issuance.Status.ISSUED).count(),
        "status_url": status_url(purchase),
    }


def status_url(purchase: Purchase) -> str:
    """The page that follows a purchase, reachable by nothing but this link."""
    return settings.BASE_URL + reverse("purchase", args=[purchase.token])
