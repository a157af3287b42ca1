"""A code behind a link, and codes that are sent again, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import TIMEOUT, keep, watch
from tests.racing import wait_until
from tests.running import CODE, Desk, running_desk
from tests.smtp_server import Received, SmtpServer, running_smtp_server
from tests.test_browser_shop import FAINT_TEXTS, fits

BUTTON = "Show my code"
MAKE = """
from courses.models import Course
from vouchers.models import ApiKey
Course.objects.create(id="JS101", name="Closures in Depth", price=49, reveal="link")
print(ApiKey.objects.create_key(name="shop", scopes=["issue", "manage"])[1])
"""


@pytest.fixture(scope="module")
def smtp_server() -> Iterator[SmtpServer]:
    with running_smtp_server() as server:
        yield server


@pytest.fixture(scope="module")
def shop(chromium: str, smtp_server: SmtpServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk that sells one course, whose codes stand in no email."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDDED_POSTGRES_RUNNING", "true")
        for name in ("STRIPE_SECRET_KEY", "PAYPAL_CLIENT_ID"):
            patch.delenv(name, raising=False)
        with running_desk(tmp_path_factory.mktemp("reveal"), smtp_server) as desk:
            yield desk


@pytest.fixture(scope="module")
def key(shop: Desk) -> str:
    """Of a program that issues; and the course has codes."""
    key = shop.manage("shell", "-c", MAKE)
    codes = [f"JS101-XZ4B7Q-{n:03}" for n in range(20)]
    upload = {"courseId": "JS101", "vouchers": codes, "expiresOn": "2031-12-31"}
    shop.call("POST", "/api/admin/vouchers/upload", key, json=upload).raise_for_status()
    return key


@pytest.fixture
def context(browser: Browser, shop: Desk) -> Iterator[BrowserContext]:
    context = browser.new_context(
        base_url=shop.url, viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(TIMEOUT)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, troubles: list[str], tmp_path: Path) -> Iterator[Page]:
    page = context.new_page()
    watch(page, troubles)
    yield page
    kept = keep(page, tmp_path) if troubles else ""
    assert not troubles, f"{troubles}\n{kept}"


def mail_to(smtp: SmtpServer, email: str, number: int = 1) -> Received:
    """The email of that number to an address, once it is there."""

    def received() -> list[Received]:
        return [mail for mail in smtp.received if mail.recipients == [email]]

    wait_until(lambda: len(received()) >= number)
    return received()[number - 1]


def link_in(mail: Received) -> str:
    found = re.search(r"http://\S+/vouchers/\d+/\S+", mail.text)
    assert found
    assert found[0] in mail.html
    assert not CODE.search(mail.text + mail.html)
    return found[0]


def issue(shop: Desk, key: str, email: str) -> None:
    answer = shop.call("POST", "/issue-voucher", key, json={"courseId": "JS101", "email": email})
    answer.raise_for_status()


def test_from_the_email_to_the_checkout(page: Page, shop: Desk, key: str, smtp_server: SmtpServer) -> None:
    issue(shop, key, "reads@example.com")
    link = link_in(mail_to(smtp_server, "reads@example.com"))
    asked: list[tuple[str, str | None]] = []
    page.on("request", lambda request: asked.append((request.url, request.headers.get("referer"))))

    page.goto(link)
    expect(page.get_by_text("Closures in Depth")).to_be_visible()
    expect(page.get_by_text("It is valid until the end of 31 December 2031 (UTC).")).to_be_visible()
    assert not CODE.search(page.content())

    page.get_by_role("button", name=BUTTON).click()
    code = page.locator("#code").inner_text()
    assert CODE.fullmatch(code)
    assert page.url == link

    page.get_by_role("button", name="Copy the code").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == code

    page.reload()  # the form once more
    expect(page.locator("#code")).to_have_text(code)
    page.get_by_role("link", name="To the checkout").click()
    page.wait_for_load_state()  # what is typed before may be lost
    page.get_by_label("Email").fill("reads@example.com")
    page.get_by_label("Voucher code").fill(code)
    page.get_by_role("button", name="Redeem the voucher").click()
    expect(page.locator("#headline")).to_have_text("Closures in Depth is yours.")

    page.goto(link)
    expect(page.get_by_text("This voucher has been redeemed.")).to_be_visible()
    assert code not in page.content()
    assert {url.split("/")[2] for url, _ in asked} == {link.split("/")[2]}
    assert not any("/vouchers/" in (referer or "") for _, referer in asked)


def test_it_works_without_javascript_and_without_cookies(
    browser: Browser, shop: Desk, key: str, smtp_server: SmtpServer
) -> None:
    issue(shop, key, "plain@example.com")
    context = browser.new_context(base_url=shop.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(link_in(mail_to(smtp_server, "plain@example.com")))
    context.clear_cookies()
    page.get_by_role("button", name=BUTTON).click()
    expect(page.locator("#code")).to_have_text(CODE)
    expect(page.get_by_role("button")).to_have_count(0)
    context.close()


def an_hour_passes(shop: Desk, email: str) -> None:
    """Once its first email is recorded as sent."""

    def aged() -> bool:
        with psycopg.connect(shop.environment["DATABASE_URL"]) as connection:
            done = connection.execute(
                "UPDATE vouchers_delivery SET created_at = now() - interval '61 minutes', "
                "sent_at = now() - interval '60 minutes' WHERE email = %s AND status = 'sent'",
                [email],
            )
            return done.rowcount == 1

    wait_until(aged)


def test_lost_codes_are_sent_again(page: Page, shop: Desk, key: str, smtp_server: SmtpServer) -> None:
    issue(shop, key, "lost@example.com")
    first = mail_to(smtp_server, "lost@example.com")
    an_hour_passes(shop, "lost@example.com")

    page.goto("/codes")
    page.get_by_label("Email").fill("lost@")
    page.get_by_role("button", name="Send them again").click()
    expect(page.get_by_label("Email")).to_have_accessible_description(re.compile("Enter one email address"))
    page.get_by_label("Email").fill("lost@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Look into your inbox")
    assert "@" not in page.url

    second = mail_to(smtp_server, "lost@example.com", 2)
    assert link_in(second) == link_in(first)
    assert second.message["Message-ID"] != first.message["Message-ID"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_by_day_and_by_night(
    page: Page, shop: Desk, key: str, smtp_server: SmtpServer, scheme: str
) -> None:
    email = f"{scheme}@example.com"
    issue(shop, key, email)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 390, "height": 800})
    looked_at = []
    for path in ("/codes", link_in(mail_to(smtp_server, email))):
        page.goto(path)
        looked_at += [fits(page), page.evaluate(FAINT_TEXTS)]
    page.get_by_role("button", name=BUTTON).click()
    expect(page.locator("#code")).to_be_visible()
    looked_at += [fits(page), page.evaluate(FAINT_TEXTS)]
    assert looked_at == [True, []] * 3
