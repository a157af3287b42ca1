"""What the emails say. A shop changes that by replacing the files in `templates/email/`."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import Exists, OuterRef
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation

from courses.models import Purchase
from vouchers.delivery.alerts import news_for_staff
from vouchers.models import Delivery, Issuance, Replacement, Voucher
from vouchers.revealing import reveal_url
from vouchers.tombstones import is_tombstone


class Pointless(Exception):
    """This email must not be sent any more; the message says why, as a sentence."""


class OnHold(Exception):
    """This email must not be sent yet; the message says why, as a sentence."""


def message_of(delivery: Delivery) -> EmailMultiAlternatives:
    """The email of a delivery, made of the rows alone, so that a repeat is the same email.

    What it is about is looked up as late as can be. Raises `Pointless` and `OnHold`.
    """
    if is_tombstone(delivery.email):
        raise Pointless("Not sent: the address was erased.")
    context = _about(delivery)
    with translation.override(delivery.language or settings.SHOP_LANGUAGE):
        return _message(delivery, context)


def _message(delivery: Delivery, context: dict[str, Any]) -> EmailMultiAlternatives:
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


def _about(delivery: Delivery) -> dict[str, Any]:
    """What the templates of its kind need."""
    if delivery.issuance_id is not None:
        return _about_voucher(delivery, delivery.issuance_id)
    if delivery.purchase_id is not None:
        return _about_purchase(delivery)
    return _about_course(delivery)


def _about_voucher(delivery: Delivery, issuance_id: int) -> dict[str, Any]:
    replaced = Replacement.objects.filter(issuance=OuterRef("pk"), replaced_at__gt=delivery.created_at)
    issuances = Issuance.objects.select_related("voucher__course", "purchase").annotate(is_replaced=Exists(replaced))
    issuance = issuances.get(pk=issuance_id)
    voucher = issuance.voucher
    if issuance.status != Issuance.Status.ISSUED or voucher is None:
        raise Pointless(f"Not sent: the issuance is {issuance.get_status_display().lower()}.")
    if issuance.is_replaced:  # type: ignore[attr-defined]  # annotated
        raise Pointless("Not sent: the code was replaced.")  # or its Message-ID would stand over two codes
    if delivery.email != issuance.email:
        raise Pointless("Not sent: the address was corrected.")
    if voucher.shown_status != Voucher.Status.ISSUED:
        raise Pointless(f"Not sent: the voucher is {voucher.shown_status}.")
    if voucher.held_since:
        raise OnHold("Not sent yet: the voucher is on hold, its payment is disputed.")
    return {
        "course": voucher.course,
        "voucher": voucher,
        "code": voucher.code if delivery.carries_code else "",
        "reveal_url": "" if delivery.carries_code else settings.BASE_URL + reveal_url(issuance),
        "expires_on": voucher.expires_on,
        "checkout_url": settings.BASE_URL + reverse("checkout", args=[voucher.course_id]),
        "status_url": status_url(issuance.purchase) if issuance.purchase else "",
    }


def _about_purchase(delivery: Delivery) -> dict[str, Any]:
    purchase = Purchase.objects.select_related("course").get(deliveries=delivery)
    seats = Issuance.objects.filter(purchase=purchase)
    waiting = seats.filter(status=Issuance.Status.WAITING)
    if delivery.kind == Delivery.Kind.WAITING and not waiting.filter(email__iexact=delivery.email).exists():
        raise Pointless("Not sent: nobody waits there any more.")
    return {
        "course": purchase.course,
        "purchase": purchase,
        "waiting": waiting.count(),
        "issued": seats.filter(status=Issuance.Status.ISSUED).count(),
        "status_url": status_url(purchase),
    }


def _about_course(delivery: Delivery) -> dict[str, Any]:
    news = news_for_staff(delivery)
    if not news["undelivered"]:
        raise Pointless("Not sent: nothing is undelivered any more.")
    return news


def status_url(purchase: Purchase) -> str:
    """The page that follows a purchase, reachable by nothing but this link."""
    return settings.BASE_URL + reverse("purchase", args=[purchase.token])
