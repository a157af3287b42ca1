"""The courses of the shop, and what holds for all of its pages. In a browser: tests/test_browser_shop.py."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import CourseFactory, PurchaseFactory, make_pool
from tests.shop import CHECKOUT, CODE, begun, get, page_of, pay, send, text_of

pytest_plugins = ["tests.shop"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("demo_payments")]


class TestCourses:
    def test_it_lists_courses_with_their_prices_and_ways_in(self, client: Client, pool: Course) -> None:
        page = text_of(get(client, "/"))
        assert "JavaScript Basics" in page
        assert "49.00 USD" in page
        assert 'href="/courses/JS101"' in page

    @pytest.mark.parametrize(
        ("fields", "tag"),
        [
            ({"on_sale": False}, "Not on sale"),
            ({"price": None}, "With a voucher"),
            ({"price": 0}, "With a voucher"),
            ({"stop_when_empty": True}, "Sold out"),
            ({}, "With a waiting list"),
        ],
    )
    def test_it_says_what_keeps_a_course_from_being_bought(
        self, client: Client, fields: dict[str, Any], tag: str
    ) -> None:
        CourseFactory.create(**({"price": 49} | fields))
        assert f'<p class="tag">{tag}</p>' in text_of(get(client, "/"))

    def test_a_course_sells_again_once_there_are_codes(self, client: Client) -> None:
        make_pool(CourseFactory.create(price=49, stop_when_empty=True), 1)
        assert "tag" not in text_of(get(client, "/"))

    def test_codes_that_are_valid_too_shortly_are_none(self, client: Client) -> None:
        course = CourseFactory.create(price=49, stop_when_empty=True, minimum_validity_days=10)
        make_pool(course, 1, expires_on=timezone.localdate() + dt.timedelta(days=9))
        assert "Sold out" in text_of(get(client, "/"))

    def test_it_lists_those_on_sale_first(self, client: Client) -> None:
        CourseFactory.create(name="A first", on_sale=False)
        CourseFactory.create(name="Z last")
        page = text_of(get(client, "/"))
        assert page.index("Z last") < page.index("A first")

    def test_it_says_that_there_is_nothing_yet(self, client: Client) -> None:
        assert "There are no courses here yet." in text_of(get(client, "/"))

    def test_it_asks_once_however_many_courses(
        self, client: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for _ in range(5):
            make_pool(CourseFactory.create(price=49, stop_when_empty=True), 2)
        with django_assert_num_queries(3):  # the courses; and, twice, whether a key is kept in the admin
            get(client, "/")

    def test_names_and_descriptions_are_text(self, client: Client) -> None:
        name = "<script>alert('&')</script>"
        course = CourseFactory.create(name=name, description=name, price=1)
        purchase = PurchaseFactory.create(course=course)
        paths = ["/", f"/courses/{course.pk}", f"/courses/{course.pk}/checkout", page_of(purchase)]
        for path in paths:
            page = get(client, path).content.decode()
            assert "<script>alert" not in page, path
            assert "&lt;script&gt;" in page, path


class TestCourse:
    def test_it_shows_the_course_and_the_way_to_buy_it(self, client: Client, pool: Course) -> None:
        Course.objects.update(description="All about closures.\n\nAnd promises.")
        page = text_of(get(client, "/courses/JS101"))
        assert "<title>JavaScript Basics · " in page
        assert "<p>And promises.</p>" in page
        assert "49.00 USD" in page
        assert f'<a class="button" href="{CHECKOUT}">Buy</a>' in page

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"on_sale": False}, "not on sale just now"),
            ({"price": None}, "to be had with a voucher"),
            ({"stop_when_empty": True}, "Sold out just now"),
        ],
    )
    def test_it_offers_only_to_redeem_where_it_cannot_be_bought(
        self, client: Client, priced: Course, fields: dict[str, Any], sentence: str
    ) -> None:
        Course.objects.update(**fields)
        page = text_of(get(client, "/courses/JS101"))
        assert sentence in page
        assert "Redeem a voucher" in page
        assert ">Buy<" not in page

    def test_it_says_so_where_no_payments_are_set_up(self, client: Client, pool: Course, settings: Any) -> None:
        settings.DEMO_PAYMENTS = False
        page = text_of(get(client, "/courses/JS101"))
        assert "It cannot be bought here just now" in page
        assert ">Buy<" not in page

    def test_it_tells_of_the_queue_before_anybody_pays(self, client: Client, priced: Course) -> None:
        assert "No codes are left just now." in text_of(get(client, "/courses/JS101"))
        assert "No codes are left just now." in text_of(get(client, CHECKOUT))

    def test_it_asks_a_fixed_number_of_questions(
        self, client: Client, pool: Course, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_num_queries(4):  # the course, whether it has codes; twice, whether there is a key
            get(client, "/courses/JS101")
        Course.objects.update(stop_when_empty=True)
        with django_assert_num_queries(6):  # and whether there are more than wait
            get(client, "/courses/JS101")

    @pytest.mark.parametrize("path", ["/courses/NONE", "/courses/NONE/checkout", "/courses/js101", "/courses/%00"])
    def test_an_unknown_course_is_a_page_that_says_so(self, client: Client, course: Course, path: str) -> None:
        response = get(client, path)
        assert response.status_code == 404
        assert "There is no course" in text_of(response)
        assert "All courses" in text_of(response)

    @pytest.mark.parametrize("path", ["/nowhere", "/courses", "/courses/", "/purchases/"])
    def test_an_unknown_address_is_a_page_in_the_shops_look(self, client: Client, path: str) -> None:
        response = get(client, path)
        assert response.status_code == 404
        assert "There is nothing at this address." in text_of(response)
        assert "shop/shop.css" in text_of(response)

    def test_pages_to_look_at_take_no_posts(self, client: Client, course: Course) -> None:
        assert [client.post(path).status_code for path in ("/", "/courses/JS101", "/purchases/x")] == [405] * 3


def test_no_address_holds_a_code_or_an_email(client: Client, pool: Course, webhook: None) -> None:
    purchase = begun(pool)
    pay(client, purchase)
    pages = [get(client, "/"), get(client, CHECKOUT), get(client, page_of(purchase)), send(client, code="NONE-0001")]
    redirects = [send(client), send(client, code=CODE)]
    addresses = [response["Location"] for response in redirects]
    addresses += [a for page in pages for a in re.findall(r'(?:href|action|src)="([^"]*)"', text_of(page))]
    for address in addresses:
        assert "@" not in address
        assert not re.search(r"(?i)(code|none)-", address)
        assert CODE not in address


def test_every_page_has_a_language_a_title_and_a_way_past_the_top(client: Client, pool: Course) -> None:
    purchase = PurchaseFactory.create(course=pool)
    paths = ["/", "/courses/JS101", CHECKOUT, page_of(purchase), f"/test-payment/{begun(pool).checkout}", "/nowhere"]
    titles = set()
    for path in paths:
        page = text_of(get(client, path))
        assert '<html lang="en">' in page
        assert page.count("<h1") == 1, path
        assert '<a class="skip" href="#main">' in page
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page), path
        title = re.search("<title>(.+?)</title>", page)
        assert title
        titles.add(title[1])
    assert len(titles) == len(paths)
