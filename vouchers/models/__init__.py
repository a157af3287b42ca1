from vouchers.models.api_key import ApiKey
from vouchers.models.batch import Batch, FilePart, RejectedLine
from vouchers.models.checkup import Checkup
from vouchers.models.delivery import Delivery, DeliveryEvent, KeptEmail, ResendRequest
from vouchers.models.history import AddressChange, Replacement
from vouchers.models.issuance import IdempotencyKey, Issuance
from vouchers.models.outgoing import WebhookMessage, WebhookReceiver
from vouchers.models.redemption import Guess, RedeemAttempt, Redemption
from vouchers.models.tally import Tally
from vouchers.models.voucher import Voucher

__all__ = [
    "AddressChange",
    "ApiKey",
    "Batch",
    "Checkup",
    "Delivery",
    "DeliveryEvent",
    "FilePart",
    "Guess",
    "IdempotencyKey",
    "Issuance",
    "KeptEmail",
    "RedeemAttempt",
    "Redemption",
    "RejectedLine",
    "Replacement",
    "ResendRequest",
    "Tally",
    "Voucher",
    "WebhookMessage",
    "WebhookReceiver",
]
