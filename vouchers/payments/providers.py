"""The payment providers, by name; which of them a checkout can be started with."""

from __future__ import annotations

from django.utils.translation import gettext

from courses.models import Purchase
from vouchers.errors import ProviderNotReady
from vouchers.payments.orders import Provider
from vouchers.payments.paypal.api import PayPal
from vouchers.payments.stripe.api import Stripe
from vouchers.payments.stripe.demo import Demo

PROVIDERS: tuple[Provider, ...] = (Stripe(), Demo(), PayPal())


def ready_providers() -> list[Provider]:
    return [provider for provider in PROVIDERS if provider.is_ready()]


def find_provider(name: str) -> Provider:
    """The ready provider of this name; the first one for an empty name. Raises `ProviderNotReady`."""
    for provider in ready_providers():
        if name in ("", provider.name):
            return provider
    label = dict(Purchase.Provider.choices).get(name, name)
    by_name = gettext("Payments by %(provider)s are not set up in this shop.") % {"provider": label}
    raise ProviderNotReady(by_name if name else gettext("No payments are set up in this shop."))
