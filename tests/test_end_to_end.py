"""The real thing from outside: web server with several processes, worker, PostgreSQL, SMTP server; from an
uploaded pool to the code in a buyer's inbox, and its redemption, while the counts are watched."""

from __future__ import annotations

import csv
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tests.racing import wait_until
from tests.running import CODE, Desk
from tests.smtp_server import SmtpServer

CLIENTS = 32


def messy_file(path: Path) -> Path:
    """2,000 codes as people hand them in, among lines that are none."""
    lines = ["\ufeffcode;note"]
    for n in range(2000):
        code = f"JS101-{secrets.token_hex(3).upper()}-{n:04}"
        lines.append([code, f"  {code} ;x", f'"{code}";"a;b"', code.replace("-", "\u2011"), f"\u200b{code};"][n % 5])
        if n % 100 == 50:
            lines += ["", lines[-1].lower(), "no", "has space;"]
    path.write_bytes("\r\n".join(lines).encode())
    return path


class Watch:
    """Polls the summary until told to stop; in every answer `total = issued + remaining`."""

    def __init__(self, desk: Desk, key: str) -> None:
        self.desk, self.key, self.polls = desk, key, 0
        self.stop = threading.Event()
        self.wrong: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop.wait(0.05):
            rows = self.desk.call("GET", "/admin/vouchers-summary", self.key).json()
            self.wrong += [row for row in rows if row["total"] != row["issued"] + row["remaining"]]
            self.polls += 1

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def counts(desk: Desk, key: str) -> dict[str, tuple[int, ...]]:
    names = ("total", "issued", "remaining", "redeemed", "waiting")
    rows = desk.call("GET", "/admin/vouchers-summary", key).json()
    return {row["courseId"]: tuple(row[name] for name in names) for row in rows}


def test_from_an_uploaded_pool_to_the_inbox_and_back(desk: Desk, smtp: SmtpServer, tmp_path: Path) -> None:
    file = messy_file(tmp_path / "codes from the supplier.csv")
    stored = desk.manage("import_vouchers", str(file), "--course", "JS101", "--create-course", "JavaScript Basics")
    assert stored == "Stored 2000 codes for JS101: 2060 read, 2000 new, 20 duplicates, 40 malformed."
    desk.manage("shell", "-c", "from courses.models import Course; print(Course.objects.create(id='PY201'))")
    manage = desk.manage("create_api_key", "staff", "--scope", "manage")
    shop = desk.manage("create_api_key", "shop", "--scope", "issue", "--scope", "redeem")

    def upload(course: str, number: int) -> requests.Response:
        codes = [f"{course}-{secrets.token_hex(3).upper()}-{n}" for n in range(number)]
        return desk.call("POST", "/api/admin/vouchers/upload", manage, json={"courseId": course, "vouchers": codes})

    def issue(course: str, email: str) -> int:
        return desk.call("POST", "/issue-voucher", shop, json={"courseId": course, "email": email}).status_code

    assert upload("JS101", 500).json()["inserted"] == 500
    assert counts(desk, manage)["JS101"] == (2500, 0, 2500, 0, 0)

    buyers = [f"buyer{n}@example.com" for n in range(1000)]
    late = [f"late{n}@example.com" for n in range(50)]
    asked = [("JS101", email) for email in buyers + buyers[:200]] + [("PY201", email) for email in late]
    secrets.SystemRandom().shuffle(asked)
    with Watch(desk, manage) as watch:
        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = Counter(clients.map(lambda request: issue(*request), asked))
        assert answers == {201: 1000, 200: 200, 202: 50}
        assert counts(desk, manage) == {"JS101": (2500, 1000, 1500, 0, 0), "PY201": (0, 0, 0, 0, 50)}
        assert upload("PY201", 60).json()["inserted"] == 60
        wait_until(lambda: len(smtp.received) >= 1050, seconds=180)
        inbox = {email: CODE.search(mail.text) for mail in smtp.received for email in mail.recipients}
        codes = {email: found.group() for email, found in inbox.items() if found}
        redeemed = [codes[email] for email in buyers[:100]] * 2
        with ThreadPoolExecutor(CLIENTS) as clients:
            spent = Counter(
                clients.map(
                    lambda c: desk.call("POST", "/redeem-voucher", shop, json={"code": c}).status_code, redeemed
                )
            )
        assert spent == {200: 100, 409: 100}

    assert len(smtp.received) == 1050
    assert set(codes) == {*buyers, *late}
    assert len(set(codes.values())) == 1050
    holders = requests.get(
        f"{desk.url}/admin/vouchers/JS101?format=csv", headers={"Authorization": f"Api-Key {manage}"}, timeout=60
    ).text
    rows = {row["_id"].upper(): row for row in csv.DictReader(holders.splitlines())}
    assert {email: rows[codes[email].upper()]["issuedTo"] for email in buyers} == {email: email for email in buyers}
    assert counts(desk, manage) == {"JS101": (2500, 1000, 1500, 100, 0), "PY201": (60, 50, 10, 0, 0)}
    assert watch.polls > 10
    assert not watch.wrong
