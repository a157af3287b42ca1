"""The page on which a buyer sees a code, where the course keeps codes out of emails."""

from __future__ import annotations

from django.core import signing
from django.db.models.functions import Coalesce, Now
from django.urls import reverse

from vouchers.errors import RevealNotFound
from vouchers.models import Issuance

SALT = "vouchers.revealing"


def reveal_url(issuance: Issuance) -> str:
    """The path of the page, always the same for an issuance and its address; it holds no code and no email.

    Signed with `SECRET_KEY`. Whoever got the email of another address, before it was corrected, has a link that leads
    nowhere now.
    """
    token = signing.Signer(salt=f"{SALT} {issuance.email.upper()}").signature(str(issuance.pk))
    return reverse("reveal", args=[issuance.pk, token])


def find_revealable(pk: int, token: str) -> Issuance:
    """The issuance of a link, with its voucher, course and purchase. Raises `RevealNotFound`."""
    issuance = Issuance.objects.select_related("voucher", "course", "purchase").filter(pk=pk).first()
    if issuance is None or issuance.voucher is None or issuance.status != Issuance.Status.ISSUED:
        raise RevealNotFound
    try:
        signing.Signer(salt=f"{SALT} {issuance.email.upper()}").unsign(f"{issuance.pk}:{token}")
    except signing.BadSignature:
        raise RevealNotFound from None
    return issuance


def reveal_code(issuance: Issuance) -> str:
    """The code, once it is written down that its holder saw it: evidence, and what keeps it out of the pool for ever.

    Raises `RevealNotFound` where the code was taken back or replaced since the issuance was read.
    """
    voucher = issuance.voucher
    held = Issuance.objects.filter(pk=issuance.pk, status=Issuance.Status.ISSUED, voucher=voucher)
    if voucher is None or not held.update(seen_at=Coalesce("seen_at", Now())):
        raise RevealNotFound
    return voucher.code
