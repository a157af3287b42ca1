"""Whether what is counted is what there is, found by another way than the one that says it."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from vouchers import tallies
from vouchers.doctor.check import Check, HealableCheck, Row
from vouchers.errors import NotHealable
from vouchers.models import Batch, RejectedLine


class BatchesAddUp(HealableCheck):
    name = "batches_add_up"
    title = "Every batch has the vouchers and the rejected lines that it counts"
    # While a batch is undone its codes and its status change in one transaction, at the end.
    breaks = """
        SELECT b.id AS key, b.status, b.inserted, b.duplicates, b.invalid, coalesce(v.vouchers, 0) AS vouchers,
            coalesce(r.duplicates, 0) AS real_duplicates, coalesce(r.invalid, 0) AS real_invalid
        FROM vouchers_batch b
        LEFT JOIN (SELECT batch_id, count(*) AS vouchers FROM vouchers_voucher GROUP BY 1) AS v ON v.batch_id = b.id
        LEFT JOIN (
            SELECT batch_id, count(*) FILTER (WHERE kind = 'duplicate') AS duplicates,
                count(*) FILTER (WHERE kind = 'invalid') AS invalid
            FROM vouchers_rejectedline GROUP BY 1
        ) AS r ON r.batch_id = b.id
        WHERE coalesce(v.vouchers, 0) <> CASE WHEN b.status IN ('stored', 'undoing') THEN b.inserted ELSE 0 END
            OR (b.duplicates, b.invalid) <> (coalesce(r.duplicates, 0), coalesce(r.invalid, 0))
    """
    sentence = (
        "Batch {key} ({status}) counts {inserted} vouchers, {duplicates} duplicates and {invalid} malformed lines; "
        "there are {vouchers}, {real_duplicates} and {real_invalid}."
    )
    advice = (
        "Nothing of a batch that is not stored may be in the pool: revoke its vouchers, and find out who made them."
    )

    def mend(self, row: Row) -> None:
        batch = Batch.objects.select_for_update().get(pk=row["key"])
        if batch.status != Batch.Status.STORED:
            return
        inserted = batch.vouchers.count()
        if inserted < batch.inserted:
            raise NotHealable(f"Codes of batch {batch.pk} may be lost: find out what became of them, and upload them.")
        duplicates = batch.rejected_lines.filter(kind=RejectedLine.Kind.DUPLICATE).count()
        invalid = batch.rejected_lines.filter(kind=RejectedLine.Kind.INVALID).count()
        Batch.objects.filter(pk=batch.pk).update(
            inserted=inserted,
            duplicates=duplicates,
            invalid=invalid,
            read=inserted + duplicates + invalid,
            repeated=min(batch.repeated, duplicates),
        )


class VouchersAddUp(Check):
    name = "vouchers_add_up"
    title = "Issuances, redemptions and batches count the vouchers that there are"
    # Issued by issuances (one voucher each), by what they held before, and by codes that were redeemed without one;
    # remaining by what the batches stored, less that, less what is withdrawn or not valid for long enough.
    breaks = """
        SELECT there.id AS key, there.issued, there.redeemed, there.remaining,
            counted.issued AS counted_issued, counted.redeemed AS counted_redeemed,
            counted.remaining AS counted_remaining
        FROM (
            SELECT c.id, coalesce(v.issued, 0) AS issued, coalesce(v.redeemed, 0) AS redeemed,
                coalesce(v.remaining, 0) AS remaining
            FROM courses_course c
            LEFT JOIN (
                SELECT v.course_id, count(v.issued_at) AS issued,
                    count(*) FILTER (WHERE v.status = 'redeemed') AS redeemed,
                    count(*) FILTER (
                        WHERE v.status = 'available' AND v.valid_until >= %s + c.minimum_validity_days
                    ) AS remaining
                FROM vouchers_voucher v JOIN courses_course c ON c.id = v.course_id GROUP BY 1
            ) AS v ON v.course_id = c.id
        ) AS there JOIN (
            SELECT c.id, coalesce(i.issued, 0) + coalesce(o.replaced, 0) + coalesce(r.bearers, 0) AS issued,
                coalesce(r.redeemed, 0) AS redeemed, coalesce(b.stored, 0) - coalesce(i.issued, 0)
                    - coalesce(o.replaced, 0) - coalesce(r.bearers, 0) - coalesce(v.withdrawn, 0) AS remaining
            FROM courses_course c
            LEFT JOIN (
                SELECT course_id, count(*) AS issued FROM vouchers_issuance WHERE status = 'issued' GROUP BY 1
            ) AS i ON i.course_id = c.id
            LEFT JOIN (
                SELECT i.course_id, count(*) AS replaced
                FROM vouchers_replacement o JOIN vouchers_issuance i ON i.id = o.issuance_id GROUP BY 1
            ) AS o ON o.course_id = c.id
            LEFT JOIN (
                SELECT p.course_id, count(*) AS redeemed, count(*) FILTER (WHERE i.id IS NULL) AS bearers
                FROM vouchers_redemption r
                JOIN courses_purchase p ON p.id = r.purchase_id
                LEFT JOIN vouchers_issuance i ON i.voucher_id = r.voucher_id AND i.status = 'issued'
                GROUP BY 1
            ) AS r ON r.course_id = c.id
            LEFT JOIN (
                SELECT course_id, sum(inserted) AS stored FROM vouchers_batch
                WHERE status IN ('stored', 'undoing') GROUP BY 1
            ) AS b ON b.course_id = c.id
            LEFT JOIN (
                SELECT v.course_id, count(*) AS withdrawn
                FROM vouchers_voucher v JOIN courses_course c ON c.id = v.course_id
                WHERE v.status = 'available' AND v.valid_until < %s + c.minimum_validity_days
                    OR v.status = 'revoked' AND v.issued_at IS NULL
                GROUP BY 1
            ) AS v ON v.course_id = c.id
        ) AS counted ON counted.id = there.id
        WHERE (there.issued, there.redeemed, there.remaining)
            <> (counted.issued, counted.redeemed, counted.remaining)
    """
    sentence = (
        "Course {key}: {issued} vouchers are issued, {redeemed} redeemed and {remaining} remain; issuances, "
        "redemptions and batches say {counted_issued}, {counted_redeemed} and {counted_remaining}."
    )
    advice = "Heal the other breaks first; what is left then is for a person: find out which vouchers these are."

    def statement(self) -> tuple[str, list[Any]]:
        return self.breaks, [timezone.localdate()] * 2


class SummaryAddsUp(HealableCheck):
    name = "summary_adds_up"
    title = "The summary counts the vouchers that there are"
    breaks = f"""
        SELECT course_id AS key, string_agg(
            concat(said, ' ', status, ' until ' || nullif(last_day, '9999-12-31'), ' instead of ', there),
            ', ' ORDER BY status, last_day, was_issued
        ) AS differences FROM ({tallies.WRONG}) AS wrong GROUP BY course_id
    """  # noqa: S608  # made of constants
    sentence = "Course {key}: the summary counts {differences}."
    advice = "Somebody switches off the triggers of the vouchers: find out who."

    def mend(self, row: Row) -> None:
        tallies.correct(row["key"])
