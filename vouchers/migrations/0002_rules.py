"""The rules that hold whatever path a write takes: the legal moves, and what never changes or vanishes.

Why triggers: a form of the stock admin writes every column. Saving a note while the voucher was being
issued put it back into the pool, and it was sold twice.
"""

from django.db import migrations

RULES = """
CREATE FUNCTION vouchers_voucher_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.status <> 'available' THEN
            RAISE EXCEPTION 'voucher % is % and may not be deleted', OLD.id, OLD.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_is_kept';
        END IF;
        RETURN OLD;
    END IF;

    IF (NEW.id, NEW.code, NEW.course_id, NEW.batch_id, NEW.position)
        IS DISTINCT FROM (OLD.id, OLD.code, OLD.course_id, OLD.batch_id, OLD.position) THEN
        RAISE EXCEPTION 'voucher %: code, course, batch and position never change', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_identity';
    END IF;

    IF NEW.status = OLD.status THEN
        IF (NEW.issued_at, NEW.redeemed_at, NEW.revoked_at)
            IS DISTINCT FROM (OLD.issued_at, OLD.redeemed_at, OLD.revoked_at) THEN
            RAISE EXCEPTION 'voucher %: its times change only with its status', OLD.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_times';
        END IF;
        RETURN NEW;
    END IF;

    IF NEW.status = 'available' AND OLD.status IN ('issued', 'revoked') THEN
        -- Only a code its holder never saw, and only together with the end of its issuance: the trigger on
        -- issuances stamps returned_at with the time of the transaction. A sender that has just taken an email
        -- of it is waited for.
        PERFORM FROM vouchers_delivery d
            WHERE d.issuance_id IN (SELECT i.id FROM vouchers_issuance i WHERE i.voucher_id = OLD.id)
            FOR UPDATE;
        IF OLD.issued_at IS NULL OR EXISTS (
            SELECT FROM vouchers_issuance i WHERE i.voucher_id = OLD.id AND i.status <> 'returned'
        ) OR NOT EXISTS (
            SELECT FROM vouchers_issuance i
            WHERE i.voucher_id = OLD.id AND i.status = 'returned'
                AND i.returned_at = transaction_timestamp() AND i.seen_at IS NULL
                AND NOT EXISTS (
                    SELECT FROM vouchers_delivery d WHERE d.issuance_id = i.id AND d.attempts > 0
                )
        ) THEN
            RAISE EXCEPTION 'voucher % may not go back to the pool: no unseen issuance of it is returned with it',
                OLD.id USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_return';
        END IF;
        RETURN NEW;
    END IF;

    IF (OLD.status, NEW.status) NOT IN (
        ('available', 'issued'), ('available', 'redeemed'), ('available', 'revoked'),
        ('issued', 'redeemed'), ('issued', 'revoked')
    ) THEN
        RAISE EXCEPTION 'voucher %: % may not become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_moves';
    END IF;
    IF OLD.issued_at IS NOT NULL AND NEW.issued_at IS DISTINCT FROM OLD.issued_at THEN
        RAISE EXCEPTION 'voucher %: when it was issued never changes', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_times';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER voucher_rules BEFORE UPDATE OR DELETE ON vouchers_voucher
    FOR EACH ROW EXECUTE FUNCTION vouchers_voucher_rules();

CREATE FUNCTION vouchers_voucher_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a voucher begins as available, not as %', NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_begins';
END $$;

CREATE TRIGGER voucher_begins BEFORE INSERT ON vouchers_voucher
    FOR EACH ROW WHEN (NEW.status <> 'available') EXECUTE FUNCTION vouchers_voucher_begins();

-- At the end of the transaction: whoever holds a voucher is written down, and so is how it was spent.
CREATE FUNCTION vouchers_voucher_is_accounted_for() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    this bigint := CASE TG_TABLE_NAME WHEN 'vouchers_voucher' THEN (to_jsonb(NEW) ->> 'id')::bigint
        ELSE (to_jsonb(NEW) ->> 'voucher_id')::bigint END;
    now_is text := (SELECT v.status FROM vouchers_voucher v WHERE v.id = this);
BEGIN
    IF now_is = 'issued' AND NOT EXISTS (
        SELECT FROM vouchers_issuance i WHERE i.voucher_id = this AND i.status = 'issued'
    ) THEN
        RAISE EXCEPTION 'voucher % is issued and no open issuance says to whom', this
            USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_issued_has_issuance';
    END IF;
    IF now_is = 'redeemed' AND NOT EXISTS (SELECT FROM vouchers_redemption r WHERE r.voucher_id = this) THEN
        RAISE EXCEPTION 'voucher % is redeemed and no redemption says how', this
            USING ERRCODE = 'check_violation', CONSTRAINT = 'voucher_redeemed_has_redemption';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER voucher_is_accounted_for AFTER UPDATE ON vouchers_voucher
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status IN ('issued', 'redeemed') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION vouchers_voucher_is_accounted_for();

CREATE FUNCTION vouchers_issuance_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'issuance % may not be deleted', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'issuance_is_kept';
    END IF;

    IF TG_OP = 'INSERT' AND NEW.status NOT IN ('waiting', 'issued') THEN
        RAISE EXCEPTION 'an issuance begins as waiting or issued, not as %', NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'issuance_begins';
    END IF;

    IF TG_OP = 'UPDATE' THEN
        IF NEW.course_id <> OLD.course_id
            OR (OLD.voucher_id IS NOT NULL AND NEW.voucher_id IS DISTINCT FROM OLD.voucher_id) THEN
            RAISE EXCEPTION 'issuance %: its course and its voucher never change', OLD.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'issuance_identity';
        END IF;
        IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
            ('waiting', 'issued'), ('waiting', 'cancelled'), ('issued', 'returned')
        ) THEN
            RAISE EXCEPTION 'issuance %: % may not become %', OLD.id, OLD.status, NEW.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'issuance_moves';
        END IF;
        IF NEW.status = 'returned' AND OLD.status <> 'returned' THEN
            NEW.returned_at := transaction_timestamp();
        ELSIF NEW.returned_at IS DISTINCT FROM OLD.returned_at THEN
            RAISE EXCEPTION 'issuance %: when it was returned never changes', OLD.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'issuance_times';
        END IF;
    END IF;

    IF NEW.voucher_id IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.voucher_id IS NULL) AND NOT EXISTS (
        SELECT FROM vouchers_voucher v
        WHERE v.id = NEW.voucher_id AND v.course_id = NEW.course_id AND v.status = 'issued'
    ) THEN
        RAISE EXCEPTION 'issuance %: voucher % is not an issued one of this course', NEW.id, NEW.voucher_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'issuance_voucher_matches';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER issuance_rules BEFORE INSERT OR UPDATE OR DELETE ON vouchers_issuance
    FOR EACH ROW EXECUTE FUNCTION vouchers_issuance_rules();

CREATE CONSTRAINT TRIGGER issuance_returned_with_voucher AFTER UPDATE ON vouchers_issuance
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status = 'returned' AND NEW.status <> OLD.status)
    EXECUTE FUNCTION vouchers_voucher_is_accounted_for();

CREATE FUNCTION vouchers_redemption_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'the redemption of voucher % may not be deleted', OLD.voucher_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'redemption_is_kept';
    END IF;
    IF NOT EXISTS (SELECT FROM vouchers_voucher v WHERE v.id = NEW.voucher_id AND v.status = 'redeemed') THEN
        RAISE EXCEPTION 'voucher % is not redeemed', NEW.voucher_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'redemption_voucher_matches';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER redemption_rules BEFORE INSERT OR DELETE ON vouchers_redemption
    FOR EACH ROW EXECUTE FUNCTION vouchers_redemption_rules();
"""

UNDO = """
DROP TRIGGER redemption_rules ON vouchers_redemption;
DROP TRIGGER issuance_returned_with_voucher ON vouchers_issuance;
DROP TRIGGER issuance_rules ON vouchers_issuance;
DROP TRIGGER voucher_is_accounted_for ON vouchers_voucher;
DROP TRIGGER voucher_begins ON vouchers_voucher;
DROP TRIGGER voucher_rules ON vouchers_voucher;
DROP FUNCTION vouchers_redemption_rules();
DROP FUNCTION vouchers_issuance_rules();
DROP FUNCTION vouchers_voucher_is_accounted_for();
DROP FUNCTION vouchers_voucher_begins();
DROP FUNCTION vouchers_voucher_rules();
"""


class Migration(migrations.Migration):
    dependencies = [("vouchers", "0001_initial")]

    operations = [migrations.RunSQL(RULES, UNDO)]
