"""The shop in a real browser, from the list of courses to the voucher in the inbox and its redemption."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import TIMEOUT, keep, watch
from tests.racing import wait_until
from tests.running import CODE, Desk, running_desk
from tests.smtp_server import Received, SmtpServer, running_smtp_server

LOST = "No answer from the shop just now; trying again. Your purchase is safe."
TEST_PAYMENT = "Test payment — no money moves"
COURSES = {"JS101": "JavaScript Basics", "EMPTY": "Nothing Left", "QUEUE": "Much Wanted"}
# Every text of a page whose contrast with what lies behind it is below WCAG's AA, as `text: ratio`.
FAINT_TEXTS = """() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = channels(color).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return channels(color)[3] === 0 && element.parentElement ? behind(element.parentElement) : color;
    };
    const faint = [];
    for (const element of document.querySelectorAll("body, body *:not(script, noscript)")) {
        const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        if (!own && element.tagName !== "INPUT") continue;
        const colors = [getComputedStyle(element).color, behind(element)];
        const [low, high] = colors.map(luminance).sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) faint.push(`${element.textContent.trim()}: ${ratio}`);
    }
    return faint;
}"""


@pytest.fixture(scope="module")
def smtp_server() -> Iterator[SmtpServer]:
    with running_smtp_server() as server:
        yield server


@pytest.fixture(scope="module")
def shop(chromium: str, smtp_server: SmtpServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk as `make run` starts it on a new machine: no provider's keys, so payments are tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDDED_POSTGRES_RUNNING", "true")
        for name in ("STRIPE_SECRET_KEY", "PAYPAL_CLIENT_ID"):
            patch.delenv(name, raising=False)
        with running_desk(tmp_path_factory.mktemp("shop"), smtp_server) as desk:
            make = f"[Course.objects.create(id=id, name=name, price=49) for id, name in {COURSES}.items()]"
            desk.manage("shell", "-c", f"from courses.models import Course; {make}; print('made')")
            yield desk


@pytest.fixture(scope="module")
def key(shop: Desk) -> str:
    return shop.manage("create_api_key", "supplier", "--scope", "manage")


@pytest.fixture(autouse=True, scope="module")
def pool(shop: Desk, key: str) -> None:
    upload(shop, key, "JS101", 40)


@pytest.fixture
def context(browser: Browser, shop: Desk) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=shop.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(TIMEOUT)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, troubles: list[str], tmp_path: Path) -> Iterator[Page]:
    """A tab of somebody whom the shop does not know."""
    page = context.new_page()
    watch(page, troubles)
    yield page
    kept = keep(page, tmp_path) if troubles else ""
    assert not troubles, f"{troubles}\n{kept}"


def upload(shop: Desk, key: str, course: str, number: int) -> None:
    codes = [f"{course}-XZ4B7Q-{n:03}" for n in range(number)]
    answer = shop.call("POST", "/api/admin/vouchers/upload", key, json={"courseId": course, "vouchers": codes})
    answer.raise_for_status()


def open_checkout(page: Page, course: str, email: str) -> None:
    page.goto(f"/courses/{course}/checkout")
    page.get_by_label("Email").fill(email)


def buy(page: Page, course: str, email: str) -> None:
    """Up to the page that follows the purchase."""
    open_checkout(page, course, email)
    page.get_by_role("button", name=TEST_PAYMENT).click()
    page.get_by_role("button", name="Pay").click()
    expect(page).to_have_url(re.compile("/purchases/"))


def mail_to(smtp: SmtpServer, email: str, number: int) -> list[Received]:
    """The emails to an address, once there are so many."""

    def received() -> list[Received]:
        return [mail for mail in smtp.received if mail.recipients == [email]]

    wait_until(lambda: len(received()) >= number)
    return received()


def text_of(mail: Received) -> str:
    body = mail.message.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    assert isinstance(text, str)
    return text


def requests_from_now_on(page: Page) -> list[str]:
    """What the page asks the desk; its icon a browser fetches when it likes."""
    asked: list[str] = []
    page.on("request", lambda request: None if request.url.endswith("/icon.svg") else asked.append(request.url))
    return asked


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_from_the_list_of_courses_to_a_redeemed_voucher(page: Page, smtp_server: SmtpServer) -> None:
    email = "journey@example.com"
    visited = requests_from_now_on(page)

    # A course is found, and the checkout counts while the quantity is typed.
    page.goto("/")
    page.get_by_role("link", name="JavaScript Basics").click()
    page.get_by_role("link", name="Buy").click()
    page.get_by_label("Quantity").fill("3")
    expect(page.get_by_role("status").filter(has_text="USD")).to_have_text("147.00 USD")
    page.get_by_label("Quantity").fill("1")
    page.get_by_label("Email").fill(email)
    page.get_by_role("button", name=TEST_PAYMENT).click()

    # The test payment cannot be taken for a real one.
    expect(page.get_by_role("heading", level=1)).to_have_text("Test payment. No money moves.")
    expect(page.get_by_text("49.00 USD")).to_be_visible()
    page.get_by_role("button", name="Pay").click()

    # The page follows by itself until the mail server has the voucher.
    expect(page.locator("#headline")).to_have_text("Your voucher is sent.")
    expect(page.locator(".step-done")).to_have_count(3)

    # The email has the code and the link to this very page.
    [voucher] = mail_to(smtp_server, email, 1)
    code = re.search(r"JS101-\S+", text_of(voucher))
    assert code
    assert f"Follow your purchase: {page.url}" in text_of(voucher)
    assert code[0] not in page.content()

    # The code is worth the course.
    page.get_by_role("link", name="To the checkout").click()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Voucher code").fill(code[0].lower())
    page.get_by_role("button", name="Redeem the voucher").click()
    expect(page.locator("#headline")).to_have_text("JavaScript Basics is yours.")
    _, confirmation = mail_to(smtp_server, email, 2)
    assert confirmation.message["subject"] == "You have JavaScript Basics"
    assert page.url in text_of(confirmation)

    for url in visited:
        assert "@" not in url
        assert code[0] not in url.upper()


def test_who_waits_sees_their_place_until_the_next_upload(
    page: Page, context: BrowserContext, shop: Desk, key: str, smtp_server: SmtpServer
) -> None:
    buy(context.new_page(), "EMPTY", "first@example.com")
    buy(page, "EMPTY", "second@example.com")
    expect(page.locator(".place-number")).to_have_text("2")
    expect(page.locator("#headline")).to_have_text("Paid. Your voucher waits for new codes.")
    [notice] = mail_to(smtp_server, "second@example.com", 1)
    assert f"Your place in the queue: {page.url}" in text_of(notice)

    upload(shop, key, "EMPTY", 2)

    expect(page.locator("#headline")).to_have_text("Your voucher is sent.")
    expect(page.locator("#place")).to_have_count(0)
    _, voucher = mail_to(smtp_server, "second@example.com", 2)
    assert voucher.message["subject"] == "Your voucher for Nothing Left"


def test_the_checkout_needs_no_mouse(page: Page) -> None:
    page.goto("/courses/JS101")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # the way back to all courses
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Buy")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/checkout")

    # A mistake is said where the focus is, and leads to its field.
    page.get_by_label("Email").focus()
    page.keyboard.type("keys@")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Email")).to_be_focused()
    expect(page.get_by_label("Email")).to_have_accessible_description(
        re.compile("Enter one email address, such as name@example.com.")
    )
    page.keyboard.press("End")
    page.keyboard.type("example.com")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Quantity")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=TEST_PAYMENT)).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Pay").press("Enter")
    expect(page.locator("#headline")).to_have_text("Your voucher is sent.")


def test_a_refused_voucher_is_said_and_nothing_is_lost(page: Page, troubles: list[str]) -> None:
    open_checkout(page, "JS101", "typo@example.com")
    page.get_by_label("Voucher code").fill("JS101-NOSUCH-001")
    page.get_by_label("Voucher code").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("No voucher can be redeemed with this code.")
    expect(page.get_by_label("Email")).to_have_value("typo@example.com")
    expect(page.get_by_label("Voucher code")).to_have_value("JS101-NOSUCH-001")
    troubles.clear()  # chromium reports the 404 that it is


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_by_day_and_by_night(page: Page, scheme: str, troubles: list[str]) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 390, "height": 800})
    buy(page, "QUEUE", "phone@example.com")
    waiting = page.url
    open_checkout(page, "JS101", "phone@")
    page.get_by_role("button", name=TEST_PAYMENT).click()
    expect(page.get_by_role("alert")).to_be_visible()
    looked_at = [fits(page), page.evaluate(FAINT_TEXTS)]
    for path in ("/", "/courses/JS101", "/courses/JS101/checkout", waiting, "/nowhere"):
        page.goto(path)
        looked_at += [fits(page), page.evaluate(FAINT_TEXTS)]
    open_checkout(page, "JS101", "phone@example.com")
    page.get_by_role("button", name=TEST_PAYMENT).click()
    expect(page.get_by_text("No money moves.", exact=True)).to_be_visible()
    looked_at += [fits(page), page.evaluate(FAINT_TEXTS)]
    assert looked_at == [True, []] * 7
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 18)"
    assert dark == (scheme == "dark")
    troubles.clear()  # chromium reports the 404 that it is


def test_the_page_of_a_purchase_rests_while_nobody_looks(page: Page) -> None:
    page.clock.install()
    buy(page, "QUEUE", "rests@example.com")
    expect(page.locator("#place")).to_be_visible()
    asked = requests_from_now_on(page)
    set_hidden(page, True)
    page.clock.fast_forward(60_000)
    page.evaluate("1")
    assert not asked
    with page.expect_response("**/purchases/*"):
        set_hidden(page, False)


def set_hidden(page: Page, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_the_page_of_a_purchase_stops_when_it_is_over(page: Page) -> None:
    page.clock.install()
    buy(page, "JS101", "over@example.com")
    expect(page.locator("[data-over]")).to_have_count(1)
    asked = requests_from_now_on(page)
    page.clock.fast_forward(60_000)
    page.evaluate("1")
    assert not asked


def test_the_page_of_a_purchase_survives_a_lost_server(page: Page, troubles: list[str]) -> None:
    page.clock.install()
    buy(page, "QUEUE", "lost@example.com")
    said = page.locator("#following-said")
    before = page.locator("#following").inner_text()

    page.route("**/purchases/*", lambda route: route.abort())
    page.clock.fast_forward(5000)
    expect(said).to_have_text(LOST)

    page.unroute("**/purchases/*")
    page.clock.fast_forward(5000)
    expect(said).to_be_empty()

    page.route("**/purchases/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.clock.fast_forward(5000)
    expect(said).to_have_text(LOST)
    assert page.locator("#following").inner_text() == before

    page.unroute("**/purchases/*")
    page.clock.fast_forward(5000)
    expect(said).to_be_empty()
    troubles.clear()


def test_it_works_without_javascript(browser: Browser, shop: Desk) -> None:
    context = browser.new_context(base_url=shop.url, java_script_enabled=False)
    page = context.new_page()
    open_checkout(page, "JS101", "plain@example.com")
    page.get_by_label("Quantity").fill("2")
    page.get_by_role("button", name="Update the total").click()
    expect(page.get_by_role("status").filter(has_text="USD")).to_have_text("98.00 USD")
    page.get_by_role("button", name=TEST_PAYMENT).click()
    page.get_by_role("button", name="Pay").click()
    expect(page.locator("#headline")).to_have_text("All 2 vouchers are sent.")
    context.close()


def test_a_shop_with_a_front_end_of_its_own_needs_the_api_alone(shop: Desk, smtp_server: SmtpServer) -> None:
    email = "api@example.com"
    checkout = {"courseId": "JS101", "email": email, "quantity": 1, "provider": "stripe"}
    started = shop.call("POST", "/api/checkout", json=checkout).json()
    follow = started["statusUrl"].removeprefix(shop.url)
    assert shop.call("GET", follow).json()["status"] == "pending"

    with requests.Session() as buyer:  # who is sent to the provider, and pays there
        form = buyer.get(started["redirectUrl"], timeout=60).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token
        paid = buyer.post(started["redirectUrl"], {"csrfmiddlewaretoken": token.group(1), "pay": "1"}, timeout=60)
        assert paid.status_code == 200

    assert shop.call("GET", follow).json() | {"position": None} == {
        "status": "issued",
        "courseId": "JS101",
        "quantity": 1,
        "issued": 1,
        "position": None,
    }
    wait_until(lambda: any(email in mail.recipients for mail in smtp_server.received))
    (mail,) = [mail for mail in smtp_server.received if email in mail.recipients]
    code = CODE.search(mail.text)
    assert code
    redeemed = shop.call("POST", "/redeem-voucher", json={"code": code.group(), "courseId": "JS101"})
    assert (redeemed.status_code, redeemed.json()["status"]) == (200, "redeemed")
