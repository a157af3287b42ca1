"""JSON lists of codes, element by element: of strings, of objects, or inside an object under `vouchers`."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import ijson
import ijson.common
from django.conf import settings

from vouchers.errors import UnreadableFile
from vouchers.importing.lines import CODE_COLUMN, COURSE_COLUMN, EXPIRY_COLUMN, ID_COLUMN, Line, column_name
from vouchers.importing.text import LINE_MAX, Text

DEPTH_MAX = 64
Events = Iterator[tuple[str, Any]]
Member = tuple[str, str, Any]  # its key, and the event and value with which it begins
OPENING = {"start_array", "start_map"}
CLOSING = {"end_array", "end_map"}

KINDS = {
    "null": "null",
    "boolean": "true or false",
    "number": "a number",
    "start_array": "a list",
    "start_map": "an object",
}
# Half of a character: the parser would put something else in its place, or take the next one for it.
HALF = re.compile(
    r"(?<!\\)(?:\\\\)*"
    r"(?:\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..)",
    re.DOTALL,
)
HALF_MAX = 24  # characters that are looked at again with what follows them
HALF_AHEAD = 6
IN_ONE_LIST = "Put all codes in one list, between [ and ] and with commas between them."


def read_json(given: Text) -> Iterator[Line]:
    size = given.file.seek(0, 2)
    if size > settings.JSON_UPLOAD_MAX_BYTES:
        raise UnreadableFile(
            f"A JSON file may have {settings.JSON_UPLOAD_MAX_BYTES:,} bytes, and this one has {size:,}. Upload a CSV "
            "or text file instead, with one code a line."
        )
    document = _Document()
    if given.beginning.startswith("{"):
        # What the object says for all codes may stand after them.
        deque(document.lines(given), maxlen=0)
    yield from document.lines(given)


class _Document:
    """What is known of the whole file, and the number of the element that was read last."""

    def __init__(self) -> None:
        self.element = 0
        self.course = ""
        self.expires_on = ""

    def lines(self, given: Text) -> Iterator[Line]:
        self.element = 0
        with given.opened() as text:
            events: Events = ijson.basic_parse(_UTF8(text), use_float=True)
            try:
                for event, _ in events:  # a second one is an error to the parser
                    yield from self._list(events) if event == "start_array" else self._object(events)
            except (ijson.common.JSONError, UnicodeDecodeError):
                where = f"After element {self.element} the" if self.element else "The"
                raise UnreadableFile(
                    f"{where} file is not valid JSON. Check it, or put one code on each line."
                ) from None

    def _list(self, events: Events) -> Iterator[Line]:
        for event, value in events:
            if event == "end_array":
                return
            number = self.element + 1
            if event == "string":
                yield Line(number, _short(number, value), self.course, self.expires_on)
            elif event == "start_map":
                yield self._line(number, events)
            else:
                raise UnreadableFile(f"Element {number} is {KINDS[event]}, not a string. Put each code in quotes.")
            self.element = number

    def _object(self, events: Events) -> Iterator[Line]:
        lists = 0
        for key, event, value in _members(events):
            role = _role(key)
            if role in {"code", "id"} and event == "start_array":
                lists += 1
                if lists > 1:
                    raise UnreadableFile(f"There are two lists of codes in the file. {IN_ONE_LIST}")
                yield from self._list(events)
            elif role == "code" and event == "string":
                raise UnreadableFile(f"The file holds objects one by one (JSON Lines). {IN_ONE_LIST}")
            elif role == "course":
                self.course = _text_of((key, event, value))
            elif role == "expires_on":
                self.expires_on = _text_of((key, event, value))
            else:
                _skip(events, event)
        if not lists:
            raise UnreadableFile(f"The object in the file has no list under `vouchers`. {IN_ONE_LIST}")

    def _line(self, number: int, events: Events) -> Line:
        found: dict[str, list[Member]] = {}
        for key, event, value in _members(events):
            _skip(events, event)
            found.setdefault(_role(key), []).append((key, event, value))
        codes = found.get("code") or found.get("id") or []
        if not codes:
            raise UnreadableFile(f"Element {number} has no code: name it `code`, `voucher`, `voucherCode` or `_id`.")
        if len(codes) > 1:
            names = " and ".join(f"`{key[:40]}`" for key, _, _ in codes[:5])
            raise UnreadableFile(f"Element {number} has more than one code, in {names}. Keep one.")
        [(key, event, code)] = codes
        if event != "string":
            raise UnreadableFile(
                f"`{key[:40]}` of element {number} is {KINDS[event]}, not a string. Put each code in quotes."
            )
        course, expires_on = (_first_text(found.get(role, []), number) for role in ("course", "expires_on"))
        return Line(number, _short(number, code), course or self.course, expires_on or self.expires_on)


def _members(events: Events) -> Iterator[Member]:
    """Of an object that has been entered; whoever takes a member also takes what is inside it from `events`."""
    for event, key in events:
        if event == "end_map":
            return
        yield (key, *next(events))


def _skip(events: Events, event: str) -> None:
    depth = int(event in OPENING)
    while depth:
        event, _ = next(events)
        depth += (event in OPENING) - (event in CLOSING)
        if depth > DEPTH_MAX:
            raise UnreadableFile(
                f"The file has lists or objects more than {DEPTH_MAX} deep in each other. {IN_ONE_LIST}"
            )


def _role(key: str) -> str:
    return _role_of_short(key[:64])


@lru_cache(256)
def _role_of_short(key: str) -> str:
    name = column_name(key)
    if name == ID_COLUMN:
        return "id"
    columns = {"code": CODE_COLUMN, "course": COURSE_COLUMN, "expires_on": EXPIRY_COLUMN}
    return next((role for role, column in columns.items() if column.fullmatch(name)), "")


def _first_text(members: list[Member], number: int) -> str:
    return next((_text_of(member, f" of element {number}") for member in members), "")


def _text_of(member: Member, where: str = "") -> str:
    key, event, value = member
    if event == "null":
        return ""
    if event == "string" or (event == "number" and isinstance(value, int)):
        return str(value).strip()
    raise UnreadableFile(f"`{key[:40]}`{where} is {KINDS[event]}, not a string. Put it in quotes.")


def _short(number: int, code: str) -> str:
    if len(code) > LINE_MAX:
        raise UnreadableFile(
            f"Element {number} is longer than {LINE_MAX} characters. Put each code in a string of its own."
        )
    return code


class _UTF8:
    """The bytes that the parser reads, whatever the encoding of the file."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._held = ""

    def read(self, size: int = -1) -> bytes:
        text = self._text.read(size)
        if size:
            self._refuse_halves(text)
        return text.encode()

    def _refuse_halves(self, text: str) -> None:
        """What was held has been looked at, up to where it depends on what follows."""
        window = self._held + text
        seen, ready = len(self._held) - HALF_AHEAD, len(window) - (HALF_AHEAD if text else 0)
        if "\\u" in window and any(seen < half.end() <= ready for half in HALF.finditer(window)):
            raise UnreadableFile(
                r"The file has half of a character in it (such as \ud83d with no other half). Save it again as UTF-8 "
                "without escapes, or put one code on each line."
            )
        self._held = window[-HALF_MAX:]
