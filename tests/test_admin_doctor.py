"""The doctor's page in the admin."""

from __future__ import annotations

import pytest
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import CourseFactory, UserFactory, issue_to
from tests.planting import plant
from tests.staff import log_in, logged, said
from vouchers.doctor import rounds
from vouchers.doctor.rounds import CHECKS, check_up
from vouchers.generating import generate_batch
from vouchers.models import Checkup, Delivery, Issuance

pytestmark = pytest.mark.django_db
PAGE = "/admin/doctor/"


@pytest.fixture
def staff() -> Client:
    return log_in("view_checkup", "add_checkup")


@pytest.fixture
def unsent(course: Course) -> Issuance:
    """An issued voucher whose email is gone."""
    generate_batch(course=course, actor="tests", number=2)
    issuance = issue_to(course)
    plant(f"DELETE FROM vouchers_delivery WHERE issuance_id = {issuance.pk}")
    return issuance


def shown(client: Client) -> str:
    response = client.get(PAGE)
    assert response.status_code == 200
    return response.content.decode()


def test_it_says_that_nobody_looked_yet(staff: Client) -> None:
    page = shown(staff)
    assert "have not been checked yet" in page
    assert "Check now" in page


def test_check_now_says_that_all_is_well(staff: Client, course: Course) -> None:
    response = staff.post(PAGE)

    assert (response.status_code, response["Location"]) == (302, PAGE)
    page = shown(staff)
    assert "The books are right." in page
    assert f"{len(CHECKS)} checks found nothing" in page
    assert "Heal" not in page
    checkup = Checkup.objects.get()
    assert checkup.finished_at
    assert logged(checkup) == ["Asked for."]


def test_it_shows_what_is_broken_and_by_whom_it_was_found(staff: Client, unsent: Issuance) -> None:
    staff.post(PAGE)

    page = shown(staff)
    assert "1 broken" in page
    assert f"Voucher {unsent.voucher_id} of JS101 was issued (issuance {unsent.pk})" in page
    assert f"{len(CHECKS) - 1} checks found nothing" in page
    assert "asked for by staff" in page
    assert unsent.voucher
    assert unsent.email not in page
    assert unsent.voucher.code not in page


def test_one_click_heals_and_looks_again(staff: Client, unsent: Issuance) -> None:
    check_up("tests")

    response = staff.post(PAGE, {"heal": "issued_is_emailed"})

    assert "1 break healed." in said(response)
    assert Delivery.objects.get().issuance == unsent
    last = Checkup.objects.all()[0]
    assert last.findings == []
    assert logged(Checkup.objects.all()[1]) == ["Healed 1 of issued_is_emailed."]
    assert "The books are right." in shown(staff)


def test_healing_what_is_healed_does_nothing(staff: Client, unsent: Issuance) -> None:
    staff.post(PAGE, {"heal": "issued_is_emailed"})
    shown(staff)

    response = staff.post(PAGE, {"heal": "issued_is_emailed"})

    assert "healed" not in said(response)
    assert Delivery.objects.count() == 1


@pytest.mark.parametrize("name", ["seats_once", "no_such_check"])
def test_it_refuses_what_is_not_to_be_healed(staff: Client, unsent: Issuance, name: str) -> None:
    response = staff.post(PAGE, {"heal": name})

    assert said(response)
    assert not Delivery.objects.exists()


def test_what_is_for_a_person_has_no_button(staff: Client, unsent: Issuance) -> None:
    plant("DROP INDEX voucher_pool")
    staff.post(PAGE)

    page = shown(staff)
    assert "The constraint or index voucher_pool is missing." in page
    assert "Restore it as the migrations make it" in page
    assert page.count('name="heal"') == 1  # of the email


def test_what_cannot_be_healed_is_said(staff: Client, unsent: Issuance) -> None:
    CourseFactory.create(id="PY201")
    plant(f"UPDATE vouchers_issuance SET course_id = 'PY201' WHERE id = {unsent.pk}")

    response = staff.post(PAGE, {"heal": "owed_is_held"})

    assert "that voucher is of another course. Find out which of the two is right" in said(response)
    assert logged(Checkup.objects.all()[1]) == ["Healed 0 of owed_is_held; 1 left to a person."]


class TestPermissions:
    def test_others_see_nothing(self) -> None:
        assert log_in("view_voucher").get(PAGE).status_code == 403
        assert Client().get(PAGE).status_code == 302

    def test_who_may_only_look_has_no_buttons(self, unsent: Issuance) -> None:
        check_up("tests")
        looking = log_in("view_checkup")

        page = shown(looking)

        assert "1 broken" in page
        assert "Check now" not in page
        assert 'name="heal"' not in page

    @pytest.mark.parametrize("asked", [{}, {"heal": "issued_is_emailed"}])
    def test_who_may_only_look_does_nothing(self, unsent: Issuance, asked: dict[str, str]) -> None:
        assert log_in("view_checkup").post(PAGE, asked).status_code == 403
        assert not Checkup.objects.exists()
        assert not Delivery.objects.exists()

    def test_it_is_reached_from_the_index_by_whoever_may_see_it(self, staff: Client) -> None:
        assert staff.get("/admin/vouchers/checkup/")["Location"] == PAGE
        assert "/admin/vouchers/checkup/" in staff.get("/admin/").content.decode()
        assert "/admin/vouchers/checkup/" not in log_in("view_voucher").get("/admin/").content.decode()

    def test_a_forged_form_is_refused(self, unsent: Issuance) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(UserFactory.create())
        assert strict.post(PAGE, {"heal": "issued_is_emailed"}).status_code == 403
        assert not Delivery.objects.exists()


class TestLargeBooks:
    @pytest.fixture(autouse=True)
    def _large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rounds, "SMALL_BOOKS", -1)

    def test_the_worker_is_asked(self, staff: Client) -> None:
        staff.post(PAGE)

        checkup = Checkup.objects.get()
        assert checkup.finished_at is None
        job = ProcrastinateJob.objects.get(task_name="vouchers.tasks.check_books")
        assert job.args == {"checkup_id": checkup.pk}
        page = shown(staff)
        assert "The books are being checked." in page
        assert "Check now" not in page
        assert 'data-every="2"' in page

    def test_asking_again_meanwhile_is_the_same_asking(self, staff: Client) -> None:
        staff.post(PAGE)
        staff.post(PAGE)
        assert Checkup.objects.count() == 1

    def test_the_page_loads_anew_when_the_worker_is_done(self, staff: Client) -> None:
        staff.post(PAGE)
        asks = {"HX-Request": "true"}
        assert "HX-Refresh" not in staff.get(PAGE, headers=asks)

        rounds.carry_out(Checkup.objects.get())

        assert staff.get(PAGE, headers=asks)["HX-Refresh"] == "true"
        assert "The books are right." in shown(staff)

    def test_one_whose_worker_was_killed_is_not_waited_for(self, staff: Client) -> None:
        staff.post(PAGE)
        Checkup.objects.update(started_at="2026-01-01T00:00Z")

        page = shown(staff)

        assert "The last check did not finish." in page
        assert "Check now" in page


def test_it_shows_earlier_checkups(
    staff: Client, unsent: Issuance, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for actor in ("the clock", "command line", "user:0"):
        check_up(actor)
    first = Checkup.objects.last()
    assert first
    with django_assert_num_queries(7):
        page = shown(staff)
    assert page.count("1 break</td>") == 2
    assert "the command line" in page
    assert "was issued" in staff.get(f"/admin/vouchers/checkup/{first.pk}/change/").content.decode()
