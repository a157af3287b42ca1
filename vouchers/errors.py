"""What the desk refuses, in words for people. Services raise these; the edge translates them once.

`code` is what programs branch on and `status` what HTTP answers; both are in `contract.md` and the schema. The sentence
is in the language of whom it is raised for: English but on the shop's pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils.translation import gettext, gettext_noop, ngettext


class DeskError(Exception):
    """Base of everything the desk refuses; `message` is a sentence a person can act on."""

    status = 400
    code = "invalid_request"
    message = gettext_noop("The request cannot be carried out.")

    def __init__(
        self,
        message: str = "",
        *,
        fields: Mapping[str, Sequence[str]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.message = message or gettext(self.message)
        self.fields = fields
        self.retry_after = retry_after
        super().__init__(self.message)


class InvalidRequest(DeskError):
    """Something given is missing or malformed; `fields` names it."""


class NothingOffered(InvalidRequest):
    code = "missing_course_or_vouchers"
    message = "Missing courseId or voucher list"


class InvalidCode(DeskError):
    code = "invalid_code"
    message = gettext_noop("This is not a voucher code. Check it for missing or extra characters.")


class UnreadableFile(DeskError):
    code = "unreadable_file"


class CourseNotFound(DeskError):
    status = 404
    code = "course_not_found"

    def __init__(self, course_id: str) -> None:
        super().__init__(
            gettext("There is no course %(course)r. Course ids are matched as given, upper and lower case too.")
            % {"course": course_id}
        )


class VoucherNotFound(DeskError):
    status = 404
    code = "voucher_not_found"
    message = gettext_noop("No voucher can be redeemed with this code. Check the code, the course and the email.")


class RequestInProgress(DeskError):
    status = 409
    code = "request_in_progress"
    message = "The same request is being worked on. Ask again in a moment; nothing is issued twice."

    def __init__(self) -> None:
        super().__init__(retry_after=1)


class IssuanceClosed(DeskError):
    status = 409
    code = "issuance_closed"
    message = "What this request named was refunded or returned. Use a new order to issue another voucher."


class AlreadyRedeemed(DeskError):
    status = 409
    code = "already_redeemed"
    message = gettext_noop("This voucher has already been redeemed.")


class VoucherOnHold(DeskError):
    status = 409
    code = "voucher_on_hold"
    message = gettext_noop("This voucher is on hold because its payment is disputed.")


class VoucherExpired(DeskError):
    status = 410
    code = "voucher_expired"
    message = gettext_noop("This voucher has expired.")


class VoucherRevoked(DeskError):
    status = 410
    code = "voucher_revoked"
    message = gettext_noop("This voucher has been revoked.")


class LengthRequired(DeskError):
    status = 411
    code = "length_required"
    message = "Send a Content-Length: a body in chunks of unknown length is not read."


class TooLarge(DeskError):
    status = 413
    code = "too_large"


class IdempotencyKeyReused(DeskError):
    status = 422
    code = "idempotency_key_reused"


class TooManyGuesses(DeskError):
    status = 429
    code = "too_many_guesses"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            ngettext(
                "Too many codes that do not exist were tried. Try again in %(seconds)d second.",
                "Too many codes that do not exist were tried. Try again in %(seconds)d seconds.",
                retry_after,
            )
            % {"seconds": retry_after},
            retry_after=retry_after,
        )


class TooManyRequests(DeskError):
    status = 429
    code = "too_many_requests"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            ngettext(
                "Asked too many times. Try again in %(seconds)d second.",
                "Asked too many times. Try again in %(seconds)d seconds.",
                retry_after,
            )
            % {"seconds": retry_after},
            retry_after=retry_after,
        )


class NotResendable(DeskError):
    status = 409
    code = "not_resendable"


class NotRevealable(DeskError):
    status = 409
    code = "not_revealable"
    message = gettext_noop(
        "This code cannot be used just now, so it is not shown. Load the page again to see what became of it."
    )


class NotCorrectable(DeskError):
    status = 409
    code = "not_correctable"


class NotReplaceable(DeskError):
    status = 409
    code = "not_replaceable"


class NotRevocable(DeskError):
    status = 409
    code = "not_revocable"


class BatchMovedOn(DeskError):
    status = 409
    code = "batch_moved_on"
    message = "This batch has been confirmed, cancelled or undone in the meantime. Nothing was done."


class TooLateToCancel(DeskError):
    status = 409
    code = "too_late_to_cancel"
    message = "It is as good as done, too late to cancel. Look again in a moment."


class NotUndoable(DeskError):
    status = 409
    code = "not_undoable"


class PaymentPending(DeskError):
    status = 409
    code = "payment_pending"
    message = "This order is a payment that has not arrived yet. Nothing is issued before it has; ask again then."


class PaymentInReview(DeskError):
    status = 409
    code = "payment_in_review"
    message = "This order is a payment that staff must look at first. Nothing is issued before they have."


class NotOnSale(DeskError):
    status = 409
    code = "not_on_sale"


class SoldOut(DeskError):
    status = 409
    code = "sold_out"


class ProviderNotReady(DeskError):
    status = 409
    code = "provider_not_ready"


class ProviderUnreachable(DeskError):
    """The payment provider did not answer, or not as it should; nothing was done here."""

    status = 503
    code = "provider_unreachable"

    def __init__(self, provider: str) -> None:
        super().__init__(
            gettext("%(provider)s does not answer just now. Nothing was charged or issued; try again in a moment.")
            % {"provider": provider},
            retry_after=10,
        )


class ProviderRefused(DeskError):
    """The payment provider answered that it will not do this; nothing was done here."""

    status = 409
    code = "provider_refused"


class PurchaseNotFound(DeskError):
    status = 404
    code = "purchase_not_found"
    message = gettext_noop("There is no purchase at this address. Use the link as it stands in your email.")


class RevealNotFound(DeskError):
    status = 404
    code = "reveal_not_found"
    message = gettext_noop("There is no voucher at this address. Use the link as it stands in the newest email.")


class BadSignature(DeskError):
    """A webhook that is not proved to come from its provider; nothing was done."""

    code = "bad_signature"


class NotConfirmed(DeskError):
    """A webhook speaks of something that its provider, asked, does not know; nothing was done."""

    code = "not_confirmed"


class NotRecordedYet(DeskError):
    """A provider tells of an email before its answer to the sending of it was written down; nothing was done."""

    status = 503
    code = "not_recorded_yet"
    message = "This may be of an email that is being sent just now. Tell it again in a moment."

    def __init__(self) -> None:
        super().__init__(retry_after=30)


class NotReviewable(DeskError):
    status = 409
    code = "not_reviewable"


class NotRefundable(DeskError):
    status = 409
    code = "not_refundable"


class NotReturnable(DeskError):
    status = 409
    code = "not_returnable"


class BuyerBusy(DeskError):
    status = 409
    code = "buyer_busy"
    message = "A request or a payment of this buyer is being worked on. Nothing was done; try again in a moment."


class NotHealable(DeskError):
    """A break in the books that a person must mend; nothing was done."""

    status = 409
    code = "not_healable"
