"""Revoke: a voucher that is not redeemed yet is no longer valid."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from vouchers.errors import NotRevocable
from vouchers.models import Voucher

REFUNDED = "Refunded"  # the reason that a refund gives, and nobody else


@transaction.atomic
def revoke_voucher(voucher: Voucher, *, reason: str) -> None:
    """Raises `NotRevocable` for a voucher that is redeemed or revoked already."""
    revoked = (
        Voucher.objects.revocable()
        .filter(pk=voucher.pk)
        .update(status=Voucher.Status.REVOKED, revoked_at=timezone.now(), revoked_reason=reason)
    )
    if not revoked:
        status = Voucher.objects.values_list("status", flat=True).get(pk=voucher.pk)
        raise NotRevocable(f"Voucher {voucher.pk} is {status} and cannot be revoked.")
