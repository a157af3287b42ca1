"""Whole codes, for the staff who may see them: every look is written down, and everybody else sees masked ones."""

from __future__ import annotations

from typing import ClassVar

from django.http import HttpRequest

from vouchers.admin.base import LedgerAdmin, M

SAW_CODE = "Saw the whole code."
SAW_EMAIL = "Opened the email, and the code in it."


def may_reveal(request: HttpRequest) -> bool:
    return request.user.has_perm("vouchers.reveal_voucher")


class MaskedAdmin(LedgerAdmin[M]):
    """A ledger of rows with whole codes in some columns, for which no filter in an address may ask.

    `?code__startswith=A` would tell a code to anybody with the patience to try the alphabet.
    """

    columns_with_codes: ClassVar[tuple[str, ...]] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        asks_for_code = lookup.partition("__")[0] in self.columns_with_codes
        return not asks_for_code and super().lookup_allowed(lookup, value, request)
