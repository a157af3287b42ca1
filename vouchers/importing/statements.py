"""The SQL of an import, in the order in which it runs (docs/decisions/0005)."""

CREATE_STAGED = """
DROP TABLE IF EXISTS pg_temp.staged, pg_temp.fresh, pg_temp.judged;
CREATE TEMPORARY TABLE staged (
    line integer NOT NULL, given text NOT NULL, given_course text NOT NULL, given_expiry text NOT NULL,
    code text NOT NULL, expires_on date, fault text NOT NULL
) ON COMMIT DROP
"""

COPY_STAGED = "COPY staged (line, given, given_course, given_expiry, code, expires_on, fault) FROM STDIN"

# What to store, in the order of the unique index, in every import: two that share codes wait for each other in
# turn and never in a circle.
CREATE_FRESH = """
CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY upper(code)) AS nth, code, line, expires_on
FROM (
    SELECT DISTINCT ON (upper(code)) code, line, expires_on FROM staged WHERE fault = '' ORDER BY upper(code), line
) AS first_of_each
"""

COUNT_FRESH = "SELECT count(*) FROM fresh"

# The position keeps the order of the lines.
INSERT_NEW = """
INSERT INTO vouchers_voucher
    (code, course_id, batch_id, position, status, expires_on, issued_to, revoked_reason, note)
SELECT code, %(course)s, %(batch)s, (%(batch)s::bigint << 32) + line, 'available', expires_on, '', '', ''
FROM fresh WHERE nth > %(after)s AND nth <= %(until)s
ORDER BY nth
ON CONFLICT DO NOTHING
"""

# What became of each line. Runs after the insert, so it sees what other uploads committed meanwhile; in a dry
# run there is no batch and every voucher is another's.
JUDGE = """
CREATE TEMPORARY TABLE judged ON COMMIT DROP AS
SELECT s.line, s.given, s.given_course, s.given_expiry, s.expires_on, s.fault, s.first_line, v.id IS NULL AS missing,
    CASE WHEN v.batch_id IS DISTINCT FROM %(batch)s THEN v.course_id END AS course_id,
    CASE WHEN v.batch_id IS DISTINCT FROM %(batch)s THEN v.status END AS status
FROM (
    SELECT *, min(line) OVER (PARTITION BY upper(code)) AS first_line FROM staged  -- a faulty line has no code
) AS s
LEFT JOIN vouchers_voucher v ON s.fault = '' AND upper(v.code) = upper(s.code)
"""

# Codes that were in a pool at the insert and in none when they were judged: their batch was undone in between.
COUNT_MISSING = "SELECT count(*) FROM judged WHERE missing AND fault = ''"

FORGET_JUDGED = "DROP TABLE judged"

# The kind and the reason of a judged line; a line without a kind became a voucher.
VERDICT = """
SELECT line, given AS code, given_course, expires_on,
    CASE WHEN given_expiry = '' THEN coalesce(expires_on::text, '') ELSE given_expiry END AS given_expiry,
    CASE WHEN fault <> '' THEN 'invalid'
         WHEN course_id IS NOT NULL OR line <> first_line THEN 'duplicate' END AS kind,
    fault = '' AND course_id IS NULL AND line <> first_line AS repeated,
    CASE WHEN fault <> '' THEN left(fault, 300)
         WHEN status = 'available' THEN 'Already in course ' || course_id || ', not issued'
         WHEN course_id IS NOT NULL THEN 'Already in course ' || course_id || ', ' || status
         ELSE 'Already in line ' || first_line || ' of this upload' END AS reason
FROM judged
"""

COUNT_JUDGED = f"""
SELECT count(*), count(*) FILTER (WHERE kind IS NULL), count(*) FILTER (WHERE kind = 'duplicate'),
    count(*) FILTER (WHERE repeated), count(*) FILTER (WHERE kind = 'invalid')
FROM ({VERDICT}) AS verdicts
"""  # noqa: S608  # made of constants

SELECT_FIRST = f"""
SELECT coalesce(json_agg(first), '[]')::text FROM (
    SELECT line, code, expires_on, kind, CASE WHEN kind IS NOT NULL THEN reason END AS reason
    FROM ({VERDICT}) AS verdicts ORDER BY line LIMIT %(limit)s
) AS first
"""  # noqa: S608  # made of constants

SELECT_REJECTED = f"""
SELECT line, code, given_course, given_expiry, kind, reason FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY line) AS nth FROM ({VERDICT}) AS verdicts
    WHERE kind IS NOT NULL
) AS rejected
WHERE %(limit)s::int IS NULL OR nth <= %(limit)s::int
ORDER BY line
"""  # noqa: S608  # made of constants

KEEP_REJECTED = f"""
INSERT INTO vouchers_rejectedline (batch_id, line, code, course, expires_on, kind, reason)
SELECT %(batch)s, line, code, given_course, given_expiry, kind, reason
FROM ({VERDICT}) AS verdicts WHERE kind IS NOT NULL
"""  # noqa: S608  # made of constants
