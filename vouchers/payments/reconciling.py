"""Asks the providers what happened lately, and fills in what a lost webhook never told us."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, field

from django.db.models import Q
from django.utils import timezone

from courses.models import PaymentFact
from vouchers.errors import ProviderRefused, ProviderUnreachable
from vouchers.payments.providers import ready_providers
from vouchers.payments.settling import record

logger = logging.getLogger(__name__)

LOOK_BACK = dt.timedelta(days=3)  # longer than providers try a webhook again


@dataclass
class Reconciled:
    """`looked_at` payments; `filled_in` facts that were new to us; why a provider could not be asked."""

    looked_at: int = 0
    filled_in: int = 0
    problems: list[str] = field(default_factory=list)


def reconcile(since: dt.datetime | None = None) -> Reconciled:
    """Looks at all payments since then (three days). A provider that is away does not keep the others from it."""
    result = Reconciled()
    for provider in ready_providers():
        try:
            for facts in provider.missed(since or timezone.now() - LOOK_BACK):
                result.looked_at += 1
                result.filled_in += _fill_in(facts)
        except (ProviderUnreachable, ProviderRefused) as error:
            result.problems.append(error.message)
    if result.filled_in:
        logger.warning("Webhooks were missed", extra={"event": {"facts": result.filled_in}})
    return result


def _fill_in(facts: list[PaymentFact]) -> int:
    new = [fact for fact in facts if not _is_known(fact)]
    if new:
        record(new)
    return len(new)


def _is_known(fact: PaymentFact) -> bool:
    same = Q(provider=fact.provider, kind=fact.kind, key=fact.key, amount__gte=fact.amount)
    return PaymentFact.objects.filter(same).exists()
