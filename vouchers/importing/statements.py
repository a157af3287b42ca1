"""The SQL of an import, in the order in which it runs (docs/decisions/0005)."""

# What is as usual is NULL: `given` where it is the code, `given_course` and `given_expiry` where the line names none,
# `fault` where there is none, and `code` where there is one. Most lines are a number and a code then.
CREATE_STAGED = """
DROP TABLE IF EXISTS pg_temp.staged, pg_temp.fresh, pg_temp.judged;
CREATE TEMPORARY TABLE staged (
    line integer NOT NULL, code text, expires_on date,
    given text, given_course text, given_expiry text, fault text
) ON COMMIT DROP;
CREATE TEMPORARY TABLE judged (
    line integer NOT NULL, code text NOT NULL, given_course text NOT NULL, given_expiry text NOT NULL,
    kind text NOT NULL, repeated boolean NOT NULL, missing boolean NOT NULL, reason text
) ON COMMIT DROP
"""

COPY_STAGED = "COPY staged (line, code, expires_on, given, given_course, given_expiry, fault) FROM STDIN"

# What to store, in the order of the unique index, in every import: two that share codes wait for each other in
# turn and never in a circle.
CREATE_FRESH = """
CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY key) AS nth, code, line, expires_on
FROM (
    SELECT DISTINCT ON (upper(code)) upper(code) AS key, code, line, expires_on
    FROM staged WHERE fault IS NULL ORDER BY upper(code), line
) AS first_of_each
"""

# Without it each slice would read all of them, and ten times the codes would take a hundred times as long.
INDEX_FRESH = "CREATE INDEX ON fresh (nth)"

COUNT_FRESH = "SELECT count(*) FROM fresh"

# The position keeps the order of the lines. Only the index of codes is asked before each insert: the keys come from
# their sequence and never conflict.
INSERT_NEW = """
INSERT INTO vouchers_voucher
    (code, course_id, batch_id, position, status, expires_on, issued_to, revoked_reason, note)
SELECT code, %(course)s, %(batch)s, (%(batch)s::bigint << 32) + line, 'available', expires_on, '', '', ''
FROM fresh WHERE nth > %(after)s AND nth <= %(until)s
ORDER BY nth
ON CONFLICT (upper(code)) DO NOTHING
"""

# The foreign key is checked with each slice: at the end of the transaction that took a fifth of the whole time, in
# which nobody could tell how far it was or cancel it. What else the transaction does is checked at its end, as always.
CHECK_AT_ONCE = "SET CONSTRAINTS ALL IMMEDIATE"
CHECK_LATER = "SET CONSTRAINTS ALL DEFERRED"

_JUDGE = """
INSERT INTO judged
SELECT line, coalesce(given, code), coalesce(given_course, ''), coalesce(given_expiry, expires_on::text, ''),
    CASE WHEN fault IS NOT NULL THEN 'invalid' ELSE 'duplicate' END,
    fault IS NULL AND course_id IS NULL,
    fault IS NULL AND course_id IS NULL AND first_line IS NULL,
    CASE WHEN fault IS NOT NULL THEN left(fault, 300)
         WHEN course_id IS NULL THEN 'Already in line ' || first_line || ' of this upload'
         WHEN status = 'available' THEN 'Already in course ' || course_id || ', not issued'
         ELSE 'Already in course ' || course_id || ', ' || status END
FROM ({left_out}) AS left_out
"""

# The lines that did not become vouchers, and why. Runs after the insert, so it sees what other uploads committed
# meanwhile. A code that was in a pool at the insert and is in none now is missing: its batch was undone in between.
JUDGE_STORED = _JUDGE.format(
    left_out="""
    SELECT s.*, CASE WHEN v.batch_id <> %(batch)s THEN v.course_id END AS course_id, v.status,
        CASE WHEN v.batch_id = %(batch)s THEN v.position - (%(batch)s::bigint << 32) END AS first_line
    FROM staged s LEFT JOIN vouchers_voucher v ON upper(v.code) = upper(s.code)
    WHERE v.position IS DISTINCT FROM (%(batch)s::bigint << 32) + s.line
    """
)

# The same where nothing is stored: every voucher is another's, and the first line of a code is the one that counts.
JUDGE_STAGED = _JUDGE.format(
    left_out="""
    SELECT s.*, v.course_id, v.status
    FROM (SELECT *, min(line) OVER (PARTITION BY upper(code)) AS first_line FROM staged) AS s
    LEFT JOIN vouchers_voucher v ON upper(v.code) = upper(s.code)
    WHERE s.fault IS NOT NULL OR v.id IS NOT NULL OR s.line <> s.first_line
    """
)

FORGET_JUDGED = "TRUNCATE judged"

COUNT_JUDGED = """
SELECT count(*) FILTER (WHERE kind = 'duplicate'), count(*) FILTER (WHERE repeated),
    count(*) FILTER (WHERE kind = 'invalid'), count(*) FILTER (WHERE missing)
FROM judged
"""

SELECT_FIRST = """
SELECT coalesce(json_agg(first), '[]')::text FROM (
    SELECT s.line, coalesce(s.given, s.code) AS code, s.expires_on, j.kind, j.reason
    FROM (SELECT * FROM staged ORDER BY line LIMIT %(limit)s) AS s LEFT JOIN judged AS j ON j.line = s.line
    ORDER BY s.line
) AS first
"""

SELECT_REJECTED = """
SELECT line, code, given_course, given_expiry, kind, reason FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY line) AS nth FROM judged
) AS rejected
WHERE %(limit)s::int IS NULL OR nth <= %(limit)s::int
ORDER BY line
"""

KEEP_REJECTED = """
INSERT INTO vouchers_rejectedline (batch_id, line, code, course, expires_on, kind, reason)
SELECT %(batch)s, line, code, given_course, given_expiry, kind, reason FROM judged
"""
