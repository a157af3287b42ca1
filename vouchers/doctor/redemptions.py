"""Whether what was spent is written down, with its free purchase."""

from __future__ import annotations

from uuid import UUID

from django.db.models.functions import Coalesce

from courses.models import Purchase
from vouchers.doctor.check import Check, HealableCheck, Row
from vouchers.doctor.holders import DOCTOR
from vouchers.models import Redemption, Voucher


class RedeemedIsWrittenDown(HealableCheck):
    name = "redeemed_is_written_down"
    title = "Every redeemed voucher has its redemption and its free purchase"
    breaks = """
        SELECT v.id AS key, v.course_id AS course,
            CASE WHEN r.voucher_id IS NULL THEN 'no redemption says how' ELSE 'its free purchase is gone' END AS why
        FROM vouchers_voucher v
        LEFT JOIN vouchers_redemption r ON r.voucher_id = v.id
        LEFT JOIN courses_purchase p ON p.id = r.purchase_id
        WHERE v.status = 'redeemed' AND p.id IS NULL
    """
    sentence = "Voucher {key} of {course} is redeemed, and {why}."
    advice = "Make its free purchase by hand."

    def mend(self, row: Row) -> None:
        """Writes down what the voucher knows. Nobody is told of it as of something new."""
        voucher = Voucher.objects.select_for_update(of=("self",)).select_related("course").get(pk=row["key"])
        if not self.has(voucher.pk):
            return
        redemption = Redemption.objects.filter(pk=voucher.pk).first()
        purchase = _free_purchase(voucher, redemption.purchase_id if redemption else None)
        if redemption is None:
            Redemption.objects.create(
                voucher=voucher,
                purchase=purchase,
                email=voucher.issued_to,
                caller=DOCTOR,
                redeemed_at=voucher.redeemed_at,  # type: ignore[misc]  # for what is redeemed the database wants it
            )


class SpentIsRedeemed(HealableCheck):
    name = "spent_is_redeemed"
    title = "Every voucher with a redemption is redeemed"
    breaks = """
        SELECT v.id AS key, v.course_id AS course, v.status
        FROM vouchers_redemption r JOIN vouchers_voucher v ON v.id = r.voucher_id WHERE v.status <> 'redeemed'
    """
    sentence = "Voucher {key} of {course} was spent, as its redemption says, and it is {status}."
    advice = "It was withdrawn as well: find out whether whoever spent it may keep what they got."

    def mend(self, row: Row) -> None:
        """The code is spent: that of an issued voucher, and one in the pool, which would be issued yet."""
        redemption = Redemption.objects.select_for_update(of=("self",)).get(pk=row["key"])
        Voucher.objects.filter(pk=redemption.pk, status__in=Voucher.OPEN).update(
            status=Voucher.Status.REDEEMED,
            redeemed_at=redemption.redeemed_at,
            issued_at=Coalesce("issued_at", redemption.redeemed_at),
            held_since=None,
        )


class FreePurchasesSpent(Check):
    name = "free_purchases_spent"
    title = "Every free purchase was made with a voucher"
    breaks = """
        SELECT p.id AS key, p.reference FROM courses_purchase p
        WHERE p.provider = 'voucher' AND NOT EXISTS (SELECT FROM vouchers_redemption r WHERE r.purchase_id = p.id)
    """
    sentence = "Free purchase {key} (voucher {reference}) has no redemption."
    advice = "Find out who made it: nothing was paid or spent for it."


def _free_purchase(voucher: Voucher, key: UUID | None) -> Purchase:
    """The one that the voucher was spent for: under the key that its redemption names, if there is one."""
    names = {"provider": Purchase.Provider.VOUCHER, "reference": str(voucher.pk)}
    found = Purchase.objects.filter(**names).first()
    if found and key is None:
        return found
    purchase = Purchase(
        **names,
        course=voucher.course,
        email=voucher.issued_to,
        amount=0,
        currency=voucher.course.currency,
        paid_at=voucher.redeemed_at,
    )
    if key:
        purchase.pk = key
    purchase.save(force_insert=True)
    return purchase
