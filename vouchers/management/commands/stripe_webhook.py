"""python manage.py stripe_webhook"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from vouchers.management.base import DeskCommand
from vouchers.payments.stripe.endpoint import address_of, endpoint_of_secret
from vouchers.payments.stripe.events import CONCERNS


class Command(DeskCommand):
    help = "Makes the endpoint that STRIPE_WEBHOOK_SECRET belongs to if there is none; its URL is the last line."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.STRIPE_WEBHOOK_SECRET:
            raise CommandError(
                "STRIPE_WEBHOOK_SECRET is not set, and without a secret no event can be verified. Set it to the "
                "signing secret (whsec_…) that Stripe shows for the endpoint: docs/stripe.md."
            )
        endpoint = endpoint_of_secret(settings.STRIPE_WEBHOOK_SECRET)
        self.stdout.write("Send these events of Stripe to the address below:")
        self.stdout.write("".join(f"  {name}\n" for name in CONCERNS))
        self.stdout.write(settings.BASE_URL + address_of(endpoint))
