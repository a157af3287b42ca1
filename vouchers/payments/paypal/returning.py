"""The buyer comes back from PayPal: what they approved is captured, and what PayPal then says is recorded."""

from __future__ import annotations

from courses.models import Purchase
from vouchers.payments import settling
from vouchers.payments.paypal.api import PayPal, own_account
from vouchers.payments.paypal.events import facts_of_order

SOURCE = "return page"


def capture_returning(purchase: Purchase) -> None:
    """Captures and settles a checkout of ours; coming back again changes nothing.

    Where the buyer has not approved it, or PayPal declined, nothing is recorded. No transaction may be open.
    Raises `ProviderUnreachable`.
    """
    if facts := facts_of_order(PayPal().capture(purchase.checkout), SOURCE, own_account):
        settling.record(facts)
