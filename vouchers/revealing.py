"""The page on which a buyer sees a code, where the course keeps codes out of emails."""

from __future__ import annotations

from django.core import signing
from django.db.models import QuerySet
from django.db.models.functions import Coalesce, Now
from django.urls import reverse

from vouchers.errors import NotRevealable, RevealNotFound
from vouchers.models import Issuance, Voucher

SALT = "vouchers.revealing"
OPEN = "open"
ON_HOLD = "on_hold"


def reveal_url(issuance: Issuance) -> str:
    """The path of the page, always the same for an issuance and its address; it holds no code and no email.

    Signed with `SECRET_KEY`. Whoever got the email of another address, before it was corrected, has a link that leads
    nowhere now.
    """
    return reverse("reveal", args=[issuance.pk, _signer(issuance).signature(str(issuance.pk))])


def find_revealable(pk: int, token: str) -> Issuance:
    """The issuance of a link, with its voucher, course and purchase, whatever became of it. Raises `RevealNotFound`.

    Nothing counts the wrong tokens: one is an HMAC of 256 bits, compared in constant time, so that a limit would stop
    only buyers behind one address who follow a link that is out of date.
    """
    issuance = Issuance.objects.select_related("voucher", "course", "purchase").filter(pk=pk).first()
    if issuance is None or issuance.voucher is None:
        raise RevealNotFound
    try:
        _signer(issuance).unsign(f"{issuance.pk}:{token}")
    except signing.BadSignature:
        raise RevealNotFound from None
    return issuance


def state_of(issuance: Issuance) -> str:
    """`open` where the code may be seen; else what keeps it from being of use: `redeemed`, `revoked`, `expired`,
    `on_hold` or `returned`."""
    voucher = issuance.voucher
    if voucher is None or issuance.status != Issuance.Status.ISSUED:
        return Issuance.Status.RETURNED
    if voucher.shown_status != Voucher.Status.ISSUED:
        return voucher.shown_status
    return ON_HOLD if voucher.held_since else OPEN


def reveal_code(issuance: Issuance) -> str:
    """The code, once it is written down that its holder saw it: evidence, and what keeps it out of the pool for ever.

    Not for use inside a transaction, which might yet roll back the evidence and not what was seen. Raises
    `NotRevealable` where the code is of no use, or was taken back or replaced since the issuance was read.
    """
    voucher = issuance.voucher
    if voucher is None or not _still_open(issuance, voucher).update(seen_at=Coalesce("seen_at", Now())):
        raise NotRevealable
    return voucher.code


def _still_open(issuance: Issuance, voucher: Voucher) -> QuerySet[Issuance]:
    """Its row, if it holds this very voucher; so the update waits for whoever is just taking it back."""
    valid = Voucher.objects.shown_as(Voucher.Status.ISSUED).filter(pk=voucher.pk, held_since=None)
    held = Issuance.objects.filter(pk=issuance.pk, status=Issuance.Status.ISSUED, voucher__in=valid)
    return held.filter(email=issuance.email)  # a link ends where the address is corrected


def _signer(issuance: Issuance) -> signing.Signer:
    return signing.Signer(salt=f"{SALT} {issuance.email.upper()}")
