"""vouchers.generating: codes for shops that have no supplier"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections import Counter
from itertools import islice

import pytest
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import BatchFactory, CourseFactory, issue_to, make_pool
from vouchers import generating
from vouchers.errors import InvalidRequest
from vouchers.generating import ALPHABET, DEFAULT_PATTERN, NUMBER_MAX, READ_AS, RUDE, Pattern, generate_batch, preview
from vouchers.importing.storing import Report
from vouchers.models import Batch, Delivery, Voucher

MILLION = 1_000_000


def generate(course: Course, number: int, pattern: str, *, insist: bool = True) -> Report:
    return generate_batch(course=course, actor="tests", number=number, pattern=pattern, insist=insist)


def stored(batch: Batch | None) -> list[str]:
    return list(Voucher.objects.filter(batch=batch).order_by("position").values_list("code", flat=True))


def draw(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Has the operating system give this text, again and again."""
    monkeypatch.setattr(secrets, "token_bytes", lambda _: bytes(ALPHABET.index(character) for character in text))


class TestPattern:
    def test_it_fills_in_the_course_the_random_characters_and_the_serial(self) -> None:
        pattern = Pattern.parse(DEFAULT_PATTERN, "JS101")
        assert pattern.code("XR4C7Q", 1) == "JS101-XR4C7Q-001"
        assert re.fullmatch(rf"JS101-[{ALPHABET}]{{6}}-001", next(pattern.codes()))

    def test_its_serial_counts_on_beyond_its_digits(self) -> None:
        codes = Pattern.parse("{serial:1}/{course}.{serial:3}", "js.1").codes()
        assert list(islice(codes, 8, 10)) == ["9/js.1.009", "10/js.1.010"]

    def test_its_random_characters_are_drawn_anew_for_each_code_and_place(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        draw(monkeypatch, "CDFGHJ")
        codes = Pattern.parse("{random:1}-{random:2}x", "JS101").codes()
        assert list(islice(codes, 2)) == ["C-DFx", "G-HJx"]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("{course}-{rnd:6}", "{rnd:6} is no placeholder. There are {course}, {random:6} and {serial:3}."),
            ("{course:3}-{random:6}", "{course:3} is no placeholder."),
            ("{}-{random:6}", "{} is no placeholder."),
            ("{course!r}{random:6}", "{course!r} is no placeholder."),
            ("{course}-{random}", "{random} needs a length from 1 to 128, such as {random:6}."),
            ("{course}-{serial:}", "{serial} needs a length from 1 to 128, such as {serial:6}."),
            ("{course}-{random:0}", "{random} needs a length"),
            ("{course}-{random:-1}", "{random} needs a length"),
            ("{course}-{random:\u0666}", "{random} needs a length"),
            ("{course}-{random:129}", "{random} needs a length"),
            ("{course}-{random:9999999}", "{random} needs a length"),
            ("{course}-{random:6", "A { in the pattern is never closed."),
            ("{course-{random:6}", "A { in the pattern is never closed."),
            ("{course}-random:6}", "A } in the pattern was never opened."),
            ("{{course}}-{random:6}", "A { in the pattern is never closed."),
            ("", "The code is empty."),
            ("{serial:3}", "The code is shorter than 4 characters."),
            ("-{random:6}", "The code does not begin with a letter or a digit."),
            ("{course} {random:6}", "The code has a space in it."),
            ("{course}\u2013{random:6}", "not printable ASCII: EN DASH"),
            ("{random:1}E-{serial:3}", "A spreadsheet has turned this code into a number."),
            ("{course}-{random:123}", "The code is longer than 128 characters."),
            ("{course}-{random:120}{serial:1}", "The code is longer than 128 characters."),
            ("{random:1}" * 21, "The pattern is longer than 200 characters."),
        ],
    )
    def test_it_says_what_is_wrong(self, text: str, sentence: str) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            Pattern.parse(text, "JS101")
        assert sentence in refusal.value.message
        assert refusal.value.fields == {"pattern": [refusal.value.message]}


class TestDrawing:
    def test_its_alphabet_has_no_vowels_and_no_two_that_look_alike(self) -> None:
        assert not set("AEIOUY") & set(ALPHABET)
        for alike in ("0O", "1IL", "2Z", "5S", "6G", "8B", "UV"):
            assert len(set(alike) & set(ALPHABET)) <= 1
        assert len(ALPHABET) == len(set(ALPHABET))

    def test_each_character_is_as_likely_as_any_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(secrets, "token_bytes", lambda _: bytes(range(256)))
        assert Counter(islice(generating._random_texts(1), 253)) == dict.fromkeys(ALPHABET, 11)

    @pytest.mark.parametrize("rude", ["FCK", "W7F", "5H7", "KKK", "CVN7", "N42"])
    def test_it_draws_rude_words_again(self, monkeypatch: pytest.MonkeyPatch, rude: str) -> None:
        draw(monkeypatch, f"{rude}XX"[:5] + f"XX{rude}"[-5:] + "H47CH")
        assert next(generating._random_texts(5)) == "H47CH"

    @pytest.mark.parametrize("word", RUDE.split())
    def test_each_rude_word_can_be_written_in_the_alphabet(self, word: str) -> None:
        written = "".join(character if character in ALPHABET else READ_AS[character] for character in word)
        assert set(written) <= set(ALPHABET)
        assert generating._rude.search(f"2{written}2")


@pytest.mark.django_db
class TestPreview:
    def test_a_million_codes_of_the_default_pattern_are_hard_to_guess(self, course: Course) -> None:
        seen = preview(course, DEFAULT_PATTERN, MILLION)
        assert seen.enough
        assert seen.sentence == "27 bits: one guess in 148,035,889 hits a code."
        assert seen.bits == pytest.approx(27.14, abs=0.01)
        assert [sample[-4:] for sample in seen.samples] == ["-001", "-002", "-003"]

    def test_a_guess_without_a_serial_hits_any_of_a_million_codes(self, course: Course) -> None:
        seen = preview(course, "{course}-{random:6}", MILLION)
        assert seen.sentence == "7 bits: one guess in 148 hits a code."
        assert seen.refusal == (
            "Too easy to guess. 7 bits: one guess in 148 hits a code. Use at least 10 random characters, or insist on "
            "this pattern."
        )
        assert not preview(course, "{course}-{random:9}", MILLION).enough
        assert preview(course, "{course}-{random:10}", MILLION).enough

    def test_it_counts_what_the_pattern_gave_before(self, course: Course) -> None:
        generate(course, 4, "{course}-{random:6}")
        generate(course, 4, DEFAULT_PATTERN)
        generate(CourseFactory.create(id="PY201"), 4, "{course}-{random:6}")
        assert "in 29,607,177 hits" in preview(course, "{course}-{random:6}", 1).sentence

    def test_its_samples_go_on_where_the_pattern_ended(self, course: Course) -> None:
        generate(course, 4, DEFAULT_PATTERN)
        seen = preview(course, DEFAULT_PATTERN, 1000)
        assert [sample[-4:] for sample in seen.samples] == ["-005", "-006", "-007"]
        assert "in 148,035,889 hits" in seen.sentence

    def test_it_does_not_count_what_was_undone_or_failed(self, course: Course) -> None:
        for inserted, status in ((4, Batch.Status.UNDONE), (0, Batch.Status.FAILED)):
            pattern = "{course}-{random:6}"
            BatchFactory.create(course=course, pattern=pattern, inserted=inserted, read=inserted, status=status)
        assert "in 148,035,889 hits" in preview(course, "{course}-{random:6}", 1).sentence

    def test_a_pattern_without_the_course_shares_its_codes_with_all_courses(self, course: Course) -> None:
        generate(CourseFactory.create(id="PY201"), 1, "GIFT-{random:6}")
        assert "in 74,017,944 hits" in preview(course, "GIFT-{random:6}", 1).sentence

    @pytest.mark.parametrize(
        ("pattern", "sentence"),
        [
            ("{course}-{serial:3}", "0 bits: every guess hits a code."),
            ("{course}-{random:1}", "4 bits: one guess in 23 hits a code."),
            ("{course}-{random:40}", "180 bits: one guess in more than 1,000,000,000,000,000 hits a code."),
        ],
    )
    def test_it_says_how_hard_the_codes_are_to_guess(self, course: Course, pattern: str, sentence: str) -> None:
        assert preview(course, pattern, 1).sentence == sentence


@pytest.mark.django_db
class TestGenerate:
    def test_it_stores_one_batch_of_new_codes(self, course: Course) -> None:
        day = dt.date(2099, 12, 31)
        report = generate_batch(course=course, actor="tests", number=120, expires_on=day)

        batch = Batch.objects.get()
        assert report.batch == batch
        assert (batch.read, batch.inserted, batch.duplicates, batch.invalid, batch.wanted) == (120, 120, 0, 0, 120)
        assert (batch.source, batch.pattern, batch.actor) == ("generated", DEFAULT_PATTERN, "tests")
        codes = stored(batch)
        assert [code[-3:] for code in codes] == [f"{serial:03}" for serial in range(1, 121)]
        assert all(re.fullmatch(rf"JS101-[{ALPHABET}]{{6}}-\d{{3}}", code) for code in codes)
        assert len({code[6:12] for code in codes}) > 100
        assert not Voucher.objects.exclude(status="available", expires_on=day).exists()

    def test_it_fills_the_queue_of_waiting_buyers(self, course: Course) -> None:
        issue_to(course)
        assert generate(course, 3, DEFAULT_PATTERN).filled == 1
        assert Voucher.objects.get(issued_to="ann@example.com").code.endswith("-001")
        assert Delivery.objects.count() == 1

    def test_it_draws_again_what_is_stored_already(self, course: Course) -> None:
        for character in ALPHABET[3:]:
            make_pool(course, 1, code=f"GiFT-{character.lower()}")
        report = generate(course, 3, "Gift-{random:1}")
        assert sorted(stored(report.batch)) == [f"Gift-{character}" for character in sorted(ALPHABET[:3])]

    def test_it_looks_up_many_codes_with_one_query(
        self, course: Course, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(1):
            pattern = Pattern.parse(DEFAULT_PATTERN, "JS101")
            generating._new_codes(pattern, pattern.codes(), 500, lambda _: None)

    def test_it_draws_again_what_it_drew_before(self, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(generating, "LOOKED_UP_AT_ONCE", 7)
        report = generate(course, len(ALPHABET), "{course}-{random:1}")
        assert sorted(stored(report.batch)) == [f"JS101-{character}" for character in sorted(ALPHABET)]

    def test_its_serial_goes_on_past_codes_that_are_taken(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(generating, "BARREN_DRAWS", 2)
        for serial in range(1, 6):
            make_pool(course, 1, code=f"JS101-00{serial}")
        assert stored(generate(course, 2, "{course}-{serial:3}").batch) == ["JS101-006", "JS101-007"]

    def test_its_serial_goes_on_where_the_last_batch_of_the_pattern_ended(self, course: Course) -> None:
        for serials in (["001", "002"], ["003", "004"]):
            assert [code[-3:] for code in stored(generate(course, 2, DEFAULT_PATTERN).batch)] == serials

    def test_it_says_how_far_it_is(self, course: Course) -> None:
        shares: list[float] = []
        generate_batch(course=course, actor="tests", number=5, watch=shares.append)
        assert shares == sorted(shares)
        assert 0 == shares[0] < shares[-1] < 1

    def test_it_stores_nothing_where_its_watcher_stops_it(self, course: Course) -> None:
        def stop(share: float) -> None:
            if share:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            generate_batch(course=course, actor="tests", number=5, watch=stop)
        assert not Batch.objects.exists()
        assert not Voucher.objects.exists()

    @pytest.mark.parametrize(
        ("pattern", "number", "field", "sentence"),
        [
            (DEFAULT_PATTERN, 0, "number", "Between 1 and 1,000,000 codes can be generated in one go."),
            (DEFAULT_PATTERN, NUMBER_MAX + 1, "number", "Between 1 and 1,000,000 codes"),
            ("{course}-{random:1}", 24, "pattern", "has only 23 different codes. Use more random characters"),
            ("{course}", 2, "pattern", "has only 1 different codes."),
            ("{course}-{random:1}", 4, "pattern", "Only 3 of 4 codes of this pattern were still free."),
            ("{course}-{random}", 4, "pattern", "{random} needs a length"),
        ],
    )
    def test_it_refuses_what_cannot_be_even_if_one_insists(
        self, course: Course, pattern: str, number: int, field: str, sentence: str
    ) -> None:
        for character in ALPHABET[3:]:
            make_pool(course, 1, code=f"JS101-{character}")
        before = Batch.objects.count()
        with pytest.raises(InvalidRequest) as refusal:
            generate(course, number, pattern)
        assert sentence in refusal.value.message
        assert refusal.value.fields == {field: [refusal.value.message]}
        assert Voucher.objects.count() == 20
        assert Batch.objects.count() == before

    def test_it_refuses_codes_that_are_easy_to_guess_unless_one_insists(self, course: Course) -> None:
        with pytest.raises(InvalidRequest, match="Use at least 6 random characters") as refusal:
            generate(course, 1, "{course}-{random:5}", insist=False)
        assert list(refusal.value.fields or {}) == ["pattern"]
        assert not Batch.objects.exists()
        assert generate(course, 1, "{course}-{random:5}", insist=True).inserted == 1
        assert generate(course, 1, "{course}-{random:6}", insist=False).inserted == 1

    def test_it_stores_nothing_with_an_expiry_in_the_past(self, course: Course) -> None:
        with pytest.raises(InvalidRequest, match="already past"):
            generate_batch(course=course, actor="tests", number=1, expires_on=dt.date(2020, 1, 1))
        assert not Batch.objects.exists()
