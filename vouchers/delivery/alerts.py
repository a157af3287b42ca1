"""Staff are told of emails that did not arrive: at once of the first of a course, then once a day of all since.

An alert is an email of the outbox like every other, so that it survives what the others survive.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.urls import reverse

from courses.models import Course
from vouchers.delivery.outbox import new_message_id
from vouchers.locks import try_lock_name
from vouchers.models import Delivery

EVERY = dt.timedelta(days=1)
LISTED = 50
# Needless by the time it was to be sent, so nobody was told of anything by it.
WITHDRAWN = Q(status=Delivery.Status.FAILED, attempts=0)


@transaction.atomic
def alert_staff() -> int:
    """Queues what staff are to be told now; returns of how many courses. Several of these at once do it once."""
    if not try_lock_name("alerts"):
        return 0
    news = Delivery.objects.undelivered().filter(Q(alerted_at=None) | ~Exists(_alerts_of_it()))
    courses = {course for pair in news.values_list("issuance__course", "purchase__course") for course in pair if course}
    told_lately = Delivery.objects.filter(
        kind=Delivery.Kind.ALERT, course__in=courses, created_at__gt=Now() - EVERY
    ).exclude(WITHDRAWN)
    due = sorted(courses - {*told_lately.values_list("course_id", flat=True)})
    recipients = staff_emails() if due else []
    if not recipients:
        return 0
    for course in due:
        _queue(course, recipients)
        Delivery.objects.filter(pk__in=news.of_course(course).values("pk")).update(alerted_at=Now())
    return len(due)


def _alerts_of_it() -> QuerySet[Delivery]:
    """The alerts that told of an undelivered email, but for those that did not arrive themselves: what they told of is
    told again the next day. Alerts are made in the transaction that writes `alerted_at`."""
    course = Q(course=OuterRef("issuance__course")) | Q(course=OuterRef("purchase__course"))
    alerts = Delivery.objects.filter(course, kind=Delivery.Kind.ALERT, created_at__gte=OuterRef("alerted_at"))
    return alerts.exclude(status=Delivery.Status.FAILED)


def staff_emails() -> list[str]:
    """`ALERT_EMAILS`; where that is not set, whoever of staff has an email and may see the deliveries."""
    if settings.ALERT_EMAILS:
        return sorted({*settings.ALERT_EMAILS})
    may_see = Permission.objects.filter(codename="view_delivery", content_type__app_label="vouchers")
    users = get_user_model().objects.filter(is_active=True, is_staff=True).exclude(email="")
    permitted = Q(is_superuser=True) | Q(user_permissions__in=may_see) | Q(groups__permissions__in=may_see)
    return sorted({user.email for user in users.filter(permitted)})


def _queue(course: str, recipients: Iterable[str]) -> None:
    earlier = Delivery.objects.filter(kind=Delivery.Kind.ALERT, course=course)
    series = (earlier.aggregate(last=Max("series"))["last"] or 0) + 1
    Delivery.objects.bulk_create(
        Delivery(
            kind=Delivery.Kind.ALERT,
            course_id=course,
            series=series,
            email=recipient,
            message_id=new_message_id(),
            language=settings.LANGUAGE_CODE,  # as the admin
        )
        for recipient in recipients
    )


def news_for_staff(alert: Delivery) -> dict[str, Any]:
    """What the email says: what is undelivered in its course as it is sent, the newest first."""
    course = Course.objects.get(pk=alert.course_id)
    undelivered = Delivery.objects.undelivered().of_course(course)
    return {
        "course": course,
        "number": undelivered.count(),
        "undelivered": list(undelivered.order_by("-id")[:LISTED]),
        "list_url": settings.BASE_URL + reverse("admin:vouchers_delivery_changelist") + f"?trouble={course.pk}",
    }
