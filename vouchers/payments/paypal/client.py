"""How the desk asks PayPal: by its SDK at the host of the settings; an answer is a plain dictionary, or a refusal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import requests
from apimatic_core.exceptions.auth_validation_exception import AuthValidationException
from django.conf import settings
from paypalserversdk.configuration import Configuration
from paypalserversdk.exceptions.api_exception import ApiException
from paypalserversdk.http.auth.o_auth_2 import ClientCredentialsAuthCredentials
from paypalserversdk.paypal_serversdk_client import PaypalServersdkClient

from vouchers.errors import ProviderUnreachable

logger = logging.getLogger(__name__)

SECONDS = 10
NAME = "PayPal"
Tree = dict[str, Any]
Call = Callable[[Mapping[str, Any]], Any]


class Refused(Exception):
    """PayPal understood and said no; `issue` is its word for why, such as `ORDER_NOT_APPROVED`."""

    def __init__(self, status: int, issue: str) -> None:
        self.status = status
        self.issue = issue
        super().__init__(f"{status} {issue}")

    @property
    def is_unknown(self) -> bool:
        """There is nothing of this id, or it has not even the form of one."""
        return self.status in (400, 404, 410, 422)


class AtHost(Configuration):  # type: ignore[misc]
    """The SDK knows PayPal's two hosts only."""

    def __init__(self, host: str, **options: Any) -> None:
        self.host = host
        super().__init__(**options)

    def get_base_uri(self, server: object = None) -> str:
        return self.host


def is_ready() -> bool:
    return bool(settings.PAYPAL_CLIENT_ID and settings.PAYPAL_CLIENT_SECRET)


def sdk() -> PaypalServersdkClient:
    """The SDK with the desk's credentials. Raises `ProviderUnreachable` where there are none: webhooks come again."""
    if not is_ready():
        logger.error("PAYPAL_CLIENT_ID or PAYPAL_CLIENT_SECRET is not set, so PayPal cannot be asked")
        raise ProviderUnreachable(NAME)
    return _sdk(settings.PAYPAL_API_HOST, settings.PAYPAL_CLIENT_ID, settings.PAYPAL_CLIENT_SECRET)


@lru_cache(maxsize=4)
def _sdk(host: str, client_id: str, secret: str) -> PaypalServersdkClient:
    """Kept, for it holds the token, which is good for hours, and the connection."""
    credentials = ClientCredentialsAuthCredentials(client_id, secret)
    return PaypalServersdkClient(config=AtHost(host, timeout=SECONDS, client_credentials_auth_credentials=credentials))


def ask(call: Call, **options: Any) -> Tree:
    """One call of the SDK. Raises `Refused`, or `ProviderUnreachable` where the answer is none."""
    try:
        return _tree(call(options).text)
    except ApiException as error:
        raise _refusal(error.response_code, error.response.text) from None
    except AuthValidationException:
        raise _unreachable("no token") from None
    except requests.RequestException as error:
        raise _unreachable(type(error).__name__) from None
    except (AttributeError, TypeError):  # the SDK, on a page that a proxy in between put in place of the answer
        raise _unreachable("an answer that is not PayPal's") from None


def ask_dispute(dispute_id: str) -> Tree:
    """The SDK has no controller for disputes, so this is asked with its token. Raises as `ask` does."""
    client = sdk()
    try:
        if not client.oauth_2.is_valid():  # fetches a token where there is none
            raise _unreachable("no token")
        answer = requests.get(
            f"{settings.PAYPAL_API_HOST}/v1/customer/disputes/{dispute_id}",
            headers={"Authorization": f"Bearer {client.oauth_2._o_auth_token.access_token}"},
            timeout=SECONDS,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise _unreachable(type(error).__name__) from None
    if answer.status_code != 200:
        raise _refusal(answer.status_code, answer.text)
    return _tree(answer.text)


def _tree(text: str) -> Tree:
    try:
        tree = json.loads(text)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise _unreachable("an answer that is not PayPal's")
    return tree


def _refusal(status: int, text: str) -> Refused | ProviderUnreachable:
    if status == 401:
        _sdk.cache_clear()  # a token that was withdrawn: the next call asks for another
    if status in (401, 429) or status >= 500 or status < 400:
        return _unreachable(f"HTTP {status}")
    return Refused(status, _issue(text))


def _issue(text: str) -> str:
    """PayPal's word for a refusal. Nothing else of the answer is kept: it may quote the request."""
    try:
        body = json.loads(text)
        details = body.get("details") or [{}]
        return str(details[0].get("issue") or body.get("name") or "")[:80]
    except (ValueError, AttributeError, LookupError, TypeError):
        return ""


def _unreachable(why: str) -> ProviderUnreachable:
    logger.warning("PayPal could not be asked: %s", why)
    return ProviderUnreachable(NAME)
