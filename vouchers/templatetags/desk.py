"""What the desk's templates need beside Django's own filters."""

from __future__ import annotations

from django import template

from config.logs import mask
from vouchers.masking import in_outline, mask_code

register = template.Library()
register.filter("mask_email", in_outline)
register.filter("mask_emails", mask)
register.filter("mask_code", mask_code)
