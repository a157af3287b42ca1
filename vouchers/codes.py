"""What a code is, and the one cleaning that import and redemption share."""

from __future__ import annotations

import re
import unicodedata

# 4 to 128 printable ASCII characters without space, the first a letter or digit.
CODE_FORM = r"^[A-Za-z0-9][!-~]{3,127}$"
CODE_MAX = 128
# The same for the database, where the column bounds the length: counted by the expression, it takes half of an insert.
STORED_FORM = r"^[A-Za-z0-9][!-~]{3,}$"

_shortened_number = re.compile(r"\d([.,]\d+)?E[+-]\d+", re.IGNORECASE | re.ASCII)
_form = re.compile(CODE_FORM.removesuffix("$") + r"\Z")
# Invisible, and not in the category of format characters: joiners and variation selectors.
_INVISIBLE = frozenset("\u034f\u180b\u180c\u180d") | {chr(c) for c in range(0xFE00, 0xFE10)}
# Dashes by Unicode's property, and not in the category of dash punctuation.
_DASHES = frozenset("\u2043\u2053\u2212")


def clean_code(given: str) -> str:
    """A code as stored and compared: NFKC, edges trimmed, zero-width characters dropped, every dash a `-`."""
    if given.isascii():
        return given.strip()
    return "".join(map(_clean_character, unicodedata.normalize("NFKC", given))).strip()


def _clean_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" or character in _INVISIBLE:
        return ""
    if category == "Pd" or character in _DASHES:
        return "-"
    return character


def fault_of(code: str) -> str:
    """What keeps a cleaned code from being one, as a sentence; empty where it is one."""
    if _form.match(code):
        return ""
    if not code:
        return "The code is empty."
    if len(code) < 4:
        return "The code is shorter than 4 characters."
    if len(code) > CODE_MAX:
        return f"The code is longer than {CODE_MAX} characters."
    if " " in code:
        return "The code has a space in it."
    odd = next((c for c in code if not "!" <= c <= "~"), None)
    if odd is not None:
        return f"The code has a character that is not printable ASCII: {unicodedata.name(odd, hex(ord(odd)))}."
    return "The code does not begin with a letter or a digit."


def mangled(code: str) -> str:
    """Why a cleaned code is not what was meant, as a sentence: spreadsheets shorten long numbers to 1.23E+15."""
    if _shortened_number.fullmatch(code):
        return "A spreadsheet has turned this code into a number. Format the column as text and put the codes in again."
    return ""
