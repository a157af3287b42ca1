"""Keeping the tallies few and right: docs/decisions/0020."""

from __future__ import annotations

from django.db import connection, transaction

from vouchers.locks import lock_names, try_lock_name

LOCK = "tallies"
# The last days that no count tells apart are one: of what is spent or revoked, and of what is past. Two days ago is
# past for good, in whatever time zone the desk is moved to.
LAST_DAY = """CASE WHEN status NOT IN ('available', 'issued') THEN date '9999-12-31'
    WHEN valid_until < current_date - 2 THEN date '0001-01-01' ELSE valid_until END"""
FOLD = f"""/* desk: fold tallies */
    WITH folded AS (
        DELETE FROM vouchers_tally WHERE id IN (
            SELECT unnest(array_agg(id)) FROM vouchers_tally
            GROUP BY course_id, status, was_issued, {LAST_DAY} HAVING count(*) > 1 OR sum(number) = 0
        )
        RETURNING course_id, status, was_issued, {LAST_DAY} AS valid_until, number
    )
    INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
    SELECT course_id, status, was_issued, valid_until, sum(number) FROM folded
    GROUP BY 1, 2, 3, 4 HAVING sum(number) <> 0
"""  # noqa: S608  # made of constants
# In one statement, and so of one moment: each transaction's vouchers and its tallies are seen together or not at all.
WRONG = f"""
    SELECT course_id, status, was_issued, last_day, sum(said)::int AS said, sum(there)::int AS there
    FROM (
        SELECT course_id, status, was_issued, {LAST_DAY} AS last_day, number AS said, 0 AS there FROM vouchers_tally
        UNION ALL
        SELECT course_id, status, issued_at IS NOT NULL, {LAST_DAY}, 0, count(*) FROM vouchers_voucher
        GROUP BY 1, 2, 3, 4
    ) AS counted
    GROUP BY 1, 2, 3, 4 HAVING sum(said) <> sum(there)
"""  # noqa: S608  # made of constants
CORRECT = f"""/* desk: correct tallies */
    INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
    SELECT course_id, status, was_issued, last_day, there - said FROM ({WRONG}) AS wrong WHERE course_id = %s
"""  # noqa: S608  # made of constants


@transaction.atomic
def fold() -> int:
    """Puts the sum of many tallies in their place, which is what readers add up; returns how many sums are new.

    Nobody waits for it, and it waits for nobody: what is not committed yet is for the next time.
    """
    if not try_lock_name(LOCK):
        return 0
    with connection.cursor() as cursor:
        cursor.execute(FOLD)
        return int(cursor.rowcount)


@transaction.atomic
def correct(course_id: str) -> int:
    """Adds to the tallies of a course what they lack to its vouchers; returns how many of them were wrong.

    Whoever writes meanwhile need not be kept out: what is added is the difference at one moment, and stays right.
    """
    lock_names(LOCK)  # or two would add the same difference
    with connection.cursor() as cursor:
        cursor.execute(CORRECT, [course_id])
        return int(cursor.rowcount)
