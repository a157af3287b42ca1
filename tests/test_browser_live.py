"""The summary in a real browser, while the desk works."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, Request, Response, expect

from tests.browser import log_in
from tests.running import Desk

LIST = "/admin/courses/course/"
LOST = re.compile(r"No answer from the desk since \d\d:\d\d:\d\d; trying again…")


@pytest.fixture(scope="module")
def key(staff: Desk) -> str:
    return staff.manage("create_api_key", "browser", "--scope", "issue", "--scope", "manage")


@pytest.fixture(autouse=True, scope="module")
def courses(staff: Desk) -> None:
    """C100 to C209: more than a page of the list holds. What a test adds sorts before them."""
    staff.manage(
        "shell",
        "-c",
        "from courses.models import Course;"
        "print([Course.objects.create(id=f'C{n}', name=f'All about C{n}') for n in range(100, 210)])",
    )


def add_courses(page: Page, *names: str) -> None:
    for name in names:
        rules = {"currency": "usd", "redemption": "bearer", "reveal": "email", "minimum_validity_days": "0"}
        submit(page, "add/", id=name, name=f"All about {name}", **rules)


def delete_course(page: Page, name: str) -> None:
    submit(page, f"{name}/delete/", post="yes")


def submit(page: Page, form: str, **fields: str) -> None:
    """As the same person does in another tab."""
    [token] = [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken"]
    sent: dict[str, str | float | bool] = {**fields, "csrfmiddlewaretoken": token}
    answer = page.request.post(LIST + form, form=sent, max_redirects=0)
    assert answer.status == 302, answer.text()


def upload(desk: Desk, key: str, course: str, *codes: str) -> None:
    desk.call(
        "POST", "/api/admin/vouchers/upload", key, json={"courseId": course, "vouchers": codes}
    ).raise_for_status()


def open_list(page: Page) -> None:
    """With a clock that can be put forward, so that no test waits for the next look."""
    page.clock.install()
    page.goto(LIST)


def is_look(response: Response) -> bool:
    return response.request.headers.get("hx-request") == "true"


def look(page: Page) -> Response:
    """The next time the page looks at the desk."""
    with page.expect_response(is_look) as answer:
        page.clock.fast_forward(3000)
    return answer.value


def looks_from_now(page: Page) -> list[Request]:
    looks: list[Request] = []
    page.on("request", lambda request: looks.append(request) if "hx-request" in request.headers else None)
    return looks


def pass_time(page: Page, seconds: int) -> None:
    page.clock.fast_forward(1000 * seconds)
    page.evaluate("fetch('/healthz')")  # comes after whatever the clock has set off


def row(page: Page, course: str) -> Locator:
    return page.locator("#result_list tbody tr").filter(has=page.get_by_role("link", name=course, exact=True))


def shown(page: Page) -> list[str]:
    return page.locator("#result_list tbody th").all_inner_texts()


def test_it_counts_on_while_codes_are_uploaded_and_issued(page: Page, staff: Desk, key: str) -> None:
    open_list(page)
    page.add_style_tag(content=".desk-changed { animation-duration: 1000s !important; }")
    counts = row(page, "C110").locator(".field-total, .field-issued, .desk-number")
    expect(counts).to_have_text(["0", "0", "0"])

    upload(staff, key, "C110", "C110-1", "C110-2", "C110-3")
    look(page)
    expect(counts).to_have_text(["3", "0", "3"])

    issue = staff.call("POST", "/issue-voucher", key, json={"courseId": "C110", "email": "ann@example.com"})
    assert issue.status_code == 201
    look(page)
    expect(counts).to_have_text(["3", "1", "2"])
    expect(row(page, "C110").locator(".desk-changed")).to_have_text(["1", "2"])
    expect(row(page, "C111").locator(".desk-changed")).to_have_count(0)


def test_it_leaves_alone_what_a_person_holds(page: Page, staff: Desk, key: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 400})
    open_list(page)
    mine = row(page, "C130")
    mine.get_by_role("checkbox").check()
    mine.get_by_role("link", name="Issue").focus()
    row(page, "C131").locator(".field-name").evaluate("cell => getSelection().selectAllChildren(cell)")
    held = page.evaluate_handle("[document.activeElement, document.querySelector('#result_list')]")
    place = mine.bounding_box()
    assert place

    upload(staff, key, "C130", "C130-1", "C130-2")
    add_courses(page, "A1")
    look(page)

    expect(mine.locator(".desk-number")).to_have_text("2")
    expect(row(page, "A1")).to_be_visible()
    expect(mine.get_by_role("checkbox")).to_be_checked()
    expect(mine).to_have_class(re.compile("selected"))
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(1)
    expect(page.locator(".action-counter")).to_have_text(re.compile(r"1 of \d+ selected"))
    assert page.evaluate("held => held[0] === document.activeElement && held[1].isConnected", held)
    assert page.evaluate("getSelection().toString()") == "All about C131"
    assert page.evaluate("scrollY") > 0
    assert mine.bounding_box() == place


def test_it_shows_new_courses_and_drops_deleted_ones(page: Page) -> None:
    add_courses(page, "B1", "B2", "B3")
    open_list(page)
    row(page, "B2").get_by_role("checkbox").check()

    add_courses(page, "B15")
    delete_course(page, "B2")
    look(page)

    expect(row(page, "B2")).to_have_count(0)
    assert [name for name in shown(page) if name.startswith("B")] == ["B1", "B15", "B3"]
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(0)
    expect(page.locator(".action-counter")).to_have_text(re.compile("0 of "))


def test_it_chooses_new_courses_with_all_others(page: Page) -> None:
    open_list(page)
    everything = page.locator("#action-toggle")
    everything.check()

    add_courses(page, "A2")
    look(page)
    expect(everything).not_to_be_checked()
    expect(row(page, "A2").get_by_role("checkbox")).not_to_be_checked()
    expect(row(page, "C110").get_by_role("checkbox")).to_be_checked()

    everything.check()
    expect(row(page, "A2").get_by_role("checkbox")).to_be_checked()
    number = page.locator("input.action-select").count()
    expect(page.locator(".action-counter")).to_have_text(f"{number} of {number} selected")


def test_it_keeps_courses_of_all_pages_chosen(page: Page) -> None:
    open_list(page)
    page.locator("#action-toggle").check()
    page.get_by_role("button", name=re.compile("Select all .* courses")).click()

    add_courses(page, "A3")
    look(page)

    expect(row(page, "A3").get_by_role("checkbox")).to_be_checked()
    expect(page.locator("input.action-select:not(:checked)")).to_have_count(0)
    expect(page.locator("input.select-across")).to_have_value("1")


def test_it_begins_with_no_course_at_all(page: Page) -> None:
    page.clock.install()
    page.goto(f"{LIST}?q=Late")
    expect(page.locator("#result_list")).to_have_count(0)

    add_courses(page, "Late1", "Late2")
    look(page)

    page.locator("#action-toggle").check()
    expect(page.get_by_role("checkbox", checked=True)).to_have_count(3)
    expect(page.locator(".action-counter")).to_have_text("2 of 2 selected")


def set_hidden(page: Page, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_it_rests_while_nobody_looks(page: Page) -> None:
    open_list(page)
    look(page)

    looks = looks_from_now(page)
    set_hidden(page, True)
    pass_time(page, 600)
    assert not looks

    with page.expect_response(is_look):
        set_hidden(page, False)


def test_it_says_when_the_desk_is_lost_and_when_it_is_back(page: Page, troubles: list[str]) -> None:
    open_list(page)
    said = page.get_by_role("status")
    expect(said).to_be_empty()
    before = shown(page)

    page.route(f"**{LIST}", lambda route: route.abort())
    page.clock.fast_forward(3000)
    expect(said).to_have_text(LOST)
    expect(said).to_be_in_viewport()

    page.unroute(f"**{LIST}")
    look(page)
    expect(said).to_be_empty()

    page.route(f"**{LIST}", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    look(page)
    expect(said).to_have_text(LOST)

    page.unroute(f"**{LIST}")
    look(page)
    expect(said).to_be_empty()
    assert shown(page) == before
    troubles.clear()


def test_it_does_not_wait_for_an_answer_for_ever(page: Page, troubles: list[str]) -> None:
    open_list(page)

    page.route(f"**{LIST}", lambda _: None)
    with page.expect_request(f"**{LIST}"):
        page.clock.fast_forward(3000)
    page.clock.fast_forward(8000)
    expect(page.get_by_role("status")).to_have_text(LOST)
    page.unroute(f"**{LIST}")

    look(page)
    expect(page.get_by_role("status")).to_be_empty()
    troubles.clear()


def test_it_stops_where_there_is_no_page_any_more(page: Page, troubles: list[str]) -> None:
    open_list(page)
    before = shown(page)

    page.route(f"**{LIST}", lambda route: route.fulfill(status=404, body="<h1>Not found</h1>"))
    look(page)

    expect(page.get_by_role("status")).to_have_text("This page is not shown any more. Load it again")
    assert shown(page) == before
    looks = looks_from_now(page)
    pass_time(page, 60)
    assert not looks
    troubles.clear()


def test_it_loads_the_whole_page_when_the_desk_says_so(page: Page) -> None:
    open_list(page)

    page.route(f"**{LIST}", lambda route: route.fulfill(headers={"HX-Refresh": "true"}), times=1)
    with page.expect_event("load"):
        page.clock.fast_forward(3000)

    expect(row(page, "C110")).to_be_visible()


def test_it_says_when_the_session_has_ended(page: Page) -> None:
    page.clock.install()
    page.goto(f"{LIST}?q=C11&o=-1")
    before = shown(page)
    other = page.context.new_page()
    other.goto("/admin/")
    other.get_by_role("button", name="Log out").click()
    other.wait_for_url("/admin/logout/")

    look(page)
    expect(page.get_by_role("status")).to_have_text("You are logged out. Log in again")
    assert shown(page) == before
    looks = looks_from_now(page)
    pass_time(page, 60)
    assert not looks

    page.get_by_role("link", name="Log in again").click()
    log_in(page)
    page.wait_for_url(f"{LIST}?q=C11&o=-1")
    assert shown(page) == before


def test_it_asks_by_itself_and_is_told_when_nothing_changed(page: Page) -> None:
    with page.expect_response(is_look) as first:  # by the real clock
        page.goto(LIST)
    with page.expect_response(is_look) as second:
        pass

    assert (first.value.status, second.value.status) == (200, 304)
    assert second.value.request.headers["if-none-match"] == first.value.headers["etag"]
