"""What a live page of the admin answers when it asks again. In a browser: tests/test_browser_live.py."""

from __future__ import annotations

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import CourseFactory, issue_to, make_pool
from tests.staff import log_in
from vouchers.admin.live import live_answer

pytestmark = pytest.mark.django_db
LIST = "/admin/courses/course/"


def ask(client: Client, etag: str = "", **query: str) -> HttpResponse:
    """As the page asks, which has seen `etag`."""
    headers = {"HX-Request": "true"} | ({"If-None-Match": etag} if etag else {})
    response = client.get(LIST, query, headers=headers)
    assert isinstance(response, HttpResponse)
    return response


def test_it_answers_the_table_alone(admin_client: Client, course: Course) -> None:
    make_pool(course, 3)

    response = ask(admin_client)

    assert response.status_code == 200
    page = response.content.decode()
    assert 'id="result_list"' in page
    assert 'aria-label="3 of 3 remaining"' in page
    assert "1 course" in page
    for elsewhere in ("<html", "<form", "<script", "csrfmiddlewaretoken", "changelist-search"):
        assert elsewhere not in page


def test_the_table_is_the_one_of_the_whole_page(admin_client: Client, course: Course) -> None:
    make_pool(course, 3)

    assert ask(admin_client).content.decode() in admin_client.get(LIST).content.decode()


def test_it_answers_304_until_something_changes(admin_client: Client, course: Course) -> None:
    seen = ask(admin_client).headers["ETag"]

    same = ask(admin_client, seen)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", seen)

    issue_to(course)
    changed = ask(admin_client, seen)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != seen


def test_no_cache_may_keep_it_or_mistake_it_for_the_page(admin_client: Client, course: Course) -> None:
    for response in (ask(admin_client), ask(admin_client, "*"), admin_client.get(LIST)):
        assert "HX-Request" in response.headers["Vary"]
        assert {"private", "no-cache"} <= set(response.headers["Cache-Control"].split(", "))


def test_it_follows_search_and_order(admin_client: Client) -> None:
    for name in ("QX1", "QX2", "RX1"):
        CourseFactory.create(id=name)

    page = ask(admin_client, q="QX", o="-1").content.decode()

    assert "RX1" not in page
    assert page.index("QX2") < page.index("QX1")


@pytest.mark.parametrize("number", [1, 40])
def test_it_reads_all_counts_in_one_statement(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    for course in CourseFactory.create_batch(number):
        make_pool(course, 2)
    seen = ask(admin_client).headers["ETag"]

    # The session, the user, five looks at what waits for a person, the courses with their counts, whether emails
    # were kept.
    with django_assert_num_queries(9):
        assert ask(admin_client, seen).status_code == 304


def test_it_leads_to_the_log_in_page_without_a_session(client: Client, course: Course) -> None:
    response = ask(client)

    assert response.status_code == 302
    assert response.headers["Location"] == "/admin/login/?next=/admin/courses/course/"


def test_it_is_not_for_those_who_may_not_look(course: Course) -> None:
    assert ask(log_in("view_voucher")).status_code == 403


def test_it_shows_each_person_the_doors_they_may_open(course: Course) -> None:
    assert "/admin/vouchers/batch/add/" in ask(log_in("view_course", "add_batch")).content.decode()
    assert "/admin/vouchers/batch/add/" not in ask(log_in("view_course")).content.decode()


def test_it_leaves_messages_to_the_whole_page(admin_client: Client, course: Course) -> None:
    CourseFactory.create(id="PY200")
    admin_client.post(LIST, {"action": "upload_codes", "_selected_action": ["JS101", "PY200"]})

    ask(admin_client)

    assert "Choose one course" in admin_client.get(LIST).content.decode()


def test_it_is_sent_on_like_the_page(admin_client: Client, course: Course) -> None:
    response = ask(admin_client, nonsense="1")

    assert (response.status_code, response.headers["Location"]) == (302, "/admin/courses/course/?e=1")


def test_it_has_the_page_loaded_anew_when_all_is_over(rf: RequestFactory) -> None:
    response = live_answer(rf.get("/"), "admin/courses/course/results.html", {}, finished=True)

    assert response.headers["HX-Refresh"] == "true"
