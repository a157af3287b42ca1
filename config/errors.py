"""The one error shape: `{"error", "code", "fields"?, "requestId"}`, for every API route and every failure."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import translation
from django.views import csrf, defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from vouchers.errors import DeskError
from vouchers.languages import language_of

logger = logging.getLogger("desk.errors")

API_PATH = re.compile(
    r"/(api/|webhooks/|issue-voucher|redeem-voucher|healthz|readyz|admin/vouchers-summary|admin/vouchers/[^/]+\Z)"
)

# The library's exceptions, in the words of the contract.
CODES: dict[type[Exception], str] = {
    exceptions.ValidationError: "invalid_request",
    exceptions.ParseError: "malformed_body",
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "authentication_failed",
    exceptions.PermissionDenied: "permission_denied",
    exceptions.NotFound: "not_found",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
}


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: every refusal in our shape; None, and so a 500, for a fault of ours."""
    request_id = context["request"].META.get("REQUEST_ID", "")
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, DeskError):
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        body = shape(error.message, error.code, request_id, error.fields)
        response = Response(body, status=error.status, headers=headers)
    elif isinstance(error, exceptions.APIException):
        response = _translate(error, request_id)
    elif isinstance(error, OperationalError | InterfaceError):
        logger.error("the database did not answer", exc_info=error)
        message = (
            "The database did not answer, so this may or may not have been done. Send the very same request again, "
            "with the same order or Idempotency-Key: nothing is done twice."
        )
        response = Response(shape(message, "unavailable", request_id), status=503, headers={"Retry-After": "2"})
    else:
        return None
    set_rollback()
    return response


def shape(message: str, code: str, request_id: str, fields: Any = None) -> dict[str, Any]:
    body: dict[str, Any] = {"error": message, "code": code}
    if fields:
        body["fields"] = fields
    return body | {"requestId": request_id}


def _translate(error: exceptions.APIException, request_id: str) -> Response:
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    code = CODES.get(type(error), "invalid_request")
    fields = None
    if isinstance(error, exceptions.ValidationError):
        fields = error.detail if isinstance(error.detail, dict) else {"body": error.detail}
        name, problems = next(iter(fields.items()))
        message = f"{name}: {_first(problems)}"
    else:
        message = str(error.detail)
    return Response(shape(message, code, request_id, fields), status=error.status_code, headers=headers)


def _first(problems: Any) -> str:
    while isinstance(problems, dict | list):
        problems = next(iter(problems.values() if isinstance(problems, dict) else problems))
    return str(problems)


def _outside_views(request: HttpRequest, status: int, message: str, code: str) -> JsonResponse | None:
    """The answer for what fails before or beside a DRF view; None where the path is a page for people."""
    if not API_PATH.match(request.path_info):
        return None
    return JsonResponse(shape(message, code, request.META.get("REQUEST_ID", "")), status=status)


def _page(request: HttpRequest, view: Callable[..., HttpResponse], *given: Any) -> HttpResponse:
    """Staff read English, buyers their own language."""
    speaks_english = request.path_info.startswith("/admin/")
    with translation.override(settings.LANGUAGE_CODE if speaks_english else language_of(request)):
        return view(request, *given)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _page(request, csrf.csrf_failure, reason)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    message = "The request is malformed: check the Host header, the address and the body."
    return _outside_views(request, 400, message, "invalid_request") or defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    message = "You may not do this."
    return _outside_views(request, 403, message, "permission_denied") or defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    message = "There is nothing at this address. The routes are listed at /api/docs."
    return _outside_views(request, 404, message, "not_found") or _page(request, defaults.page_not_found, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    message = "Something went wrong on our side. Try again, and quote the request id if it stays."
    return _outside_views(request, 500, message, "server_error") or _page(request, defaults.server_error)
