"""What a payment says of a buyer who was erased: a provider may tell of the same payment again, weeks later."""

from __future__ import annotations

from typing import Any

from courses.models import PaymentFact, Purchase
from vouchers.tombstones import tombstone_of


def claims_to_keep(fact: PaymentFact) -> dict[str, Any]:
    """The claims of a fact, with the tombstone for an address that was erased from this payment before.

    Under the lock of the payment, which `erase_buyer` takes too.
    """
    claims: dict[str, Any] = fact.claims
    tombstone = tombstone_of(claims["email"]) if claims.get("email") else ""
    return claims | {"email": tombstone} if tombstone and _was_erased(fact, tombstone) else claims


def _was_erased(fact: PaymentFact, tombstone: str) -> bool:
    told = PaymentFact.objects.filter(provider=fact.provider, reference=fact.reference, claims__email=tombstone)
    purchases = Purchase.objects.filter(provider=fact.provider)
    if told.exists() or purchases.filter(reference=fact.reference, email=tombstone).exists():
        return True
    # A payment that is new to us may be that of a checkout, which has a lock of another name: so its row is locked,
    # and either this waits for the erasing to end, or the erasing finds the fact.
    checkout = fact.claims.get("checkout")
    begun = purchases.filter(checkout=checkout).exclude(reference=fact.reference) if checkout else purchases.none()
    return tombstone in begun.select_for_update().values_list("email", flat=True)
