"""Generated codes, for shops that have no supplier: codes of a pattern that are new, hard to guess and hard to
misread, stored as a batch by the same import as anybody's.

The alphabet, what counts as hard to guess, and how codes stay unique: docs/decisions/0010.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, repeat

from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Upper

from courses.models import Course
from vouchers.codes import CODE_MAX, fault_of, mangled
from vouchers.errors import InvalidRequest
from vouchers.importing.reading import read_list
from vouchers.importing.storing import READ, Report, Upload, Watch, import_codes, nobody
from vouchers.models import Batch, Voucher

DEFAULT_PATTERN = "{course}-{random:6}-{serial:3}"
PATTERN_MAX = 200
NUMBER_MAX = 1_000_000
LAST_SERIAL = 999_999_999
SAMPLES = 3

# No vowel and no Y, so that hardly a word arises; and of 0 O, 1 I L, 2 Z, 5 S, 6 G, 8 B and U V at most one each,
# so that whoever hesitates between two finds that only one of them occurs.
ALPHABET = "2345789CDFGHJKMNPQRTVWX"
# What else a character may be read as, and what words are left without the other vowels: English, and some German,
# French, Spanish and Polish.
READ_AS = {"A": "4", "B": "8", "E": "3", "G": "9", "S": "5", "T": "7", "U": "V", "Z": "2"}
RUDE = """
    ARSCH ARSE ASS BCH BTCH CCK CNT CUNT DCK FAG FCK FGT FKN FTZ FUCK FUK HRN HURE JEW KKE KKK KNT KRW KURW MRD NAZ
    NEGR NGA NGG NGR NSD PED PHK PHUCK PNS PRN PSS PTA PTN PUTA RAPE RPE SCHS SEX SHT SUCK TRD TTS TURD TWAT TWT VAG
    VGN WANK WCHS WHR WNK WTF XXX
"""

# One guess in 16,777,216. An address that guesses day and night (`vouchers/guesses.py` allows 10 in 10 minutes)
# makes 525,600 guesses in a year, and hits one code with a chance of 3 %.
ENOUGH_BITS = 24
SHOWN_ODDS = 10**15

DRAWN_AT_ONCE = 1000
LOOKED_UP_AT_ONCE = 10_000
# So many draws in a row without a new code, and hardly any is left.
BARREN_DRAWS = 10_000
TRIES = 3

_rude = re.compile("|".join("".join(f"[{c}{READ_AS.get(c, '')}]" for c in word) for word in RUDE.split()))
_placeholder = re.compile(r"\{([^{}]*)\}")
# Bytes beyond the last full round through the alphabet would favour its beginning, and are left out.
_uneven = bytes(range(256 - 256 % len(ALPHABET), 256))
_character_of = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))


@dataclass(frozen=True)
class Pattern:
    """What the codes of a course look like. `random` is how many characters of a code are drawn; `template` takes
    these one by one, and the serial by its name."""

    text: str
    template: str
    random: int
    has_serial: bool

    @classmethod
    def parse(cls, text: str, course_id: str) -> Pattern:
        """Raises `InvalidRequest`, which says what is wrong, for a text that gives no codes."""
        if len(text) > PATTERN_MAX:
            raise _refusal("pattern", f"The pattern is longer than {PATTERN_MAX} characters.")
        pieces = _placeholder.split(text)
        pieces[0::2] = [_literal(piece) for piece in pieces[0::2]]
        pieces[1::2] = [_field(piece, course_id) for piece in pieces[1::2]]
        template = "".join(pieces)
        pattern = cls(text, template, template.count("{}"), "{serial:" in template)
        for serial in (1, LAST_SERIAL):
            sample = pattern.code(ALPHABET[0] * pattern.random, serial)
            if fault := fault_of(sample) or mangled(sample):
                raise _refusal("pattern", f"This pattern makes no codes that can be used. {fault}")
        return pattern

    @property
    def room(self) -> int:
        """How many different codes there are."""
        return int(len(ALPHABET) ** self.random) * (LAST_SERIAL if self.has_serial else 1)

    def code(self, drawn: str, serial: int) -> str:
        return self.template.format(*drawn, serial=serial)

    def codes(self, first: int = 1) -> Iterator[str]:
        """Codes without end. With a serial no two are the same: it counts them, from `first` on."""
        for serial, drawn in enumerate(_random_texts(self.random), first):
            yield self.code(drawn, serial)


@dataclass(frozen=True)
class Preview:
    """What would be generated. `sentence` says how hard it is to guess, `refusal` why that is too little."""

    samples: list[str]
    bits: float
    sentence: str
    refusal: str

    @property
    def enough(self) -> bool:
        return not self.refusal


def preview(course: Course, pattern: str, number: int) -> Preview:
    """What `number` codes would look like. Raises `InvalidRequest` where they cannot be generated at all."""
    parsed = Pattern.parse(pattern, course.pk)
    _check_number(parsed, number)
    before = _generated_before(parsed, course)
    # With a serial each code has random characters of its own; without one a guess hits any of them.
    rivals = 1 if parsed.has_serial else before + number
    odds = max(1, len(ALPHABET) ** parsed.random // rivals)
    sentence = _strength(odds)
    refusal = ""
    if odds < 2**ENOUGH_BITS:
        needed = next(n for n in count(1) if len(ALPHABET) ** n // rivals >= 2**ENOUGH_BITS)
        refusal = f"Too easy to guess. {sentence} Use at least {needed} random characters, or insist on this pattern."
    return Preview(list(islice(parsed.codes(before + 1), SAMPLES)), math.log2(odds), sentence, refusal)


def check_pattern(course: Course, pattern: str, number: int, *, insist: bool = False) -> None:
    """Raises `InvalidRequest` for a pattern that cannot give so many codes, or only codes that are too easy to
    guess and nobody insists."""
    refusal = preview(course, pattern, number).refusal
    if refusal and not insist:
        raise _refusal("pattern", refusal)


def generate_batch(
    *,
    course: Course,
    actor: str,
    number: int,
    pattern: str = DEFAULT_PATTERN,
    expires_on: dt.date | None = None,
    insist: bool = False,
    watch: Watch = nobody,
) -> Report:
    """Generates `number` codes into the pool of a course, in one step. Raises what `check_pattern` and
    `generate_codes` raise."""
    check_pattern(course, pattern, number, insist=insist)
    upload = Upload(course=course, actor=actor, source=Batch.Source.GENERATED, expires_on=expires_on, pattern=pattern)
    with transaction.atomic():
        return generate_codes(upload.new_batch(wanted=number), watch=watch)


def generate_codes(batch: Batch, *, watch: Watch = nobody) -> Report:
    """Stores the codes that a batch wants: all of them, or none. Raises `InvalidRequest` where so many are not to
    be had, and whatever an import raises."""
    pattern = Pattern.parse(batch.pattern, batch.course_id)
    for _ in range(TRIES):
        candidates = pattern.codes(_generated_before(pattern, batch.course) + 1)
        codes = _new_codes(pattern, candidates, batch.wanted, watch)
        try:
            return _store_all(batch, codes, watch)
        except _Overtaken:
            continue
    raise InvalidRequest(
        f"Somebody else stored codes of this pattern at the same moment, {TRIES} times in a row. Nothing was stored. "
        "Try again."
    )


class _Overtaken(Exception):
    """Another transaction stored one of the codes between our look and our insert."""


def _store_all(batch: Batch, codes: Iterable[str], watch: Watch) -> Report:
    with transaction.atomic():
        report = import_codes(Upload.of(batch), read_list(codes), batch=batch, watch=watch)
        _refuse_if_overtaken(report)
        return report


def _refuse_if_overtaken(report: Report) -> None:
    if report.inserted < report.read:
        raise _Overtaken


def _new_codes(pattern: Pattern, candidates: Iterator[str], number: int, watch: Watch) -> Iterable[str]:
    """Different codes out of the candidates, in the order of their serials, none of which is stored yet.

    They are all there before the import begins: while COPY reads them, its connection answers no question.
    """
    codes: dict[str, None] = {}
    barren = 0
    while len(codes) < number:
        watch(READ * len(codes) / number)
        drawn = list(islice(candidates, min(LOOKED_UP_AT_ONCE, max(number - len(codes), barren))))
        before = len(codes)
        taken = _taken(drawn)
        codes.update((code, None) for code in drawn if code.upper() not in taken)
        barren = barren + len(drawn) if len(codes) == before else 0
        # With a serial they never run out: past those that are taken the serial goes on.
        if barren >= BARREN_DRAWS and not pattern.has_serial:
            found = f"Only {len(codes):,} of {number:,} codes of this pattern were still free."
            raise _refusal("pattern", f"{found} Use more random characters, or a {{serial:3}}.")
    return list(islice(codes, number))


def _taken(codes: list[str]) -> set[str]:
    """Which of the codes are stored already, in upper case."""
    stored = Voucher.objects.annotate(upper=Upper("code")).filter(upper__in=[code.upper() for code in codes])
    return set(stored.values_list("upper", flat=True))


def _generated_before(pattern: Pattern, course: Course) -> int:
    """How many codes the pattern gave that were not undone; where it does not name the course, in all courses."""
    batches = Batch.objects.filter(pattern=pattern.text).exclude(status=Batch.Status.UNDONE)
    if "{course}" in pattern.text:
        batches = batches.filter(course=course)
    return int(batches.aggregate(codes=Sum("inserted"))["codes"] or 0)


def _strength(odds: int) -> str:
    bits = f"{int(math.log2(odds))} bits"
    if odds == 1:
        return f"{bits}: every guess hits a code."
    return f"{bits}: one guess in {'more than ' if odds > SHOWN_ODDS else ''}{min(odds, SHOWN_ODDS):,} hits a code."


def _check_number(pattern: Pattern, number: int) -> None:
    if not 1 <= number <= NUMBER_MAX:
        raise _refusal("number", f"Between 1 and {NUMBER_MAX:,} codes can be generated in one go.")
    if number > pattern.room:
        raise _refusal(
            "pattern",
            f"This pattern has only {pattern.room:,} different codes. Use more random characters, or a {{serial:3}}.",
        )


def _literal(piece: str) -> str:
    if "{" in piece:
        raise _refusal("pattern", "A { in the pattern is never closed. Placeholders look like {random:6}.")
    if "}" in piece:
        raise _refusal("pattern", "A } in the pattern was never opened. Placeholders look like {random:6}.")
    return piece


def _field(placeholder: str, course_id: str) -> str:
    """What a placeholder is in the template."""
    name, _, length = placeholder.partition(":")
    if placeholder == "course":
        return course_id
    if name not in ("random", "serial"):
        raise _refusal(
            "pattern", f"{{{placeholder}}} is no placeholder. There are {{course}}, {{random:6}} and {{serial:3}}."
        )
    if not re.fullmatch(r"[0-9]+", length) or not 1 <= int(length) <= CODE_MAX:
        raise _refusal("pattern", f"{{{name}}} needs a length from 1 to {CODE_MAX}, such as {{{name}:6}}.")
    return "{}" * int(length) if name == "random" else f"{{serial:0{int(length)}}}"


def _random_texts(length: int) -> Iterator[str]:
    """Texts without end, each drawn evenly from all that are not rude, by the operating system's own source."""
    if not length:
        yield from repeat("")
    while True:
        characters = secrets.token_bytes(DRAWN_AT_ONCE * length).translate(_character_of, _uneven).decode()
        for at in range(0, len(characters) - length + 1, length):
            text = characters[at : at + length]
            if not _rude.search(text):
                yield text


def _refusal(field: str, sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, fields={field: [sentence]})
