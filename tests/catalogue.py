"""The catalogue of translations as it stands in the repository, read without GNU gettext; and what asks for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.utils.translation import templatize

HERE = Path(settings.BASE_DIR)
PO = HERE / "config/locale/de/LC_MESSAGES/django.po"
TEMPLATES = [*HERE.glob("templates/*.html"), *HERE.glob("templates/shop/*"), *HERE.glob("templates/email/*")]
PLACEHOLDER = re.compile(r"%\(\w+\)[sdr]|\{\w+\}")
MARKUP = re.compile(r"<[^>]+>")
LITERAL = r"u?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
CALL = re.compile(rf"\b(p?gettext|n?gettext|_)\((\s*{LITERAL}(?:\s*,\s*{LITERAL})*)")
FUNCTIONS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"}


@dataclass(frozen=True)
class Entry:
    """`plural` is empty where there is one form only; `translated` has as many as there are."""

    msgid: str
    translated: tuple[str, ...]
    plural: str = ""
    context: str = ""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each form, and what it becomes."""
        return zip((self.msgid, self.plural), self.translated, strict=False)


@cache
def entries() -> list[Entry]:
    return [_entry(block) for block in PO.read_text().strip().split("\n\n")[1:]]


def _entry(block: str) -> Entry:
    """What stands after each keyword, with the lines that go on from it."""
    said: dict[str, str] = {}
    keyword = ""
    for line in block.splitlines():
        if not line.startswith("#"):
            begun, _, text = line.rpartition(' "') if not line.startswith('"') else ("", "", line[1:])
            keyword = begun or keyword
            said[keyword] = said.get(keyword, "") + str(ast.literal_eval(f'"{text}'))
    translated = tuple(text for keyword, text in said.items() if keyword.startswith("msgstr"))
    return Entry(said["msgid"], translated, said.get("msgid_plural", ""), said.get("msgctxt", ""))


def asked_for() -> set[tuple[str, str]]:
    """Context and text of what the templates and the program want to have translated."""
    python = [path for name in ("config", "courses", "vouchers") for path in (HERE / name).rglob("*.py")]
    in_templates = {found for path in TEMPLATES for found in _in_template(path)}
    return in_templates.union(*(_in_python(path) for path in python))


def _in_template(path: Path) -> Iterator[tuple[str, str]]:
    """As `makemessages` reads it: Django makes of a template a program that only translates."""
    for name, given in CALL.findall(templatize(path.read_text())):
        texts = ast.literal_eval(f"({given},)")
        yield texts[:2] if name == "pgettext" else ("", texts[0])


def _in_python(path: Path) -> Iterator[tuple[str, str]]:
    """What is no literal was marked elsewhere, by `gettext_noop`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            yield from (("", str(text.value)) for text in node.args[:1] if isinstance(text, ast.Constant))
