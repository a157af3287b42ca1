"""What `benchmarks.admin_pages` measures, in a process with the settings for it.

A superuser goes through the admin as a person would: the index, every list with each of its filters, orders and pages,
the first and the last row of each, every form, every search. Pages are found on the pages before, so that none is left
out; of a filter with many values the first, the middle and the last count for all. Deeds are left out, and with them
what an erasure would replace, for which every table is read as a whole (docs/decisions/0015).
"""

from __future__ import annotations

import html
import re
import secrets
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import django

django.setup()

from django.contrib import admin  # noqa: E402  # models want Django to be set up
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import NoReverseMatch, reverse  # noqa: E402

from benchmarks.figures import Figure, record  # noqa: E402
from courses.models import Course, Purchase  # noqa: E402
from vouchers.models import Batch, Delivery, Issuance, KeptEmail, Redemption, Voucher, WebhookMessage  # noqa: E402

TIMES = 5
GOAL = 300.0  # milliseconds
FEW = 9  # values of a filter that are all tried
SHOWN = 40
SHOWN_OF_SQL = 800
FILTERS = re.compile(r'<nav id="changelist-filter".*?</nav>', re.S)
HEADERS = re.compile(r"<thead>.*?</thead>", re.S)
PAGES = re.compile(r'<nav class="paginator".*?</nav>', re.S)
ROWS = re.compile(r"<tbody>.*?</tbody>", re.S)
ADDRESS = re.compile(r'href="([^"]+)"')


@dataclass
class Page:
    """A page, and what each of its answers took, in milliseconds; statements as a page that was asked for before."""

    address: str
    posted: dict[str, str] | None = None
    live: bool = False
    status: int = 0
    times: list[float] = field(default_factory=list)
    statements: list[tuple[float, str]] = field(default_factory=list)
    content: str = ""

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.times)

    def ask(self, client: Client) -> None:
        """Once, from a request to the last byte of its answer."""
        headers = {"HX-Request": "true"} if self.live else {}
        self.statements = []
        with connection.execute_wrapper(self._watch):
            started = time.perf_counter()
            answer = (
                client.get(self.address, headers=headers)
                if self.posted is None
                else client.post(self.address, self.posted, headers=headers)
            )
            self.times.append(1000 * (time.perf_counter() - started))
        self.status, self.content = answer.status_code, answer.content.decode()

    def _watch(self, execute: Any, sql: str, *rest: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(sql, *rest)
        finally:
            self.statements.append((1000 * (time.perf_counter() - started), sql))

    def links(self, part: re.Pattern[str]) -> list[str]:
        """The addresses in a part of the page, of lists and of rows."""
        found = [html.unescape(address) for block in part.findall(self.content) for address in ADDRESS.findall(block)]
        return list(dict.fromkeys(found))


def measured(client: Client, page: Page) -> Page:
    """Once to warm up, then five times; once only where that was far too slow."""
    page.ask(client)
    if page.times[0] < 5 * GOAL:
        page.times.clear()
        for _ in range(TIMES):
            page.ask(client)
    return page


def walk(client: Client) -> Iterator[Page]:
    yield measured(client, Page(reverse("admin:index")))
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield from pages_of_list(client, reverse(f"{name}_changelist"), searches().get(model, []))
        yield from form_to_add(client, f"{name}_add")
    for page in [*support_pages(), *live_pages()]:
        yield measured(client, page)


def pages_of_list(client: Client, address: str, terms: list[str]) -> Iterator[Page]:
    first = measured(client, Page(address))
    yield first
    filters = by_parameters(first.links(FILTERS))
    queries = [query for values in filters.values() for query in values]
    queries += pairs(filters)
    queries += first.links(HEADERS) + first.links(PAGES)
    queries += [f"?{urlencode({'q': term})}" for term in terms]
    for query in dict.fromkeys(query for query in queries if query.startswith("?")):
        found = measured(client, Page(f"{address}{query}"))
        yield found
        yield from (measured(client, Page(f"{address}{last}")) for last in found.links(PAGES)[-1:])
    rows = [link for link in first.links(ROWS) if link.startswith(address)]
    yield from (measured(client, Page(row)) for row in dict.fromkeys([*rows[:1], *rows[-1:]]))


def by_parameters(queries: list[str]) -> dict[tuple[str, ...], list[str]]:
    """The values of each filter of a list; of many the first, the middle and the last."""
    filters: dict[tuple[str, ...], list[str]] = {}
    for query in queries:
        if names := tuple(name for name, _ in parse_qsl(query.removeprefix("?"))):
            filters.setdefault(names[:1], []).append(query)
    return {
        names: values if len(values) <= FEW else [values[0], values[len(values) // 2], values[-1]]
        for names, values in filters.items()
    }


def pairs(filters: dict[tuple[str, ...], list[str]]) -> list[str]:
    """Each value of each filter together with a course."""
    courses = next((values for (name,), values in filters.items() if "course" in name), [])
    others = [value for (name,), values in filters.items() if "course" not in name for value in values]
    return [f"{courses[0]}&{value.removeprefix('?')}" for value in others] if courses else []


def form_to_add(client: Client, name: str) -> Iterator[Page]:
    try:
        page = measured(client, Page(reverse(name)))
    except NoReverseMatch:
        return
    if page.status == 200:
        yield page


def searches() -> dict[Any, list[str]]:
    """What can be searched in each list: the newest and nothing."""
    voucher, purchase = last(Voucher.objects.exclude(issued_to="")), Purchase.objects.payments()[0]
    nobody = "nobody@example.com"
    return {
        Voucher: [voucher.code, voucher.issued_to, nobody],
        Issuance: [voucher.issued_to, last(Issuance.objects.exclude(order_id="")).order_id, nobody],
        Purchase: [purchase.reference, purchase.checkout, purchase.email, nobody],
        Delivery: [voucher.issued_to, nobody],
        Redemption: [last(Redemption.objects.all()).email, nobody],
        KeptEmail: [last(KeptEmail.objects.all()).to, nobody],
        WebhookMessage: [last(WebhookMessage.objects.all()).message_id, nobody],
        Course: ["C001", "Course"],
    }


def last(rows: Any) -> Any:
    return rows.order_by("-pk")[:1].get()


def support_pages() -> Iterator[Page]:
    voucher, free = last(Voucher.objects.filter(status="issued")), last(Voucher.objects.filter(status="available"))
    spent, waiting = last(Redemption.objects.all()), last(Issuance.objects.filter(status="waiting"))
    payment, owed = Purchase.objects.payments()[0], last(Issuance.objects.filter(status="issued"))
    order = last(Issuance.objects.exclude(order_id="")).order_id
    parts = [voucher.code, free.code, voucher.code[5:12], voucher.code[-5:], "C001", "WXYZ"]
    for term in [*parts, owed.email, order, payment.reference, str(payment.checkout), "nobody@example.com", ""]:
        yield Page(f"{reverse('admin:support_search')}?{urlencode({'q': term})}")
    for issuance in (owed, waiting, spent.voucher.issuances.get()):
        yield Page(reverse("admin:support_issuance", args=[issuance.pk]))
        yield Page(reverse("admin:support_correct", args=[issuance.pk]))
    yield Page(reverse("admin:support_find"), posted={"q": voucher.code})
    yield Page(reverse("admin:support_purchase", args=[payment.pk]))
    yield Page(reverse("admin:support_voucher", args=[free.pk]))
    yield Page(reverse("admin:vouchers_voucher_change", args=[spent.pk]))
    yield Page(reverse("admin:vouchers_voucher_revoke", args=[voucher.pk]))
    yield Page(reverse("admin:courses_purchase_refund", args=[payment.pk]))
    yield Page(reverse("admin:erase_buyer"))


def live_pages() -> Iterator[Page]:
    batch = last(Batch.objects.all())
    codes = {"course": batch.course_id, "number": "1000", "pattern": "{course}-{random:8}"}
    yield Page(reverse("admin:courses_course_changelist"), live=True)
    yield Page(reverse("admin:doctor"))
    yield Page(reverse("admin:doctor"), live=True)
    yield Page(reverse("admin:vouchers_batch_change", args=[batch.pk]), live=True)
    yield Page(reverse("admin:vouchers_batch_generate"))
    yield Page(reverse("admin:vouchers_batch_generate"), posted=codes, live=True)
    yield Page(reverse("admin:vouchers_batch_undo", args=[batch.pk]))


def show(pages: list[Page]) -> None:
    print(f"{'ms':>8} {'statements':>10} {'slowest':>8}  page, and its slowest statement where it is too slow")
    for page in pages[:SHOWN]:
        slowest, sql = max(page.statements, default=(0.0, ""))
        kind = "live " if page.live else "POST " if page.posted else ""
        print(f"{page.milliseconds:8.1f} {len(page.statements):10} {slowest:8.1f}  {kind}{page.address}")
        if page.milliseconds > GOAL:
            print(f"{'':30}{sql[sql.find(' FROM ') :][:SHOWN_OF_SQL]}")


def in_words(pages: list[Page]) -> str:
    middle = pages[len(pages) // 2]
    return (
        f"A desk of {Voucher.objects.count():,} vouchers in {Course.objects.count()} courses; {len(pages)} pages, "
        f"{sum(page.milliseconds > GOAL for page in pages)} of them over {GOAL:.0f} ms. "
        f"The one in the middle takes {middle.milliseconds:.0f} ms. The slowest is `{pages[0].address}`."
    )


def main() -> None:
    user = User.objects.create_superuser(f"bench{secrets.token_hex(4)}")
    client = Client(SERVER_NAME="127.0.0.1", raise_request_exception=False)
    client.force_login(user)
    pages = sorted(walk(client), key=lambda page: page.milliseconds, reverse=True)
    show(pages)
    broken = [f"{page.status} {page.address}" for page in pages if page.status >= 400]
    if broken:
        raise SystemExit(f"Not answered: {broken}")
    record(
        Figure(
            name="admin_pages",
            what=f"the slowest of {len(pages)} pages of the admin",
            ours="ms of server time",
            theirs="ms at most",
            pairs=[(milliseconds, GOAL) for milliseconds in pages[0].times],
            goal=1.0,
            at_most=True,
            detail=in_words(pages),
        )
    )


if __name__ == "__main__":
    main()
