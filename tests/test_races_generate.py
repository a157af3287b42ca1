"""The races of generating, and each once more with its guard taken away."""

from __future__ import annotations

import pytest
from django.db import transaction

from courses.models import Course
from tests.factories import BatchFactory, VoucherFactory
from tests.racing import failures, in_thread, somebody_waits_for_a_lock, together, wait_until
from vouchers import generating
from vouchers.errors import InvalidRequest
from vouchers.generating import ALPHABET, generate_batch
from vouchers.importing.storing import Report
from vouchers.models import Batch, Voucher

pytestmark = pytest.mark.django_db(transaction=True)

ROOM = len(ALPHABET)
PATTERN = "{course}-{random:1}"
TAKEN = 12


def generate(course: Course, number: int) -> Report:
    course = Course.objects.get(pk=course.pk)
    return generate_batch(course=course, actor="tests", number=number, pattern=PATTERN, insist=True)


class TestGenerating:
    def test_two_at_once_share_a_tiny_space_without_a_code_in_common(self, course: Course) -> None:
        assert not failures(together(2, lambda _: generate(course, ROOM // 2)))
        assert Voucher.objects.count() == 2 * (ROOM // 2)
        for batch in Batch.objects.all():
            assert (batch.read, batch.inserted, batch.duplicates) == (ROOM // 2, ROOM // 2, 0)
            assert batch.vouchers.count() == ROOM // 2

    def test_two_at_once_that_want_more_than_there_is_end_with_one_of_them(self, course: Course) -> None:
        results = together(2, lambda _: generate(course, ROOM - 1))
        (refusal,) = failures(results)
        assert isinstance(refusal, InvalidRequest)
        assert refusal.message.startswith(f"Only 1 of {ROOM - 1} codes")
        assert Voucher.objects.count() == Batch.objects.get().inserted == ROOM - 1

    def generate_against_another(self, course: Course) -> Report:
        """A generation of all that is left, while another transaction has stored its codes and comes to its end."""
        batch = BatchFactory.create(course=course)
        with transaction.atomic():
            for character in ALPHABET[:TAKEN]:
                VoucherFactory.create(course=course, batch=batch, code=f"JS101-{character}")
            generated = in_thread(lambda: generate(course, ROOM - TAKEN))
            wait_until(somebody_waits_for_a_lock)
        return generated()

    def test_codes_stored_between_the_look_and_the_insert_are_drawn_again(self, course: Course) -> None:
        report = self.generate_against_another(course)
        codes = Voucher.objects.filter(batch=report.batch).values_list("code", flat=True)
        assert set(codes) == {f"JS101-{character}" for character in ALPHABET[TAKEN:]}
        assert (report.read, report.duplicates) == (ROOM - TAKEN, 0)

    def test_control_without_the_second_look_a_batch_falls_short(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(generating, "_refuse_if_overtaken", lambda report: None)
        report = self.generate_against_another(course)
        assert report.inserted < report.read == ROOM - TAKEN

    def test_one_that_is_overtaken_again_and_again_stores_nothing(
        self, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(generating, "TRIES", 1)
        with pytest.raises(InvalidRequest, match="Somebody else stored codes of this pattern at the same moment"):
            self.generate_against_another(course)
        assert Voucher.objects.count() == TAKEN
        assert Batch.objects.count() == 1
