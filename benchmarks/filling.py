"""Fills the tables of a desk as a few years of selling would, with millions of vouchers, by plain SQL.

A fifth of the vouchers is issued, a twentieth redeemed, a fiftieth revoked, the rest in the pool. Codes are uploaded in
batches that go round the courses, the first ones of a course are the first to be issued, half of them are paid for, and
half of the courses have codes that expire. Every issued one has its issuance, its email, what the provider told of that
and the message to a learning platform; every redeemed one has its redemption and its free purchase.
"""

from __future__ import annotations

import time

import psycopg

COURSES = 200
WAITING = 2000
TABLES = ["courses_purchase", "courses_paymentfact"] + [
    f"vouchers_{name}"
    for name in (
        "voucher",
        "issuance",
        "idempotencykey",
        "delivery",
        "deliveryevent",
        "redemption",
        "redeemattempt",
        "rejectedline",
        "webhookmessage",
        "keptemail",
    )
]

# The share of a course that has left the pool, from its first code on, and of 27 such codes what became of each.
GONE = 0.27
FATE = "CASE WHEN n %% 27 < 20 THEN 'issued' WHEN n %% 27 < 25 THEN 'redeemed' ELSE 'revoked' END"

COURSES_AND_BATCHES = """
INSERT INTO courses_course (id, name, currency, price, on_sale, redemption, minimum_validity_days, description,
        stop_when_empty, reveal, warn_before_days)
    SELECT 'C' || lpad(n::text, 3, '0'), 'Course ' || n, 'usd', 49, true, 'bearer', 0, '', false, 'email', 7
    FROM generate_series(1, %(courses)s) n;
INSERT INTO vouchers_batch (actor, source, file_name, sha256, read, inserted, duplicates, invalid, course_id,
        cancel_asked, filled, first_lines, pattern, percent, problem, repeated, status, wanted, expires_on, created_at)
    SELECT 'admin', 'admin', 'codes-' || n || '.csv', md5(n::text) || md5(n::text), %(batch)s + 10, %(batch)s, 5, 5,
        'C' || lpad((1 + n %% (%(courses)s - 1))::text, 3, '0'), false, 0, '[]', '', 100, '', 0, 'stored', 0,
        CASE WHEN n %% 2 = 0 THEN current_date - 60 + n * 7 %% 900 END, now() - (%(batches)s - n) * interval '8 hours'
    FROM generate_series(0, %(batches)s - 1) n ORDER BY n;
INSERT INTO vouchers_rejectedline (line, code, kind, reason, batch_id, course, expires_on)
    SELECT line, 'CODE ' || line, CASE WHEN line < 6 THEN 'duplicate' ELSE 'invalid' END, 'Why not', b.id, '', ''
    FROM vouchers_batch b, generate_series(1, 10) line;
"""

# `done` is how much of its course was uploaded before a code.
VOUCHERS = f"""
INSERT INTO vouchers_voucher (code, course_id, batch_id, position, expires_on, status, issued_to, issued_at,
        redeemed_at, revoked_at, revoked_reason, note)
    SELECT b.course_id || '-' || upper(substr(md5(n::text), 1, 10)) || '-' || n, b.course_id, b.id,
        b.id * 4294967296 + line, b.expires_on, fate,
        CASE WHEN gone AND n %% 27 <> 26 THEN 'buyer' || n / 2 || '@example.com' ELSE '' END,
        CASE WHEN gone AND n %% 27 <> 26 THEN moved_at END,
        CASE WHEN fate = 'redeemed' THEN moved_at + interval '2 days' END,
        CASE WHEN fate = 'revoked' THEN moved_at + interval '1 day' END,
        CASE WHEN fate = 'revoked' THEN 'Refunded' ELSE '' END, ''
    FROM (
        SELECT *, CASE WHEN gone THEN {FATE} ELSE 'available' END AS fate,
            now() - (1 - done / {GONE}) * interval '700 days' - n %% 86400 * interval '1 s' AS moved_at
        FROM (
            SELECT *, done < {GONE} AS gone FROM (
                SELECT *, ((place / (%(courses)s - 1)) * %(batch)s + line)::float
                    / ((%(batches)s / (%(courses)s - 1)) * %(batch)s) AS done, place::bigint * %(batch)s + line AS n
                FROM (SELECT *, row_number() OVER (ORDER BY id) - 1 AS place FROM vouchers_batch) batches,
                    generate_series(0, %(batch)s - 1) line
            ) codes
        ) codes
    ) AS b;
"""  # noqa: S608  # made of constants

WHAT_BECAME_OF_THEM = """
INSERT INTO courses_purchase (id, provider, reference, email, quantity, amount, currency, checkout, refunded_amount,
        review, token, began_here, agreed_currency, language, created_at, paid_at, completed_at, refunded_at,
        disputed_at, reviewed_at, course_id, live)
    SELECT md5('p' || id)::uuid, 'stripe', 'pi_' || md5(id::text), issued_to, 1, 49, 'usd', 'cs_' || md5(id::text),
        CASE WHEN status = 'revoked' THEN 49 ELSE 0 END, CASE WHEN id %% 2000 = 0 THEN 'Paid too little.' ELSE '' END,
        left(md5(id::text) || md5('t' || id), 43), true, 'usd', 'en', issued_at, issued_at, issued_at,
        CASE WHEN status = 'revoked' THEN revoked_at END,
        CASE WHEN id %% 2002 = 0 THEN issued_at END, CASE WHEN id %% 20000 > 0 THEN issued_at END, course_id, true
    FROM vouchers_voucher WHERE issued_at IS NOT NULL AND id %% 2 = 0 ORDER BY issued_at;
INSERT INTO courses_purchase (id, provider, reference, email, quantity, amount, currency, checkout, refunded_amount,
        review, token, began_here, agreed_currency, language, created_at, paid_at, course_id)
    SELECT md5('r' || id)::uuid, 'voucher', id::text, issued_to, 1, 0, 'usd', '', 0, '',
        left(md5('r' || id) || md5('s' || id), 43), false, '', '', redeemed_at, redeemed_at, course_id
    FROM vouchers_voucher WHERE status = 'redeemed' ORDER BY redeemed_at;
INSERT INTO courses_purchase (id, provider, reference, email, quantity, amount, currency, checkout, refunded_amount,
        review, token, began_here, agreed_currency, language, created_at, paid_at, completed_at, course_id, live)
    SELECT md5('w' || n)::uuid, 'paypal', 'PAY-' || n, 'waiting' || n || '@example.com', 1, 49, 'usd', '', 0, '',
        left(md5('w' || n) || md5('v' || n), 43), true, 'usd', '', at, at, at, 'C' || lpad(%(courses)s::text, 3, '0'),
        true
    FROM (SELECT n, now() - n * interval '10 minutes' AS at FROM generate_series(1, %(waiting)s) n) AS waiting;
INSERT INTO courses_paymentfact (provider, reference, kind, key, amount, at, source, claims)
    SELECT provider, reference, 'paid', 'ch_' || reference, amount, paid_at, 'event', '{}' FROM courses_purchase
    WHERE provider <> 'voucher';
INSERT INTO vouchers_redemption (voucher_id, purchase_id, email, caller, idempotency_key, redeemed_at)
    SELECT id, md5('r' || id)::uuid, issued_to, 'anonymous', '', redeemed_at
    FROM vouchers_voucher WHERE status = 'redeemed' ORDER BY redeemed_at;
INSERT INTO vouchers_redeemattempt (voucher_id, reason, caller, course, email, times, last_at)
    SELECT id, 'redeemed', '10.0.0.' || id %% 200, '', '', 1, redeemed_at
    FROM vouchers_voucher WHERE status = 'redeemed' AND id %% 20 = 0;
INSERT INTO vouchers_issuance (course_id, email, order_id, status, caller, voucher_id, issued_at, created_at,
        purchase_id, unit, seen_at)
    SELECT course_id, issued_to, CASE WHEN id %% 2 = 1 THEN 'order ' || id ELSE '' END, 'issued', 'api_key:bench', id,
        issued_at, issued_at, CASE WHEN id %% 2 = 0 THEN md5('p' || id)::uuid END, CASE WHEN id %% 2 = 0 THEN 1 END,
        CASE WHEN status = 'redeemed' THEN redeemed_at END
    FROM vouchers_voucher WHERE issued_at IS NOT NULL ORDER BY issued_at;
INSERT INTO vouchers_issuance (course_id, email, order_id, status, caller, created_at, purchase_id, unit, held_since)
    SELECT course_id, email, '', 'waiting', 'payment', created_at, id, 1,
        CASE WHEN reference LIKE '%%77' THEN created_at END
    FROM courses_purchase WHERE provider = 'paypal' ORDER BY created_at;
INSERT INTO vouchers_idempotencykey (caller, key, fingerprint, issuance_id)
    SELECT caller, 'key ' || id, md5(id::text) || md5(id::text), id FROM vouchers_issuance WHERE order_id <> '';
INSERT INTO vouchers_delivery (kind, series, email, status, attempts, message_id, provider_id, last_error,
        carries_code, fate, fate_at, fate_reason, language, due_at, created_at, sent_at, issuance_id)
    SELECT 'voucher', 1, email, CASE WHEN went THEN 'sent' WHEN id %% 2 = 0 THEN 'failed' ELSE 'queued' END, 1,
        '<' || md5('d' || id)::uuid || '@example.com>', CASE WHEN went THEN md5('d' || id) ELSE '' END,
        CASE WHEN went THEN '' ELSE '550 no such user' END, true,
        CASE WHEN went AND id %% 200 = 9 THEN 'bounced' WHEN went AND id %% 3 > 0 THEN 'delivered' ELSE '' END,
        CASE WHEN went AND (id %% 200 = 9 OR id %% 3 > 0) THEN issued_at END, '', 'en', issued_at, issued_at,
        CASE WHEN went THEN issued_at END, id
    FROM (SELECT *, id %% 1000 > 2 AS went FROM vouchers_issuance WHERE issued_at IS NOT NULL) AS i ORDER BY id;
INSERT INTO vouchers_delivery (kind, series, email, status, attempts, message_id, provider_id, last_error,
        carries_code, fate, fate_reason, language, sent_at, purchase_id)
    SELECT 'waiting', 1, email, 'sent', 1, '<' || id || '@example.com>', '', '', false, '', '', '', created_at, id
    FROM courses_purchase WHERE provider = 'paypal' ORDER BY created_at;
INSERT INTO vouchers_deliveryevent (provider, key, kind, at, reason, delivery_id)
    SELECT 'provider', 'event ' || id, fate, fate_at, '', id FROM vouchers_delivery WHERE fate <> '';
INSERT INTO vouchers_keptemail (message_id, "to", subject, text, html, kept_at)
    SELECT message_id, email, 'Your voucher', 'Your code is here.', '', sent_at
    FROM vouchers_delivery WHERE status = 'sent' AND id %% 10 = 0;
INSERT INTO vouchers_webhookreceiver (name, url, secret, events, active, disabled_reason)
    SELECT 'Platform ' || n, 'https://example.com/' || n, 'whsec_' || n, ARRAY['voucher.issued'], false, ''
    FROM generate_series(1, 2) n;
INSERT INTO vouchers_webhookmessage (message_id, type, payload, status, attempts, last_error, receiver_id, sent_at)
    SELECT 'msg_' || id, 'voucher.issued', '{}', 'sent', 1, '', 1 + id %% 2, issued_at
    FROM vouchers_issuance WHERE status = 'issued' AND id %% 4 = 0;
INSERT INTO djstripe_event (djstripe_created, djstripe_updated, stripe_data, id, api_version, data, request_id,
        idempotency_key, type, created, livemode)
    SELECT paid_at, paid_at, '{}', 'evt_' || id, '', '{"object": {}}', '', '', 'checkout.session.completed',
        paid_at, true
    FROM courses_purchase WHERE provider = 'stripe' ORDER BY paid_at;
INSERT INTO djstripe_webhookeventtrigger (remote_ip, headers, body, valid, processed, exception, traceback,
        djstripe_version, created, updated, event_id)
    SELECT '10.0.0.1', '{}', '{}', true, true, '', '', '2', created, created, id FROM djstripe_event
    WHERE created > now() - interval '90 days';
"""

TALLIES = """
INSERT INTO vouchers_tally (course_id, status, was_issued, valid_until, number)
    SELECT course_id, status, issued_at IS NOT NULL, valid_until, count(*) FROM vouchers_voucher GROUP BY 1, 2, 3, 4
"""

INDEXES = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = ANY(%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
"""


def fill(url: str, vouchers: int) -> None:
    """Loads without triggers and most indexes, as a restore does; then makes good for both."""
    started = time.monotonic()
    batches = max(5 * (COURSES - 1), vouchers // 20_000 // (COURSES - 1) * (COURSES - 1))
    numbers = {"courses": COURSES, "waiting": WAITING, "batches": batches, "batch": vouchers // batches}
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET session_replication_role = replica; SET statement_timeout = 0")
        connection.execute("SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'")
        indexes = connection.execute(INDEXES, [TABLES]).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for statements in (COURSES_AND_BATCHES, VOUCHERS, WHAT_BECAME_OF_THEM):
            connection.execute(statements, numbers)
        for _, definition in indexes:
            connection.execute(definition)
        count_anew(connection)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
    print(f"{vouchers:,} vouchers and what became of them: loaded in {time.monotonic() - started:.0f} s", flush=True)


def count_anew(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """The tallies, which triggers would have kept."""
    connection.execute(TALLIES)
