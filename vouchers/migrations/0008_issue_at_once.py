"""Codes are given to new holders in one statement, and a plain request is answered by one (docs/decisions/0018)."""

from django.db import migrations

GIVE = """
-- Gives the next codes of a pool to new holders, in their order, as many as there are: each voucher becomes theirs, its
-- issuance and its first email are stored. Returns a row for each, in the same order.
--
-- The scan begins behind the place that the caller remembers, and looks before it only then. Otherwise every claim would
-- walk again over the index entries of everything issued since the last vacuum. A place counts only until the next
-- upload, or codes that expire sooner would be passed over.
--
-- Generic plans: seeing the number of holders, the planner would plan every call anew.
CREATE FUNCTION vouchers_give(
    the_course text, today date, emails text[], orders text[], units integer[], messages text[],
    the_purchase uuid, the_caller text, the_language text, tells_code boolean, waits boolean,
    place_uploads bigint, place_cutoff date, place_day date, place_position bigint
) RETURNS TABLE (
    given_issuance bigint, given_voucher bigint, given_code varchar, given_expiry date, given_at timestamptz,
    course_name varchar, next_uploads bigint, next_cutoff date, next_day date, next_position bigint
) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    course record;
    taken bigint[];
    before_place bigint[];
BEGIN
    SELECT c.name, c.reveal, c.uploads, today + c.minimum_validity_days AS cutoff INTO course
        FROM courses_course c WHERE c.id = the_course;
    IF waits THEN
        -- For the last codes, which others hold: PostgreSQL looks at a row again once they let it go.
        SELECT array_agg(t.id) INTO taken FROM (
            SELECT v.id FROM vouchers_voucher v
            WHERE v.course_id = the_course AND v.status = 'available' AND v.valid_until >= course.cutoff
            ORDER BY v.valid_until, v.position LIMIT cardinality(emails) FOR UPDATE
        ) AS t;
    ELSE
        IF (place_uploads, place_cutoff) IS DISTINCT FROM (course.uploads, course.cutoff) THEN
            place_day := '-infinity';
            place_position := 0;
        END IF;
        SELECT coalesce(array_agg(t.id), '{}') INTO taken FROM (
            SELECT v.id FROM vouchers_voucher v
            WHERE v.course_id = the_course AND v.status = 'available' AND v.valid_until >= course.cutoff
                AND (v.valid_until, v.position) > (place_day, place_position)
            ORDER BY v.valid_until, v.position LIMIT cardinality(emails) FOR UPDATE SKIP LOCKED
        ) AS t;
        IF cardinality(taken) < cardinality(emails) AND place_day > '-infinity' THEN
            SELECT array_agg(t.id) INTO before_place FROM (
                SELECT v.id FROM vouchers_voucher v
                WHERE v.course_id = the_course AND v.status = 'available' AND v.valid_until >= course.cutoff
                    AND (v.valid_until, v.position) <= (place_day, place_position)
                ORDER BY v.valid_until, v.position LIMIT cardinality(emails) - cardinality(taken)
                FOR UPDATE SKIP LOCKED
            ) AS t;
            taken := taken || before_place;
        END IF;
    END IF;
    IF taken IS NULL OR taken = '{}' THEN
        RETURN;
    END IF;

    UPDATE vouchers_voucher v SET status = 'issued', issued_to = holder.email, issued_at = statement_timestamp()
        FROM unnest(taken, emails) AS holder (voucher, email) WHERE v.id = holder.voucher;
    RETURN QUERY
        WITH issued AS (
            INSERT INTO vouchers_issuance
                (course_id, email, order_id, purchase_id, unit, voucher_id, status, caller, issued_at, told_at)
            SELECT the_course, holder.email, holder.order_id, the_purchase, holder.unit, holder.voucher, 'issued',
                the_caller, statement_timestamp(), CASE WHEN tells_code THEN statement_timestamp() END
            FROM unnest(taken, emails, orders, units) AS holder (voucher, email, order_id, unit)
            WHERE holder.voucher IS NOT NULL
            RETURNING id, voucher_id, email
        ), queued AS (
            INSERT INTO vouchers_delivery
                (issuance_id, kind, series, email, language, carries_code, status, attempts, message_id, provider_id,
                last_error, fate, fate_reason)
            SELECT issued.id, 'voucher', 1, issued.email, the_language, course.reveal = 'email', 'queued', 0,
                holder.message, '', '', '', ''
            FROM issued JOIN unnest(taken, messages) AS holder (voucher, message) ON holder.voucher = issued.voucher_id
        )
        SELECT issued.id, v.id, v.code, v.expires_on, v.issued_at,
            course.name, course.uploads, course.cutoff, v.valid_until, v.position
        FROM unnest(taken) WITH ORDINALITY AS holder (voucher, nth)
        JOIN issued ON issued.voucher_id = holder.voucher
        JOIN vouchers_voucher v ON v.id = holder.voucher
        ORDER BY holder.nth;
END $$;
"""

ISSUE_AT_ONCE = """
-- A request for a voucher, answered at once where there is nothing unusual about it: nobody is at the same request or at
-- a list that may hold it, it was not made before, nobody waits, and the pool has a code. Otherwise writes nothing and
-- returns no row, and the desk looks closer.
CREATE FUNCTION vouchers_issue_at_once(
    of_lists bigint[], same_request bigint[], the_key text, the_fingerprint text,
    the_course text, today date, the_email text, the_order text, the_message text, the_caller text, the_language text,
    tells_code boolean, place_uploads bigint, place_cutoff date, place_day date, place_position bigint
) RETURNS TABLE (
    given_issuance bigint, given_voucher bigint, given_code varchar, given_expiry date, given_at timestamptz,
    course_name varchar, next_uploads bigint, next_cutoff date, next_day date, next_position bigint
) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    same bigint;
BEGIN
    FOREACH same IN ARRAY of_lists LOOP
        IF NOT pg_try_advisory_xact_lock_shared(same) THEN
            RETURN;
        END IF;
    END LOOP;
    FOREACH same IN ARRAY same_request LOOP
        IF NOT pg_try_advisory_xact_lock(same) THEN
            RETURN;
        END IF;
    END LOOP;
    IF the_key <> '' AND EXISTS (
        SELECT FROM vouchers_idempotencykey k WHERE k.caller = the_caller AND k.key = the_key
    ) THEN
        RETURN;
    END IF;
    IF the_order <> '' AND (
        EXISTS (
            SELECT FROM vouchers_issuance i
            WHERE i.course_id = the_course AND i.order_id = the_order AND i.order_id <> ''
        ) OR EXISTS (
            SELECT FROM courses_purchase p WHERE p.provider IN ('stripe', 'paypal') AND p.reference = the_order
        ) OR EXISTS (
            SELECT FROM courses_purchase p
            WHERE p.provider IN ('stripe', 'paypal') AND p.checkout = the_order AND p.checkout <> ''
        )
    ) THEN
        RETURN;
    END IF;
    IF the_key = '' AND the_order = '' AND EXISTS (
        SELECT FROM vouchers_issuance i
        WHERE upper(i.email) = upper(the_email) AND i.course_id = the_course AND i.status IN ('waiting', 'issued')
    ) THEN
        RETURN;
    END IF;
    IF EXISTS (
        SELECT FROM vouchers_issuance i
        WHERE i.course_id = the_course AND i.status = 'waiting' AND i.held_since IS NULL
    ) THEN
        RETURN;
    END IF;

    RETURN QUERY
        WITH given AS (
            SELECT * FROM vouchers_give(
                the_course, today, ARRAY[the_email], ARRAY[the_order], '{}', ARRAY[the_message], NULL, the_caller,
                the_language, tells_code, false, place_uploads, place_cutoff, place_day, place_position
            )
        ), remembered AS (
            INSERT INTO vouchers_idempotencykey (caller, key, fingerprint, issuance_id)
            SELECT the_caller, the_key, the_fingerprint, given.given_issuance FROM given WHERE the_key <> ''
        )
        SELECT * FROM given;
END $$;
"""

UNDO = """
DROP FUNCTION vouchers_issue_at_once;
DROP FUNCTION vouchers_give;
"""


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0007_rules_of_support"), ("courses", "0004_uploads")]

    operations = [migrations.RunSQL(GIVE + ISSUE_AT_ONCE, UNDO)]
