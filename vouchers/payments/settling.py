"""The one function for "this purchase is paid", and for all else that providers tell: facts are kept, and the purchase
is brought to the state that its facts imply.

Facts come in any order, doubled, and at the same time. None of them is acted on by itself: each is kept under its own
key, and then the state is worked out anew from all of them, one at a time for each payment (docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from courses.models import Course, PaymentFact, Purchase
from vouchers.delivery.outbox import queue_notice
from vouchers.issuing import caller_of, issue_seats, order_name
from vouchers.locks import lock_names
from vouchers.models import Delivery, Issuance, Voucher
from vouchers.outgoing.announcing import announce_purchase
from vouchers.payments.facts import Claims
from vouchers.payments.holding import hold_or_release, open_disputes
from vouchers.payments.judging import fault_of_amount, faults_of, terms_of
from vouchers.payments.taking_back import amount_taken_back, seats_taken_back, take_back
from vouchers.privacy.claims import claims_to_keep

Kind = PaymentFact.Kind
LOCK_SECONDS = 10
LONGEST_EMAIL = 254
NO_CURRENCY = "xxx"  # ISO 4217
WORKED_OUT = [
    "reference",
    "checkout",
    "live",
    "unit_price",
    "agreed_currency",
    "course",
    "email",
    "language",
    "quantity",
    "amount",
    "currency",
    "paid_at",
    "failed_at",
    "refunded_at",
    "refunded_amount",
    "disputed_at",
    "completed_at",
]


@transaction.atomic
def record(facts: Sequence[PaymentFact]) -> None:
    """Keeps facts, unsaved and in any order, and settles the payments they are of. All of it commits, or nothing.

    Raises `django.db.OperationalError` where another process is at one of these payments for more than 10 s.
    """
    payments = sorted({(fact.provider, fact.reference) for fact in facts})
    lock_names(*(payment_name(*payment) for payment in payments), seconds=LOCK_SECONDS)
    for fact in facts:
        _keep(fact)
    for provider, reference in payments:
        _settle_payment(provider, reference)


@transaction.atomic
def settle(purchase: Purchase) -> Purchase:
    """Brings a purchase to the state that its facts imply; returns it as it is now. Doing so again changes nothing."""
    lock_payment(purchase)
    return _settle_payment(purchase.provider, purchase.reference) or purchase


def lock_payment(purchase: Purchase) -> None:
    """Makes sure that nothing else happens to a payment until this transaction ends. Before any change of its row."""
    lock_names(payment_name(purchase.provider, purchase.reference), seconds=LOCK_SECONDS)


def payment_name(provider: str, reference: str) -> str:
    """The name of the lock on a payment."""
    return f"payment {provider} {reference}"


def _keep(fact: PaymentFact) -> None:
    """Of what grows, such as the refunds of a charge, the largest amount is kept: a late event tells of less."""
    claims = claims_to_keep(fact)
    kept, created = PaymentFact.objects.get_or_create(
        provider=fact.provider,
        kind=fact.kind,
        key=fact.key,
        defaults={
            "reference": fact.reference,
            "amount": fact.amount,
            "at": fact.at,
            "source": fact.source,
            "claims": claims,
        },
    )
    if not created and kept.amount < fact.amount:
        PaymentFact.objects.filter(pk=kept.pk, amount__lt=fact.amount).update(amount=fact.amount)
    if not created and claims.get("email") and not kept.claims.get("email"):
        PaymentFact.objects.filter(pk=kept.pk).update(claims=claims)  # its buyer was not to be had before


def _settle_payment(provider: str, reference: str) -> Purchase | None:
    """None where nothing we know of is to be paid: a refund of something else, or one that overtook its payment."""
    facts = list(PaymentFact.objects.filter(provider=provider, reference=reference))
    claims = _claims(facts)
    purchase = _find(provider, reference, claims)
    if purchase is None:
        if not any(fact.kind == Kind.PAID for fact in facts):
            return None
        purchase = Purchase(provider=provider, reference=reference, currency=NO_CURRENCY, amount=0)
    was_complete = purchase.completed_at is not None
    reasons = _work_out(purchase, facts, claims)
    _save(purchase)
    if purchase.completed_at:
        reasons += _serve(purchase, newly=not was_complete)
    _mark_for_review(purchase, reasons)
    return purchase


def _claims(facts: Iterable[PaymentFact]) -> Claims | None:
    """What the payment says it is for; the most precise of what it says more than once."""
    paid = [fact for fact in facts if fact.kind == Kind.PAID and fact.claims]
    other = [fact for fact in facts if fact.kind in (Kind.PENDING, Kind.FAILED) and fact.claims]
    said = sorted(paid or other, key=lambda fact: fact.key)
    return max((Claims.of(fact) for fact in said), key=lambda claims: claims.precise, default=None)


def _find(provider: str, reference: str, claims: Claims | None) -> Purchase | None:
    """The purchase of a payment, locked; by its checkout where the payment is new to us."""
    purchases = Purchase.objects.select_for_update(of=("self",)).select_related("course").filter(provider=provider)
    found = purchases.filter(reference=reference).first()
    if found is None and claims and claims.checkout:
        found = purchases.filter(checkout=claims.checkout, paid_at=None).first()
    if found and found.reference != reference:
        found.reference = reference
    return found


def _work_out(purchase: Purchase, facts: Sequence[PaymentFact], claims: Claims | None) -> list[str]:
    """Writes into the purchase what its facts come to; returns why staff must look at it."""
    of = {kind: [fact for fact in facts if fact.kind == kind] for kind in Kind}
    purchase.paid_at = min((fact.at for fact in of[Kind.PAID]), default=None)
    purchase.failed_at = None if purchase.paid_at else max((fact.at for fact in of[Kind.FAILED]), default=None)
    reasons = _judge(purchase, claims) if claims and purchase.paid_at else []
    back = amount_taken_back(facts) if purchase.paid_at else Decimal(0)
    purchase.refunded_amount = min(back, purchase.amount)
    gone = of[Kind.REFUNDED] + of[Kind.DISPUTE_LOST]
    purchase.refunded_at = max((fact.at for fact in gone), default=None) if back else None
    purchase.disputed_at = min((fact.at for fact in open_disputes(facts)), default=None)
    if of[Kind.REFUND_FAILED] and purchase.paid_at:
        reasons.append(
            "A refund failed at the provider: the buyer has not got that money back. What it took back stays taken "
            "back; refund it again, or issue anew."
        )
    if of[Kind.DISPUTE_LOST] and purchase.paid_at and not seats_taken_back(purchase):
        reasons.append("A dispute was lost over less than a seat, or in another currency: its vouchers are still good.")
    return reasons


def _judge(purchase: Purchase, claims: Claims) -> list[str]:
    """Takes over what a payment says, as far as it may; finds the purchase good, or returns why it is not.

    What staff accepted stays accepted, and what they closed stays closed. The course, buyer and seats of a checkout of
    ours are those at its beginning.
    """
    purchase.amount, purchase.currency, purchase.live = claims.gross_amount, _currency(claims), claims.live
    purchase.language = purchase.language or claims.language
    if not purchase.checkout and not _is_taken(purchase, claims.checkout):
        purchase.checkout = claims.checkout
    if purchase.completed_at:
        return _second_thoughts(purchase, claims)
    if purchase.review and purchase.reviewed_at and not purchase.accepted_at:
        return purchase.review.splitlines()
    if not purchase.began_here and not purchase.accepted_at:
        purchase.course = Course.objects.filter(pk=claims.course_id).first()
        purchase.email = claims.email if len(claims.email) <= LONGEST_EMAIL else ""
        purchase.quantity = claims.seats or 1
    faults = [] if purchase.accepted_at else faults_of(purchase, claims)
    if not faults and purchase.course:
        purchase.unit_price, purchase.agreed_currency = terms_of(purchase, purchase.course)
        purchase.completed_at = timezone.now()
    return faults


def _second_thoughts(purchase: Purchase, claims: Claims) -> list[str]:
    """What a more precise fact says of a purchase that was found good by another. Seats may be added, where they were
    paid; nothing that was issued is taken back by it, and staff are told."""
    if purchase.began_here or purchase.accepted_at or purchase.course is None:
        return []
    before, purchase.quantity = purchase.quantity, max(purchase.quantity, claims.seats or 0)
    fault = fault_of_amount(purchase, purchase.course, claims)
    if fault:
        purchase.quantity = before
    same_buyer = (claims.course_id, claims.email.upper()) == (purchase.course_id, purchase.email.upper())
    if same_buyer and (claims.seats or before) >= before:
        return [fault] if fault else []
    said = f"{claims.quantity} of {claims.course_id!r} for {claims.email!r}"
    return [f"Its checkout says something else than what was issued: {said}.", *([fault] if fault else [])]


def _is_taken(purchase: Purchase, checkout: str) -> bool:
    """Whether another purchase was paid by this checkout before: a checkout is paid once."""
    return Purchase.objects.filter(provider=purchase.provider, checkout=checkout).exclude(checkout="").exists()


def _currency(claims: Claims) -> str:
    known = len(claims.currency) == 3 and claims.currency.isascii() and claims.currency.isalpha()
    return claims.currency if known else NO_CURRENCY


def _save(purchase: Purchase) -> None:
    purchase.save(update_fields=None if purchase._state.adding else WORKED_OUT)


def _mark_for_review(purchase: Purchase, reasons: Sequence[str]) -> None:
    """What staff have looked at comes back only with another reason."""
    # Each once: of what staff closed the reasons of then stand beside those of now.
    review = "\n".join(dict.fromkeys(reasons))
    if review != purchase.review:
        purchase.review, purchase.reviewed_at = review, None
        purchase.save(update_fields=["review", "reviewed_at"])


def _serve(purchase: Purchase, *, newly: bool) -> list[str]:
    """Issues what is owed, takes back what was refunded, holds what is disputed; returns what staff must look at."""
    references = [reference for reference in (purchase.reference, purchase.checkout) if reference]
    assert purchase.course is not None  # noqa: S101  # for mypy: the database says so of what is completed
    lock_names(*(order_name(purchase.course.pk, reference) for reference in references), seconds=LOCK_SECONDS)
    reasons = _adopt(purchase, references)
    seats = Issuance.objects.filter(purchase=purchase)
    unissued = sorted({*range(1, purchase.quantity + 1)} - {*seats.values_list("unit", flat=True)})
    taken = take_back(purchase, len(unissued))
    owed = unissued[: len(unissued) - taken.never_issued]
    if owed:
        issue_seats(purchase, owed, held_since=purchase.disputed_at)
    hold_or_release(purchase)
    if seats.waiting(purchase.course).exists():
        queue_notice(purchase, Delivery.Kind.WAITING)
    if newly and seats.exclude(status__in=Issuance.CLOSED).exists():
        announce_purchase(purchase)
    return reasons + ([taken.lacking_in_words] if taken.lacking else [])


def _adopt(purchase: Purchase, references: Sequence[str]) -> list[str]:
    """A shop that calls POST /issue-voucher with the payment for its order may be faster than the webhook: what it was
    given then is a seat of this payment, and not one more. Returns what staff must look at."""
    taken = {*Issuance.objects.filter(purchase=purchase).values_list("unit", flat=True)}
    free = [unit for unit in range(1, purchase.quantity + 1) if unit not in taken]
    asked = Issuance.objects.filter(course=purchase.course, order_id__in=references, purchase=None)
    good = asked.exclude(status__in=Issuance.CLOSED).exclude(voucher__status=Voucher.Status.REVOKED)
    found = list(good.order_by("id"))
    for unit, issuance in zip(free, found, strict=False):
        Issuance.objects.filter(pk=issuance.pk).update(purchase=purchase, unit=unit)
    reasons = []
    if len(found) > len(free):
        reasons.append("More vouchers were issued for it, by its references as orders, than it has seats.")
    # Those it has adopted, now or before: what it issues itself has another caller, and goes to its own buyer.
    adopted = Issuance.objects.filter(purchase=purchase).exclude(caller=caller_of(purchase))
    if adopted.exclude(email__iexact=purchase.email).filter(address_changes=None).exists():
        reasons.append("A voucher was issued for it, by its reference as an order, to another email.")
    return reasons
