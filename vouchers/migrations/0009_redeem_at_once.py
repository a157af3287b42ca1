"""A voucher is redeemed in one statement.

Why a function: looking at a voucher and spending it took five statements and a transaction of its own, each with its trip
to the database and its plan. It is also the one place that knows which voucher may be spent, and why another may not.
"""

from django.db import migrations

# Refusals are those of RedeemAttempt.Reason. Nothing is written, and no voucher named, where there is no such code or
# where the caller has `free_guesses` behind it or more (null: whoever asks has looked after the limit).
#
# No sequential scans: a connection keeps the plans, and a plan made when the table was small would read all of it after a
# large import, until the next ANALYZE.
REDEEM = """
CREATE FUNCTION vouchers_redeem(
    given_code text, named_course text, named_holder text, given_email text, buyer_language text,
    guesser text, request_key text, free_guesses integer, guess_window interval,
    new_purchase uuid, new_token text, moment timestamptz, today date,
    OUT voucher bigint, OUT course text, OUT holder text, OUT refusal text
) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    it record;
BEGIN
    IF free_guesses IS NOT NULL AND free_guesses <= (
        SELECT count(*) FROM vouchers_guess g WHERE g.caller = guesser AND g.at > statement_timestamp() - guess_window
    ) THEN
        RETURN;
    END IF;

    LOOP
        SELECT v.id, v.course_id, v.status, v.valid_until, v.issued_to, v.issued_at, v.held_since, c.currency,
            CASE
                WHEN named_course NOT IN ('', v.course_id) THEN 'other_course'
                WHEN c.redemption <> 'bearer' AND v.issued_at IS NULL THEN 'never_issued'
                WHEN c.redemption = 'holder' AND upper(v.issued_to) <> upper(named_holder) THEN 'other_email'
                WHEN v.status = 'redeemed' THEN 'redeemed'
                WHEN v.status = 'revoked' THEN 'revoked'
                WHEN v.held_since IS NOT NULL THEN 'on_hold'
                WHEN v.valid_until < today THEN 'expired'
            END AS refusal
            INTO it
            FROM vouchers_voucher v JOIN courses_course c ON c.id = v.course_id
            WHERE upper(v.code) = upper(given_code);
        voucher := it.id;
        course := it.course_id;
        holder := it.issued_to;
        refusal := it.refusal;
        IF voucher IS NULL OR refusal IS NOT NULL THEN
            RETURN;
        END IF;

        -- Only as it was looked at: of many callers one finds it so, and none spends what has gone to the next holder.
        UPDATE vouchers_voucher v
            SET status = 'redeemed', redeemed_at = moment, issued_at = coalesce(v.issued_at, moment)
            WHERE v.id = it.id AND (v.status, v.valid_until, v.issued_to, v.issued_at, v.held_since)
                IS NOT DISTINCT FROM (it.status, it.valid_until, it.issued_to, it.issued_at, it.held_since);
        EXIT WHEN FOUND;
    END LOOP;

    INSERT INTO courses_purchase (
        id, token, provider, reference, course_id, email, language, amount, currency, paid_at,
        quantity, began_here, checkout, agreed_currency, refunded_amount, review
    ) VALUES (
        new_purchase, new_token, 'voucher', it.id, it.course_id, coalesce(nullif(given_email, ''), it.issued_to),
        buyer_language, 0, it.currency, moment, 1, false, '', '', 0, ''
    );
    INSERT INTO vouchers_redemption (voucher_id, purchase_id, email, caller, idempotency_key, redeemed_at)
        VALUES (it.id, new_purchase, given_email, guesser, request_key, moment);
END $$;
"""
UNDO = """
DROP FUNCTION vouchers_redeem(
    text, text, text, text, text, text, text, integer, interval, uuid, text, timestamptz, date
);
"""


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0008_issue_at_once")]

    operations = [migrations.RunSQL(REDEEM, UNDO)]
