"""Whether everybody was written to, and every email has a fate."""

from __future__ import annotations

import datetime as dt

from django.db.models import Q
from django.db.models.functions import Now

from vouchers.delivery.outbox import BACKOFF, LEASE, queue_email
from vouchers.doctor.check import Check, HealableCheck, Row
from vouchers.doctor.holders import refuse_if_owed_twice
from vouchers.models import Delivery, Issuance
from vouchers.tombstones import TOMBSTONES

OVERDUE = dt.timedelta(hours=1)
# What no wait and no lease explains.
LONGEST_WAIT = max(BACKOFF) + dt.timedelta(hours=1)
LONGEST_LEASE = 2 * LEASE


def _seconds(span: dt.timedelta) -> str:
    return f"interval '{span.total_seconds():.0f} seconds'"


class IssuedIsEmailed(HealableCheck):
    name = "issued_is_emailed"
    title = "Everybody was sent their voucher"
    breaks = f"""
        SELECT i.id AS key, v.id AS voucher, i.course_id AS course
        FROM vouchers_issuance i JOIN vouchers_voucher v ON v.id = i.voucher_id
        WHERE i.status = 'issued' AND v.status = 'issued' AND i.email NOT LIKE '%%{TOMBSTONES}' AND NOT EXISTS (
            SELECT FROM vouchers_delivery d WHERE d.issuance_id = i.id AND d.kind = 'voucher'
        )
    """  # noqa: S608  # made of constants
    sentence = "Voucher {voucher} of {course} was issued (issuance {key}), and there is no email of it."
    advice = "Send it on the page of its issuance."

    def mend(self, row: Row) -> None:
        issuance = Issuance.objects.lock(row["key"])
        if self.has(issuance.pk):
            refuse_if_owed_twice(issuance)
            queue_email(issuance)


class EmailsWithinReach(HealableCheck):
    name = "emails_within_reach"
    title = "No email is put off for longer than any wait"
    breaks = f"""
        SELECT id AS key, status, to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS due
        FROM vouchers_delivery
        WHERE status = 'queued' AND due_at > now() + {_seconds(LONGEST_WAIT)}
            OR status = 'sending' AND due_at > now() + {_seconds(LONGEST_LEASE)}
    """  # noqa: S608  # made of constants
    sentence = "Delivery {key} is {status} and put off until {due} UTC, longer than any wait is."
    advice = "Send the email again."

    def mend(self, row: Row) -> None:
        """Due now. Of one that a sender does have, the record of that sender is void, and the email goes out twice, the
        same both times."""
        queued = Q(status=Delivery.Status.QUEUED, due_at__gt=Now() + LONGEST_WAIT)
        sending = Q(status=Delivery.Status.SENDING, due_at__gt=Now() + LONGEST_LEASE)
        Delivery.objects.filter(queued | sending, pk=row["key"]).update(due_at=Now(), status=Delivery.Status.QUEUED)


class EmailsPickedUp(Check):
    """Nothing to be healed: they are due, and whichever worker comes next sends them."""

    name = "emails_picked_up"
    title = "No email has been due for an hour"
    breaks = f"""
        SELECT id AS key, status, to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS due
        FROM vouchers_delivery WHERE status IN ('queued', 'sending') AND due_at < now() - {_seconds(OVERDUE)}
    """  # noqa: S608  # made of constants
    sentence = "Delivery {key} is {status} and has been due since {due} UTC."
    advice = "Start a worker, or look into the log of the one that runs: any would have sent it."
