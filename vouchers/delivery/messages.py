"""What the emails say. A shop changes that by replacing the files in `templates/email/`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from email.policy import Compat32
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import OuterRef, Subquery
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


class QuickPolicy(Compat32):
    """Writes what the policy of Django's messages writes. But it takes no header apart that fits into its line, which
    is half of what it costs to write a message down."""

    def fold_binary(self, name: str, value: str) -> bytes:
        fits = len(f"{name}: {value}") <= (self.max_line_length or 0)
        if fits and value.isascii() and value.isprintable():
            return f"{name}: {value}{self.linesep}".encode("ascii")
        return super().fold_binary(name, value)


class DeliveryMessage(EmailMultiAlternatives):
    """The email of a delivery, written down at a third of the usual cost."""

    metadata: dict[str, str]  # which django-anymail hands to the provider

    def message(self, **options: Any) -> Any:
        message = super().message(**options)
        message.policy = QUICK
        # Where none is set, one is made up, and searched for in the text, by a pattern compiled for it alone.
        message.set_boundary(f"=_{self.metadata['delivery']}")
        return message


QUICK = QuickPolicy()


def look_up(deliveries: Sequence[Delivery]) -> dict[int, Issuance]:
    """The issuances that they are about, by their keys, with all that an email says of them; in one statement."""
    last = Replacement.objects.filter(issuance=OuterRef("pk")).order_by("-replaced_at").values("replaced_at")[:1]
    issuances = Issuance.objects.select_related("voucher__course", "purchase").annotate(replaced_at=Subquery(last))
    return issuances.in_bulk({delivery.issuance_id for delivery in deliveries if delivery.issuance_id is not None})


def message_of(delivery: Delivery) -> EmailMultiAlternatives:
    """The email of a delivery as it is to be now. Raises `Pointless` and `OnHold`."""
    return compose(delivery, look_up([delivery]))


def compose(delivery: Delivery, issuances: Mapping[int, Issuance]) -> EmailMultiAlternatives:
    """The email of a delivery, made of the rows alone, so that a repeat is the same email; with what `look_up` found.

    Raises `Pointless` and `OnHold`.
    """
    if is_tombstone(delivery.email):
        raise Pointless("Not sent: the address was erased.")
    context = _about(delivery, issuances)
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
    message = DeliveryMessage(
        subject=subject,
        body=render_to_string(f"email/{delivery.kind}.txt", context).strip() + "\n",
        to=[delivery.email],
        headers={"Message-ID": delivery.message_id, "Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(render_to_string(f"email/{delivery.kind}.html", context), "text/html")
    message.metadata = {"delivery": str(delivery.pk)}
    return message


def _about(delivery: Delivery, issuances: Mapping[int, Issuance]) -> dict[str, Any]:
    """What the templates of its kind need."""
    if delivery.issuance_id is not None:
        return _about_voucher(delivery, issuances[delivery.issuance_id])
    if delivery.purchase_id is not None:
        return _about_purchase(delivery)
    return _about_course(delivery)


def _about_voucher(delivery: Delivery, issuance: Issuance) -> dict[str, Any]:
    voucher = issuance.voucher
    replaced_at: dt.datetime | None = issuance.replaced_at  # type: ignore[attr-defined]  # annotated
    if issuance.status != Issuance.Status.ISSUED or voucher is None:
        raise Pointless(f"Not sent: the issuance is {issuance.get_status_display().lower()}.")
    if replaced_at and replaced_at > delivery.created_at:
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
