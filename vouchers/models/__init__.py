from vouchers.models.api_key import ApiKey
from vouchers.models.batch import Batch, FilePart, RejectedLine
from vouchers.models.delivery import Delivery, KeptEmail
from vouchers.models.issuance import IdempotencyKey, Issuance
from vouchers.models.outgoing import WebhookMessage, WebhookReceiver
from vouchers.models.redemption import Guess, Redemption
from vouchers.models.voucher import Voucher

__all__ = [
    "ApiKey",
    "Batch",
    "Delivery",
    "FilePart",
    "Guess",
    "IdempotencyKey",
    "Issuance",
    "KeptEmail",
    "Redemption",
    "RejectedLine",
    "Voucher",
    "WebhookMessage",
    "WebhookReceiver",
]
