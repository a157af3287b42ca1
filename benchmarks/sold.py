"""The vouchers that benchmarks begin with. How they come to be is not measured, so most of it is done in SQL."""

from __future__ import annotations

import psycopg

from benchmarks.desk import Desk

COURSE = "JS101"
TO_ISSUE = """
UPDATE vouchers_voucher SET status = 'issued', issued_to = 'buyer' || position || '@example.com', issued_at = now()
WHERE course_id = %(course)s AND status = 'available' AND id %% %(every)s = 0
"""
TO_HOLDERS = """
INSERT INTO vouchers_issuance (course_id, email, order_id, voucher_id, status, caller, issued_at)
SELECT v.course_id, v.issued_to, 'order ' || v.id, v.id, 'issued', 'bench', v.issued_at
FROM vouchers_voucher v
WHERE v.course_id = %(course)s AND v.status = 'issued'
    AND NOT EXISTS (SELECT FROM vouchers_issuance i WHERE i.voucher_id = v.id)
"""


def fill_course(desk: Desk, number: int, course: str = COURSE) -> None:
    """A course with so many codes, the n-th of them `code_of(n)`."""
    desk.fill(course, (code_of(n, course) for n in range(number)))


def code_of(n: int, course: str = COURSE) -> str:
    return f"{course}-XZ4B7Q-{n:08}"


def issue_some(desk: Desk, every: int = 1, course: str = COURSE) -> None:
    """Issues every so-manieth code, each to a buyer and by an order of its own; leaves tidy tables."""
    with psycopg.connect(desk.environment["DATABASE_URL"]) as connection:
        connection.execute("SET statement_timeout = 0")
        for statement in (TO_ISSUE, TO_HOLDERS):
            connection.execute(statement, {"course": course, "every": every})
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE vouchers_voucher, vouchers_issuance")
