"""What staff do all day, in a real browser: upload, confirm, watch, issue, resend, revoke, generate, undo."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.running import Desk

LIST = "/admin/courses/course/"
COURSES = ("JOURNEY", "LARGE", "MADE")


@pytest.fixture(scope="module")
def key(staff: Desk) -> str:
    return staff.manage("create_api_key", "journey", "--scope", "issue")


@pytest.fixture(autouse=True, scope="module")
def courses(staff: Desk) -> None:
    make = f"[Course.objects.create(id=id, name=id) for id in {COURSES}]"
    staff.manage("shell", "-c", f"from courses.models import Course; {make}; print('made')")


def csv_file(text: str) -> FilePayload:
    return {"name": "supplier.csv", "mimeType": "text/csv", "buffer": text.encode()}


def open_upload(page: Page, course: str) -> None:
    """One click from the summary."""
    page.goto(LIST)
    page.locator("#result_list tr").filter(has_text=course).get_by_role("link", name="Upload").click()


def follow_link(page: Page, label: str) -> None:
    """The link beside a label on the page of a row."""
    page.locator(".form-row").filter(has_text=label).get_by_role("link").click()


def counts(page: Page) -> dict[str, str]:
    """The figures above the verdict, by their labels."""
    labels = page.locator(".desk-counts dt").all_inner_texts()
    return dict(zip(labels, page.locator(".desk-counts dd").all_inner_texts(), strict=True))


def test_from_a_suppliers_file_to_a_revoked_voucher(page: Page, staff: Desk, key: str) -> None:
    # A file with mistakes is checked, and nothing is stored.
    open_upload(page, "JOURNEY")
    codes = "".join(f"JOURNEY-{n:03}\n" for n in range(5))
    page.get_by_label("File").set_input_files(csv_file(f"code\n{codes}JOURNEY-002\nab\n1.23E+15\n"))
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("Nothing is stored yet.")).to_be_visible()
    assert counts(page) == {"read": "8", "new": "5", "repeated here": "1", "already in a pool": "0", "malformed": "2"}
    rejected = page.locator(".desk-table").filter(has_text="Lines that will not be stored")
    expect(rejected.get_by_role("row").filter(has_text="Already in line 4 of this upload")).to_contain_text("7")
    with page.expect_download() as download:
        page.get_by_role("link", name="As a CSV to mend").click()
    assert download.value.path().read_text().count("\n") == 4

    # Confirmed, it is in the pool.
    page.get_by_role("button", name="Store 5 codes in JOURNEY").click()
    expect(page.get_by_text("Lines that were not stored")).to_be_visible()
    assert counts(page)["stored"] == "5"

    # The summary goes on by itself while codes are issued over the API.
    page.goto(LIST)
    row = page.locator("#result_list tr").filter(has_text="JOURNEY")
    expect(row.locator(".desk-number")).to_have_text("5")
    issued = staff.call("POST", "/issue-voucher", key, json={"courseId": "JOURNEY", "email": "ann@example.com"})
    assert issued.status_code == 201
    expect(row.locator(".desk-number")).to_have_text("4")

    # Issued by hand; the worker sends its email.
    row.get_by_role("link", name="Issue").click()
    page.get_by_role("textbox", name="Email:").fill("bob@example.com")
    page.get_by_role("button", name="Issue").click()
    expect(page.locator(".messagelist")).to_contain_text("bob@example.com")
    follow_link(page, "Voucher")
    expect(page.locator(".field-issued_to")).to_contain_text("bob@example.com")
    emails = page.locator(".desk-table").filter(has_text="Emails").locator("tbody tr")
    expect_after_reloads(page, lambda: expect(emails).to_contain_text(["Accepted"], timeout=500))

    # Its code is shown to whoever may see it, and asks to.
    expect(page.locator("body")).not_to_contain_text("JOURNEY-00")
    page.get_by_role("button", name="Reveal the code").click()
    expect(page.locator(".desk-whole")).to_have_text(re.compile(r"^JOURNEY-00\d$"))
    page.get_by_role("link", name="Back to the voucher").click()
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history")).to_contain_text("Saw the whole code.")
    page.go_back()

    # Sent again, then revoked with a reason.
    page.get_by_role("button", name="Send the email again").click()
    expect(page.locator(".messagelist")).to_contain_text("1 email queued")
    expect_after_reloads(page, lambda: expect(emails).to_contain_text(["Accepted", "Accepted"], timeout=500))
    page.get_by_role("link", name="Revoke…").click()
    page.get_by_label("Reason").fill("Lost in the post")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".messagelist")).to_contain_text("1 voucher revoked.")
    expect(page.locator(".field-shown_status")).to_contain_text("Revoked")


def expect_after_reloads(page: Page, expectation: Callable[[], None]) -> None:
    """For pages that do not keep themselves up to date: what the worker did shows after some reload."""
    for _ in range(60):
        try:
            return expectation()
        except AssertionError:
            page.reload()
    return expectation()


def test_a_large_file_goes_in_by_the_worker_and_comes_out_again(page: Page) -> None:
    open_upload(page, "LARGE")
    page.get_by_label("File").set_input_files(csv_file("".join(f"LARGE-{n:06}\n" for n in range(30_000))))
    page.get_by_role("button", name="Check").click()
    # The page follows the worker by itself.
    page.get_by_role("button", name="Store 30000 codes in LARGE").click()
    expect(page.locator("#batch_form")).to_contain_text("Stored")
    expect(page.locator("progress")).to_have_count(0)
    assert counts(page)["stored"] == "30000"

    page.get_by_role("link", name="Undo…").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("taken out of the pool again")).to_be_visible()
    page.goto(LIST)
    expect(page.locator("#result_list tr").filter(has_text="LARGE").locator(".desk-number")).to_have_text("0")


def test_the_same_file_again_is_recognised_and_can_be_cancelled(page: Page) -> None:
    for _ in range(2):
        open_upload(page, "LARGE")
        page.get_by_label("Or paste the codes").fill("SAME-0001\nSAME-0002")
        page.get_by_role("button", name="Check").click()
    expect(page.locator(".desk-note")).to_contain_text("This very file was uploaded before")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nothing of it was stored.")).to_be_visible()


def test_codes_are_generated_and_their_strength_is_shown_while_typing(page: Page) -> None:
    page.goto("/admin/vouchers/batch/generate/?course=MADE")
    preview = page.locator(".desk-preview")
    expect(preview).to_contain_text(re.compile(r"MADE-[2-9A-Z]{6}-001"))
    expect(preview).to_contain_text("one guess in")
    page.get_by_label("Pattern").fill("{course}-{random:2}")
    expect(preview).to_contain_text("Too easy to guess.")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".errorlist")).to_contain_text("Too easy to guess.")

    page.get_by_label("Pattern").fill("{course}-{random:8}")
    page.get_by_label("Number").fill("250")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#batch_form")).to_contain_text("Stored")
    assert counts(page)["stored"] == "250"
    with page.expect_download() as download:
        page.get_by_role("link", name="Codes as CSV").click()
    assert download.value.path().read_text().count("MADE-") == 250


def test_a_browser_that_is_closed_in_the_middle_of_an_upload_leaves_nothing(page: Page) -> None:
    other = page.context.new_page()
    open_upload(other, "LARGE")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
    page.context.new_cdp_session(other).send("Network.emulateNetworkConditions", slow)
    half = csv_file("".join(f"HALF-{n:06}\n" for n in range(300_000)))
    other.get_by_label("File").set_input_files(half | {"name": "half.csv"})
    with other.expect_request(lambda request: request.method == "POST"):
        other.get_by_role("button", name="Check").click(no_wait_after=True)
    other.close()

    page.goto("/admin/vouchers/batch/")
    expect(page.get_by_text("supplier.csv").first).to_be_visible()
    expect(page.get_by_text("half.csv")).to_have_count(0)
