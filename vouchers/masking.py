"""Codes and addresses as they are shown to people who need not know them: enough to tell them apart."""

from __future__ import annotations


def in_outline(email: str) -> str:
    """Enough for its owner to know it again, such as `a***@example.com`: the link to a purchase may be passed on."""
    name, at, domain = email.rpartition("@")
    return f"{name[:1]}***{at}{domain}" if at else ""


def mask_code(code: str) -> str:
    """Enough of a code to tell it from its neighbours, and too little to use or to guess it by: `••••-001`."""
    return "••••" + code[-min(4, len(code) // 4) :]
