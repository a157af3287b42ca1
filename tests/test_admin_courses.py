"""The course list of the admin, which is the summary, and the pages of courses."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from courses.models import Course
from tests.factories import CourseFactory, PurchaseFactory, issue_to, make_pool, queue_emails
from tests.staff import log_in, said
from vouchers.admin.courses import CourseAdmin
from vouchers.models import Checkup, Delivery, Issuance

pytestmark = pytest.mark.django_db
LIST = "/admin/courses/course/"
JS101 = "/admin/courses/course/JS101/change/"


def rows(client: Client, **query: str) -> dict[str, dict[str, int]]:
    """What the list counts, by course, in the order of the page."""
    names = ("total", "issued", "remaining", "redeemed", "waiting")
    shown = client.get(LIST, query).context["cl"].result_list
    return {course.pk: {name: getattr(course, name) for name in names} for course in shown}


def test_it_counts_what_the_summary_counts(admin_client: Client, course: Course) -> None:
    make_pool(course, 3)
    issue_to(course)
    empty = CourseFactory.create(id="PY200")
    issue_to(empty)

    assert rows(admin_client) == {
        "JS101": {"total": 3, "issued": 1, "remaining": 2, "redeemed": 0, "waiting": 0},
        "PY200": {"total": 0, "issued": 0, "remaining": 0, "redeemed": 0, "waiting": 1},
    }


@pytest.mark.parametrize("number", [1, 40])
def test_it_reads_all_counts_in_one_statement(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries, number: int
) -> None:
    for course in CourseFactory.create_batch(number):
        make_pool(course, 2)
    admin_client.get(LIST)

    # The session, the user, five looks at what waits for a person, the courses with their counts, whether emails
    # were kept.
    with django_assert_num_queries(9) as queries:
        admin_client.get(LIST)

    counts = [query["sql"] for query in queries.captured_queries if 'JOIN "vouchers_tally"' in query["sql"]]
    assert len(counts) == 1
    assert 'AS "undelivered"' in counts[0]
    # Another term in it would be worked out for every row that is counted.
    assert 'GROUP BY "courses_course"."id" ORDER BY' in counts[0]


def test_it_turns_pages(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CourseAdmin, "list_per_page", 2)
    for name in "ABC":
        CourseFactory.create(id=name)

    assert list(rows(admin_client)) == ["A", "B"]
    assert list(rows(admin_client, p="2")) == ["C"]
    assert "3 courses" in admin_client.get(LIST).content.decode()


def test_it_searches_in_the_chosen_order_and_leads_back(admin_client: Client) -> None:
    for name in ("QX1", "QX2", "RX1"):
        CourseFactory.create(id=name)

    assert list(rows(admin_client, q="QX", o="-1")) == ["QX2", "QX1"]
    page = admin_client.get(LIST, {"q": "QX", "o": "-1"}).content.decode()
    assert '<input type="hidden" name="o" value="-1">' in page
    assert '<a href="?">Show all</a>' in page
    assert "Show all" not in admin_client.get(LIST).content.decode()


def test_it_says_what_remains_in_text_and_as_a_bar(admin_client: Client, course: Course) -> None:
    make_pool(course, 4)
    issue_to(course)

    page = admin_client.get(LIST).content.decode()

    assert 'role="img" aria-label="3 of 4 remaining"' in page
    assert 'width="75.0"' in page


def test_it_leads_to_the_queue_of_a_course(admin_client: Client, course: Course) -> None:
    issue_to(course)

    assert "/admin/vouchers/issuance/?course__id__exact=JS101&amp;status__exact=waiting" in (
        admin_client.get(LIST).content.decode()
    )


def bounce(course: Course, *buyers: str) -> None:
    now = timezone.now()
    lost = [email.pk for email in queue_emails(course, *buyers)]
    Delivery.objects.filter(pk__in=lost).update(status="sent", sent_at=now, fate="bounced", fate_at=now)


def test_it_counts_the_emails_that_did_not_arrive_and_leads_to_them(admin_client: Client, course: Course) -> None:
    other = CourseFactory.create(id="PY200")
    bounce(course, "ann@example.com", "bob@example.com")
    bounce(other, "ann@example.com")
    CourseFactory.create(id="QUIET")
    queue_emails(other, "cy@example.com")

    page = admin_client.get(LIST)

    counted = {row.pk: row.undelivered for row in page.context["cl"].result_list}
    assert counted == {"JS101": 2, "PY200": 1, "QUIET": 0}
    for name in ("JS101", "PY200"):
        link = f"/admin/vouchers/delivery/?trouble={name}"
        assert f'<a class="desk-badge desk-failed" href="{link}">{counted[name]}</a>' in page.content.decode()
        assert admin_client.get(link).context["cl"].result_count == counted[name]
    assert "trouble=QUIET" not in page.content.decode()
    # Columns count from the checkbox; the eighth one.
    assert list(rows(admin_client, o="-8.1")) == ["JS101", "PY200", "QUIET"]


def test_it_counts_the_news_of_waiting_buyers_that_did_not_arrive(admin_client: Client, course: Course) -> None:
    purchase = PurchaseFactory.create(course=course)
    Issuance.objects.create(course=course, purchase=purchase, unit=1, email=purchase.email, caller="tests")
    Delivery.objects.create(
        kind="waiting", purchase=purchase, email=purchase.email, message_id="<1@desk>", status="failed"
    )

    assert [row.undelivered for row in admin_client.get(LIST).context["cl"].result_list] == [1]


def test_it_counts_the_newest_of_very_many(
    admin_client: Client, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vouchers.admin.courses.MOST", 3)
    bounce(course, "ann@example.com", "bob@example.com")
    bounce(CourseFactory.create(id="PY200"), "ann@example.com", "bob@example.com")

    counted = {row.pk: row.undelivered for row in admin_client.get(LIST).context["cl"].result_list}
    assert counted == {"JS101": 1, "PY200": 2}


def to_do(client: Client) -> dict[str, str]:
    return dict(client.get(LIST).context["to_do"])


def test_it_says_which_emails_could_not_be_delivered(admin_client: Client, course: Course) -> None:
    bounce(course, "ann@example.com", "bob@example.com")

    assert to_do(admin_client) == {"2 emails could not be delivered": "/admin/vouchers/delivery/?trouble=all"}


def test_it_counts_no_further_than_many(admin_client: Client, course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchers.admin.courses.MANY", 2)
    bounce(course, "ann@example.com", "bob@example.com")
    assert "2 emails could not be delivered" in to_do(admin_client)

    bounce(course, "cy@example.com")
    assert "More than 2 emails could not be delivered" in to_do(admin_client)


def test_it_says_since_when_emails_wait_for_the_mail_server(admin_client: Client, course: Course) -> None:
    queue_emails(course, "ann@example.com", "bob@example.com", "cy@example.com")
    at = dt.datetime(2025, 5, 1, 12, 34, tzinfo=timezone.get_current_timezone())
    old = Delivery.objects.exclude(email="cy@example.com")
    old.update(last_error="No connection")
    assert to_do(admin_client) == {}

    old.filter(email="ann@example.com").update(created_at=at)
    old.filter(email="bob@example.com").update(created_at=at + dt.timedelta(days=1))

    assert to_do(admin_client) == {
        "2 emails waiting for the mail server since 2025-05-01 12:34": "/admin/vouchers/delivery/?state=late"
    }


def test_it_says_what_the_last_look_at_the_books_found(admin_client: Client) -> None:
    def look(*counts: int, finished: bool = True) -> None:
        findings = [{"check": "c", "count": count, "healable": True, "sentences": []} for count in counts]
        Checkup.objects.create(actor="clock", findings=findings, finished_at=timezone.now() if finished else None)

    look(2, 3)
    look(finished=False)
    assert to_do(admin_client) == {"5 breaks in the books": "/admin/doctor/"}

    look()
    assert to_do(admin_client) == {}


def test_it_says_to_each_person_what_they_may_look_after(course: Course) -> None:
    bounce(course, "ann@example.com")
    Checkup.objects.create(
        actor="clock",
        findings=[{"check": "c", "count": 1, "healable": True, "sentences": []}],
        finished_at=timezone.now(),
    )
    PurchaseFactory.create(review="Too little.")

    assert to_do(log_in("view_course")) == {}
    for permission, sentence in (
        ("view_delivery", "1 email could not be delivered"),
        ("view_checkup", "1 break in the books"),
        ("view_purchase", "1 payment to be reviewed"),
    ):
        assert list(to_do(log_in("view_course", permission))) == [sentence]


def test_it_sorts_by_what_remains(admin_client: Client) -> None:
    few, many = CourseFactory.create(id="A"), CourseFactory.create(id="B")
    make_pool(few, 1)
    make_pool(many, 2)

    # Columns count from the checkbox: id, name, total, issued, remaining.
    assert list(rows(admin_client, o="-5")) == ["B", "A"]
    assert list(rows(admin_client, o="5")) == ["A", "B"]


def test_it_shows_each_person_the_doors_they_may_open(course: Course) -> None:
    everything = log_in("view_course", "add_batch", "issue_voucher", "view_voucher").get(LIST).content.decode()
    nothing = log_in("view_course").get(LIST).content.decode()

    for door in (
        "/admin/vouchers/batch/add/?course=JS101",
        "/admin/vouchers/issuance/add/?course=JS101",
        "/admin/vouchers/voucher/?course__id__exact=JS101",
    ):
        assert door in everything
        assert door not in nothing


def test_it_leads_from_one_chosen_course_to_the_upload(admin_client: Client, course: Course) -> None:
    response = admin_client.post(LIST, {"action": "upload_codes", "_selected_action": ["JS101"]})

    assert response.headers["Location"] == "/admin/vouchers/batch/add/?course=JS101"


def test_it_wants_one_course_for_an_upload(admin_client: Client, course: Course) -> None:
    CourseFactory.create(id="PY200")

    response = admin_client.post(LIST, {"action": "upload_codes", "_selected_action": ["JS101", "PY200"]})

    assert "Choose one course" in said(response)


def test_it_escapes_names(admin_client: Client) -> None:
    CourseFactory.create(id="XSS", name="<script>alert(1)</script>")

    for address in (LIST, "/admin/courses/course/XSS/change/", "/admin/vouchers/batch/add/?course=XSS"):
        page = admin_client.get(address).content.decode()
        assert "<script>alert(1)" not in page
        assert "&lt;script&gt;alert(1)" in page


def fields(**changes: str) -> dict[str, str]:
    """The form of JS101 as a browser sends it: with what each field held when the page was opened."""
    held = {
        "name": "JavaScript Basics",
        "price": "",
        "currency": "usd",
        "on_sale": "on",
        "redemption": "bearer",
        "minimum_validity_days": "0",
        "offer_refund_days": "7",
        "reveal": "email",
        "warn_before_days": "7",
    }
    opened = {f"initial-{name}": value for name, value in held.items()} | {"initial-on_sale": "True"}
    return held | opened | changes


def test_it_writes_only_what_this_person_changed(admin_client: Client, course: Course) -> None:
    Course.objects.update(price=49, minimum_validity_days=7)  # by somebody else, while the page was open

    response = admin_client.post(JS101, fields(name="JavaScript"))

    assert response.status_code == 302, response.context["errors"]
    course.refresh_from_db()
    assert (course.name, course.price, course.minimum_validity_days) == ("JavaScript", Decimal(49), 7)
    assert LogEntry.objects.get().get_change_message() == "Changed Name."


def test_it_updates_the_named_columns_alone(
    admin_client: Client, course: Course, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(20) as queries:
        admin_client.post(JS101, fields(currency="eur"))

    [update] = [q["sql"] for q in queries.captured_queries if q["sql"].startswith('UPDATE "courses_course"')]
    assert update == """UPDATE "courses_course" SET "currency" = 'eur' WHERE "courses_course"."id" = 'JS101'"""


def test_it_sets_where_codes_are_seen_and_when_buyers_are_reminded(admin_client: Client, course: Course) -> None:
    response = admin_client.post(JS101, fields(reveal="link", remind_after_days="3", warn_before_days=""))

    assert response.status_code == 302, response.context["errors"]
    course.refresh_from_db()
    assert (course.reveal, course.remind_after_days, course.warn_before_days) == ("link", 3, None)


@pytest.mark.parametrize("field", ["remind_after_days", "warn_before_days"])
def test_it_sets_no_time_that_is_none(admin_client: Client, course: Course, field: str) -> None:
    response = admin_client.post(JS101, fields(**{field: "0"}))

    assert "greater than or equal to 1" in response.content.decode()
    course.refresh_from_db()
    assert (course.remind_after_days, course.warn_before_days) == (None, 7)


def test_it_keeps_the_id_of_a_course(admin_client: Client, course: Course) -> None:
    admin_client.post(JS101, fields(id="PY200"))

    assert Course.objects.get().pk == "JS101"


def test_it_makes_a_course(admin_client: Client) -> None:
    response = admin_client.post("/admin/courses/course/add/", fields(id="GO.1"))

    assert response.status_code == 302, response.context["errors"]
    assert Course.objects.get().pk == "GO.1"


def test_it_refuses_a_price_without_coins_for_it(admin_client: Client) -> None:
    response = admin_client.post("/admin/courses/course/add/", fields(id="JP1", price="48.50", currency="jpy"))

    assert "JPY has no coins that small." in response.content.decode()
    assert not Course.objects.exists()


def test_it_refuses_an_id_that_is_taken(admin_client: Client, course: Course) -> None:
    response = admin_client.post("/admin/courses/course/add/", fields(id="js101", name="Another"))

    assert response.status_code == 200
    assert response.context["errors"]
    assert Course.objects.get().name == "JavaScript Basics"


def test_it_deletes_a_course_that_nothing_belongs_to(admin_client: Client, course: Course) -> None:
    admin_client.post("/admin/courses/course/JS101/delete/", {"post": "yes"})

    assert not Course.objects.exists()


def test_it_does_not_delete_a_course_with_vouchers(admin_client: Client, course: Course) -> None:
    make_pool(course, 1)

    response = admin_client.post("/admin/courses/course/JS101/delete/", {"post": "yes"})

    assert response.status_code == 403
    assert Course.objects.exists()
    assert "delete" not in admin_client.get(LIST).context["action_form"].fields["action"].choices[0][0]


def test_it_does_not_let_those_who_may_look_change_anything(course: Course) -> None:
    response = log_in("view_course").post(JS101, fields(name="Hacked"))

    assert response.status_code == 403
    course.refresh_from_db()
    assert course.name == "JavaScript Basics"
