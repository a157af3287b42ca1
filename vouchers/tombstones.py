"""What stands in the place of an address that was erased: the same for the same address, and no way back."""

from __future__ import annotations

from django.utils.crypto import salted_hmac

TOMBSTONES = "@erased.invalid"  # RFC 2606: no mail ever goes there


def tombstone_of(email: str) -> str:
    """Such as `9f2c…@erased.invalid`; keyed by `SECRET_KEY`, so that nobody can find the address by trying."""
    return salted_hmac("vouchers.tombstones", email.upper(), algorithm="sha256").hexdigest()[:24] + TOMBSTONES


def is_tombstone(email: str) -> bool:
    return email.endswith(TOMBSTONES)
