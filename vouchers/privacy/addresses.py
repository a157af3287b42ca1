"""One address in whatever is written around it: text, JSON, HTML, URLs, a traceback. Whole addresses only."""

from __future__ import annotations

import json
import re
from functools import cached_property
from html import escape
from typing import Any
from urllib.parse import quote

from vouchers.tombstones import tombstone_of

# A text that is one address as a whole is compared as a whole: `a=ann@example.com` is somebody else.
ONE_ADDRESS = re.compile(r"[^\s@<>\"(),:;\[\]\\]+@(?:[\w-]+\.)*[\w-]+")
# Where an address may begin within a text: after what is no part of a name, after an apostrophe that is a quotation
# mark (o'ann@… is a name, b'ann@… is not), or after an escape whose last letter only looks like one.
BEGINS = (
    r"(?:(?<![\w.+%!$^~-])(?<![ac-z]')"
    r"|(?<=\\[nrt])|(?<=\\u[0-9a-f]{4})|(?<=%20)|(?<=%22)|(?<=%3[a-f]))"
)
# And where it may end: not before another letter, hyphen or label of its domain.
ENDS = r"(?![\w-])(?!\.\w)(?!@)"


class Address:
    """An address to be replaced by its tombstone, in any upper and lower case letters."""

    def __init__(self, email: str) -> None:
        self.email = email
        self.tombstone = tombstone_of(email)

    @cached_property
    def spellings(self) -> list[str]:
        """As it stands in a text, in JSON, in HTML and in a URL; mostly two."""
        in_json = {json.dumps(self.email)[1:-1], json.dumps(self.email, ensure_ascii=False)[1:-1]}
        return sorted({self.email, escape(self.email), quote(self.email), *in_json})

    @cached_property
    def _within(self) -> re.Pattern[str]:
        return re.compile(f"{BEGINS}(?:{'|'.join(map(re.escape, self.spellings))}){ENDS}", re.IGNORECASE)

    def replaced_in(self, value: Any) -> Any:
        """The value, a text or what JSON can hold, with the tombstone in the address's place."""
        if isinstance(value, str):
            return self._replaced_in_text(value)
        if isinstance(value, list):
            return [self.replaced_in(item) for item in value]
        if isinstance(value, dict):
            return {self.replaced_in(name): self.replaced_in(item) for name, item in value.items()}
        return value

    def _replaced_in_text(self, text: str) -> str:
        if ONE_ADDRESS.fullmatch(text):
            return self.tombstone if text.upper() == self.email.upper() else text
        return self._within.sub(self.tombstone, text)
