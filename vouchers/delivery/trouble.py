"""What went wrong with an email, in the desk's words: refused for good, or for now, or our own trouble."""

from __future__ import annotations

import enum
import re
import smtplib

import requests
from anymail.exceptions import AnymailAPIError, AnymailInvalidAddress, AnymailRecipientsRefused
from urllib3.exceptions import MaxRetryError


class NotConnected(Exception):
    """The mail server could not be reached, or does not let us in; nothing was offered to it."""


class NotSent(Exception):
    """The email backend said that it sent nothing, and did not say why."""


class Trouble(enum.Enum):
    REFUSED = "refused"  # this recipient or this message, for good
    LATER = "later"  # this message, for now; it may even have arrived
    DESK = "desk"  # whatever we would send: the server is away or wants none of us, so nothing has arrived


# RFC 4954: log in first, or otherwise; some servers say so only when they hear of a recipient.
SMTP_WANTS_LOGIN = {530, 534, 535, 538}
AGAINST_US = (smtplib.SMTPHeloError, smtplib.SMTPSenderRefused)
# Postfix and others refuse us, not the recipient, with these at RCPT: "554 5.7.1 Relay access denied".
OF_THE_DESK = re.compile(r"relay|\b(helo|ehlo)\b", re.IGNORECASE)
# No or a wrong key, not paid, not allowed to, too many calls.
HTTP_WANTS_NONE = {401, 402, 403, 429}


def judge(error: Exception) -> Trouble:
    """What is not known to be for good, or to be our own trouble, is worth another attempt."""
    if isinstance(error, NotConnected | smtplib.SMTPAuthenticationError) or _is_desk_trouble_by_http(error):
        return Trouble.DESK
    if isinstance(error, AnymailRecipientsRefused | AnymailInvalidAddress):
        return Trouble.REFUSED
    code, text = smtp_reply(error)
    if code >= 500 and (isinstance(error, AGAINST_US) or OF_THE_DESK.search(text) or code in SMTP_WANTS_LOGIN):
        return Trouble.DESK
    return Trouble.REFUSED if code >= 500 else Trouble.LATER


def describe(error: BaseException) -> str:
    """One line for people, such as `550 No such user`."""
    code, text = smtp_reply(error)
    if code:
        said = f"{code} {text}"
    elif isinstance(error, NotConnected):
        said = str(error)
    else:
        said = f"{type(error).__name__}: {error}"
    # Whatever a server says is to fit a column of PostgreSQL, which takes neither NUL nor surrogates.
    return " ".join("".join(letter if letter.isprintable() else " " for letter in said).split())


def smtp_reply(error: BaseException) -> tuple[int, str]:
    """Code and text of the server's reply; 0 where there was none."""
    text: bytes | str
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(error.recipients.values()))
    elif isinstance(error, smtplib.SMTPResponseException):
        code, text = error.smtp_code, error.smtp_error
    else:
        return 0, ""
    return code, text.decode(errors="replace") if isinstance(text, bytes) else text


def _is_desk_trouble_by_http(error: Exception) -> bool:
    if not isinstance(error, AnymailAPIError):
        return False
    if error.status_code is not None:
        return error.status_code in HTTP_WANTS_NONE
    # requests calls both "could not connect" and "hung up after it had read our call" a ConnectionError; only
    # the first comes from urllib3 as MaxRetryError.
    cause = error.__cause__
    return isinstance(cause, requests.ConnectionError) and any(isinstance(inner, MaxRetryError) for inner in cause.args)
