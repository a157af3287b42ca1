"""The German of the shop's pages and emails: config/locale, as `make messages` keeps it."""

from __future__ import annotations

import gettext
import re
from collections import Counter

import pytest

from tests.catalogue import MARKUP, PLACEHOLDER, PO, Entry, asked_for, entries


def names_of(entry: Entry) -> str:
    return entry.msgid[:60]


def test_it_holds_what_buyers_may_read_and_nothing_else() -> None:
    assert {(entry.context, entry.msgid) for entry in entries()} == asked_for(), "run `make messages`"


def test_nothing_in_it_is_left_to_a_guess_or_left_over() -> None:
    marks = [line for line in PO.read_text().splitlines() if re.match(r"#(~|\||.*\bfuzzy\b)", line)]
    assert marks == []


@pytest.mark.parametrize("entry", entries(), ids=names_of)
def test_a_text_is_translated_with_all_that_is_put_into_it(entry: Entry) -> None:
    assert len(entry.translated) == (2 if entry.plural else 1)
    for text, translated in entry.pairs():
        assert translated.strip()
        assert translated != text
        for what in (PLACEHOLDER, MARKUP):
            assert Counter(what.findall(translated)) == Counter(what.findall(text))
        assert text[-1].isalnum() == translated[-1].isalnum()


def test_what_is_compiled_says_the_same() -> None:
    with PO.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for entry in entries():
        if entry.plural:
            said = tuple(compiled.ngettext(entry.msgid, entry.plural, number) for number in (1, 2))
        elif entry.context:
            said = (compiled.pgettext(entry.context, entry.msgid),)
        else:
            said = (compiled.gettext(entry.msgid),)
        assert said == entry.translated, "run `make messages`"
