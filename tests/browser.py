"""A real browser before a real desk. Without a chromium its tests are skipped, and the end of the output says so
loudly; with REQUIRE_CHROMIUM=1 they fail."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, Response, expect, sync_playwright

from tests.running import Desk

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MISSING = "there is no chromium on this machine"
HOW = "Debian: apt-get install chromium. REQUIRE_CHROMIUM=1 makes its absence a failure, as .ci/run does."
TIMEOUT = 30_000  # milliseconds; reached only by a test that fails
NAME, PASSWORD = "browser", "a long enough password"

expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found:
        return found
    if os.environ.get("REQUIRE_CHROMIUM") == "1":
        pytest.fail(f"{MISSING}. {HOW}", pytrace=False)
    pytest.skip(MISSING)


# Not for the whole session: Django's ORM refuses to work in a thread where playwright's event loop runs.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def staff(chromium: str, shared_desk: Desk) -> Desk:
    """The shared desk, with the person who logs in."""
    environment = shared_desk.environment | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    dataclasses.replace(shared_desk, environment=environment).manage(
        "createsuperuser", "--noinput", "--username", NAME, "--email", "browser@shop.example"
    )
    return shared_desk


def log_in(page: Page) -> None:
    page.get_by_label("Username").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


@pytest.fixture
def troubles() -> list[str]:
    """What went wrong in the browser, beside what the test looks at. A test that makes trouble clears it."""
    return []


def watch(page: Page, troubles: list[str]) -> None:
    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            troubles.append(f"console: {message.text}")

    def failed(request: Request) -> None:
        # A page that is left takes its requests with it.
        if request.failure != "net::ERR_ABORTED":
            troubles.append(f"{request.method} {request.url}: {request.failure}")

    def answered(response: Response) -> None:
        if response.status >= 500:
            troubles.append(f"{response.request.method} {response.url}: {response.status}")

    page.on("console", console)
    page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    page.on("requestfailed", failed)
    page.on("response", answered)


@pytest.fixture
def page(browser: Browser, staff: Desk, troubles: list[str], tmp_path: Path) -> Iterator[Page]:
    """A tab of somebody of the staff who has just logged in. Paths (`/admin/`) lead to the desk."""
    context = browser.new_context(base_url=staff.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    watch(page, troubles)
    page.goto("/admin/")
    log_in(page)
    page.wait_for_url("/admin/")
    yield page
    kept = keep(page, tmp_path) if troubles else ""
    context.close()
    assert not troubles, f"{troubles}\n{kept}"


def keep(page: Page, folder: Path) -> str:
    """Keeps what the browser shows, for whoever reads of the failure; says where."""
    try:
        page.screenshot(path=folder / "page.png", full_page=True)
        (folder / "page.html").write_text(page.content())
    except Error as error:  # of a page that is gone; the failure itself matters more
        return f"{page.url} could not be kept: {error}"
    return f"{page.url} is kept as {folder}/page.png and page.html"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if call.when == "call" and report.failed and isinstance(page, Page):
        report.sections.append(("browser", keep(page, item.funcargs["tmp_path"])))  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    missed = [report.nodeid for report in skipped if MISSING in str(report.longrepr)]
    if missed:
        terminalreporter.section("BROWSER TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(missed)} tests were left out, because {MISSING}:", red=True)
        for test in missed:
            terminalreporter.line(f"  {test}")
        terminalreporter.line(HOW, red=True)
