"""What the shop offers, and what keeps a course from being bought just now."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from courses.models import Course
from courses.money import in_words
from vouchers.models import Voucher
from vouchers.models.voucher import course_cutoff_in_sql
from vouchers.payments.checkout import is_sold_out, price_of
from vouchers.payments.providers import ready_providers


@dataclass(frozen=True)
class Obstacle:
    """`tag` is for a list, `sentence` for the course's own page."""

    tag: str | Promise
    sentence: str | Promise


NOT_ON_SALE = Obstacle(_("Not on sale"), _("This course is not on sale just now."))
BY_VOUCHER = Obstacle(_("With a voucher"), _("This course has no price here: it is to be had with a voucher."))
SOLD_OUT = Obstacle(_("Sold out"), _("Sold out just now. It is on sale again as soon as new codes arrive."))
NO_PAYMENTS = Obstacle(
    _("With a voucher"), _("It cannot be bought here just now, because this shop takes no payments yet.")
)


@dataclass(frozen=True)
class Offer:
    """A course and the price of a seat, None where it has none here; nothing is in the way where it can be bought.

    Where its pool is empty and it is sold all the same, buyers wait for the next upload.
    """

    course: Course
    price: Decimal | None
    obstacle: Obstacle | None
    has_codes: bool

    @property
    def price_in_words(self) -> str:
        return self.total_in_words(1)

    def total_in_words(self, quantity: int) -> str:
        """Such as `98.00 USD`; empty where there is no price."""
        return "" if self.price is None else in_words(self.price * quantity, self.course.currency)


def offers() -> list[Offer]:
    """Every course, those on sale first; their number costs no further query.

    A course with codes left is not sold out here: whoever waits gets theirs within seconds, and `offer_of` knows.
    """
    available = Voucher.objects.filter(
        course=OuterRef("pk"), status=Voucher.Status.AVAILABLE, valid_until__gte=OuterRef("cutoff")
    )
    courses = Course.objects.annotate(cutoff=course_cutoff_in_sql(timezone.localdate())).annotate(
        has_codes=Exists(available)
    )
    can_pay = bool(ready_providers())
    return [
        _offer(course, course.has_codes, can_pay, sold_out=course.stop_when_empty and not course.has_codes)
        for course in courses.order_by("-on_sale", "name", "id")
    ]


def offer_of(course: Course) -> Offer:
    has_codes = Voucher.objects.pool(course).exists()
    return _offer(course, has_codes, bool(ready_providers()), sold_out=is_sold_out(course))


def _offer(course: Course, has_codes: bool, can_pay: bool, *, sold_out: bool) -> Offer:
    price = price_of(course)
    obstacle = None
    if not course.on_sale:
        obstacle = NOT_ON_SALE
    elif price is None:
        obstacle = BY_VOUCHER
    elif sold_out:
        obstacle = SOLD_OUT
    elif not can_pay:
        obstacle = NO_PAYMENTS
    return Offer(course, price, obstacle, has_codes)
