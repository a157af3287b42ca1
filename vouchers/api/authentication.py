"""Who calls: a program by its API key. Staff come with the admin's session, which DRF knows by itself."""

from __future__ import annotations

import re
from typing import cast

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from vouchers.models import ApiKey

KEYWORD = "Api-Key"
KEY_FORM = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key <key>`; other schemes are left to whoever stands in front of us."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        keyword, _, given = request.headers.get("Authorization", "").partition(" ")
        if keyword.lower() != KEYWORD.lower():
            return None
        return AnonymousUser(), self._find(given.strip())

    def authenticate_header(self, request: Request) -> str:
        return KEYWORD

    def _find(self, given: str) -> ApiKey:
        refused = AuthenticationFailed("This API key is not known, or it has been revoked or has expired.")
        if not KEY_FORM.fullmatch(given):
            raise refused
        try:
            key = cast(ApiKey, ApiKey.objects.get_from_key(given))
        except ApiKey.DoesNotExist:
            raise refused from None
        if key.has_expired:
            raise refused
        return key


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "ApiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Api-Key <key>`, with a scope: issue, redeem or manage.",
        }
