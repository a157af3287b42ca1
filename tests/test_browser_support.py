"""The support desk in a real browser: what a buyer tells, the answer to it, and the email that arrives after all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.racing import wait_until
from tests.running import Desk, running_desk
from tests.smtp_server import SmtpServer, running_smtp_server
from tests.test_browser_shop import FAINT_TEXTS

CODES = [f"JS101-XZ4B{n}Q-{n:03}" for n in range(9)]
# Of the texts of the support desk alone: the rest of the page is Django's.
OWN = ":is(.desk-support, .desk-search) :not([type=hidden])"
FAINT = FAINT_TEXTS.replace("body, body *:not(script, noscript)", OWN)
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def smtp_server() -> Iterator[SmtpServer]:
    with running_smtp_server() as server:
        yield server


@pytest.fixture(scope="module")
def shared_desk(smtp_server: SmtpServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk whose mail server these tests know."""
    with running_desk(tmp_path_factory.mktemp("desk"), smtp_server) as desk:
        yield desk


@pytest.fixture(scope="module")
def key(staff: Desk) -> str:
    staff.manage(
        "shell", "-c", "from courses.models import Course; Course.objects.create(id='JS101', name='JavaScript Basics')"
    )
    key = staff.manage("create_api_key", "shop", "--scope", "issue", "--scope", "redeem", "--scope", "manage")
    uploaded = staff.call("POST", "/api/admin/vouchers/upload", key, json={"courseId": "JS101", "vouchers": CODES})
    assert uploaded.status_code == 200
    return key


def issue(staff: Desk, key: str, email: str, order: str) -> str:
    """The code that a program was answered with."""
    answer = staff.call("POST", "/issue-voucher", key, json={"courseId": "JS101", "email": email, "orderId": order})
    assert answer.status_code == 201
    code: str = answer.json()["voucher"]["_id"]
    return code


def search_box(page: Page) -> Locator:
    return page.get_by_role("searchbox", name="Where is the code?")


def search(page: Page, term: str) -> None:
    search_box(page).fill(term)
    with page.expect_navigation():
        page.get_by_role("button", name="Find").click()


def test_whatever_a_buyer_tells_leads_to_the_timeline(page: Page, staff: Desk, key: str) -> None:
    code = issue(staff, key, "ann@example.com", "order-77")
    refused = staff.call("POST", "/redeem-voucher", key, json={"code": code, "courseId": "PY201"})
    assert refused.status_code == 404

    for term in ("Ann@Example.com", "order-77", code[6:12].lower(), code):
        page.goto("/admin/")
        search(page, term)
        expect(page.locator(".desk-sentence")).to_contain_text("Issued on")
        assert code not in page.url
        assert code not in page.content()
    timeline = page.get_by_role("list", name="What happened").get_by_role("listitem")
    expect(timeline.first).to_contain_text("asked for, for ann@example.com")
    expect(timeline.first).to_contain_text("API key shop")
    expect(timeline.filter(has_text="was refused")).to_contain_text("another course was named")

    search(page, "nobody@example.com")
    expect(page.get_by_text("Nothing found.")).to_be_visible()


def test_a_wrong_address_is_corrected_and_the_email_arrives(
    page: Page, staff: Desk, key: str, smtp_server: SmtpServer
) -> None:
    smtp_server.answer("RCPT", "550 5.1.1 No such user here", to="bbo@example.com")
    code = issue(staff, key, "bbo@example.com", "order-78")
    sentence = page.locator(".desk-sentence")

    def is_refused() -> bool:
        search(page, "order-78")
        return "email failed" in sentence.inner_text()

    wait_until(is_refused)
    expect(sentence).to_contain_text("550 5.1.1 No such user here")
    page.get_by_role("link", name="Correct address and resend").click()
    page.get_by_label("Right address").fill("bob@example.com")
    page.get_by_role("button", name="Correct and resend").click()

    expect(page.locator(".messagelist")).to_contain_text("Address corrected to bob@example.com")
    expect(page.get_by_text("Address corrected: bbo@example.com → bob@example.com")).to_be_visible()
    wait_until(lambda: "bob@example.com" in smtp_server.recipients)
    (received,) = [received for received in smtp_server.received if received.recipients == ["bob@example.com"]]
    assert code in received.text


def test_it_is_all_within_reach_of_the_keyboard(page: Page, staff: Desk, key: str) -> None:
    issue(staff, key, "carl@example.com", "order-79")
    for _ in range(3):  # past the link that skips to the content, and the name of the desk
        page.keyboard.press("Tab")
    expect(search_box(page)).to_be_focused()
    page.keyboard.type("order-79")
    page.keyboard.press("Enter")
    expect(page.locator(".desk-sentence")).to_contain_text("Issued on")

    resend = page.get_by_role("button", name="Resend", exact=True)
    for _ in range(100):
        page.keyboard.press("Tab")
        if resend.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("1 email queued to be sent again.")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read_on_every_screen(page: Page, staff: Desk, key: str, theme: str, width: int) -> None:
    order = f"order-{theme}-{width}"
    code = issue(staff, key, "dora@example.com", order)
    assert staff.call("POST", "/redeem-voucher", key, json={"code": code}).status_code == 200
    assert staff.call("POST", "/redeem-voucher", key, json={"code": code}).status_code == 409
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")

    for term in (order, "nobody@example.com"):
        search(page, term)
        assert page.evaluate(FAINT) == []
        assert page.evaluate(OVERFLOW) <= 0
