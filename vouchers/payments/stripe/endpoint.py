"""The rows by which dj-stripe knows our webhook endpoints. Made here without asking Stripe for anything."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from djstripe.models import Account, APIKey, WebhookEndpoint

from vouchers.payments.stripe.events import CONCERNS

OWN_ACCOUNT = "acct_desk"  # until dj-stripe has asked Stripe for its real name
DEMO = "we_desk_demo"
VERIFIED = "verify_signature"


@transaction.atomic
def endpoint_of_secret(secret: str) -> WebhookEndpoint:
    """The endpoint whose events are signed with this secret; made if there is none."""
    known = WebhookEndpoint.objects.filter(secret=secret).first()
    live = settings.STRIPE_LIVE_MODE if settings.STRIPE_SECRET_KEY else None
    return known or _make(f"we_desk_{secrets.token_hex(8)}", secret, live)


@transaction.atomic
def demo_endpoint() -> WebhookEndpoint:
    """The endpoint of the test payment, with a secret that nobody outside of this database knows."""
    known = WebhookEndpoint.objects.filter(id=DEMO).first()
    return known or _make(DEMO, f"whsec_{secrets.token_urlsafe(32)}", live=False)


def own_account() -> Account:
    """The account to which the shop is paid."""
    key = APIKey.objects.filter(secret=settings.STRIPE_SECRET_KEY).exclude(djstripe_owner_account=None).first()
    if key and settings.STRIPE_SECRET_KEY:
        return key.djstripe_owner_account
    return Account.objects.get_or_create(id=OWN_ACCOUNT)[0]


def is_own_account(account: str) -> bool:
    """Whether an account that an event names, or does not name, is the one the shop is paid to."""
    return account in ("", OWN_ACCOUNT) or account == own_account().id


def make_known(endpoint: WebhookEndpoint, account: str) -> None:
    """Sees to it that dj-stripe has the rows it wants, or it would ask Stripe for them while an event is handled, and
    answer 500 where Stripe is away. `account` is the connected account an event names, if any."""
    owner = endpoint.djstripe_owner_account
    if owner is None:
        owner = endpoint.djstripe_owner_account = own_account()
        endpoint.save(update_fields=["djstripe_owner_account"])
    if endpoint.djstripe_validation_method != VERIFIED:
        # Another method asks Stripe, or nobody; the signature has been verified by now.
        endpoint.djstripe_validation_method = VERIFIED
        endpoint.save(update_fields=["djstripe_validation_method"])
    _know_key(owner)
    if account:
        Account.objects.get_or_create(id=account)


def _make(name: str, secret: str, live: bool | None) -> WebhookEndpoint:
    owner = own_account()
    _know_key(owner)
    endpoint = WebhookEndpoint(
        id=name,
        secret=secret,
        livemode=live,
        djstripe_owner_account=owner,
        enabled_events=[*CONCERNS],
        status="enabled",
    )
    endpoint.url = settings.BASE_URL + address_of(endpoint)
    endpoint.save()
    return endpoint


def address_of(endpoint: WebhookEndpoint) -> str:
    return reverse("djstripe:djstripe_webhook_by_uuid", args=[endpoint.djstripe_uuid])


def _know_key(owner: Account) -> None:
    """Events belong to accounts by the key they were fetched with, so the account of an endpoint needs one. Where the
    desk has none, one that opens nothing stands in for it."""
    if APIKey.objects.filter(djstripe_owner_account=owner).exists():
        return
    key = settings.STRIPE_SECRET_KEY or f"sk_test_{secrets.token_hex(16)}"
    name = "From the environment" if settings.STRIPE_SECRET_KEY else "Stands in for a key, opens nothing"
    kept, _ = APIKey.objects.get_or_create_by_api_key(key)
    kept.djstripe_owner_account, kept.name = owner, name
    kept.save(update_fields=["djstripe_owner_account", "name"])
