"""What the desk's API views share: who may call, how large a body may be, and how JSON is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

from django.conf import settings
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from vouchers.errors import InvalidRequest, LengthRequired, TooLarge
from vouchers.models import ApiKey

IDEMPOTENCY_KEY_MAX = 255


class DeskJSONParser(JSONParser):
    """JSON, also where it is nested deeper than Python can follow."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None


class AlwaysJSON(BaseContentNegotiation):
    """Answers are JSON whatever a client says it accepts."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        main_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == main_type), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class MayCall(BasePermission):
    """A key with the view's scope, or staff with the view's permission."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        desk_view = cast(DeskView, view)
        allowed = may_call(request, desk_view.scope, desk_view.staff_permission)
        return allowed or (desk_view.anonymous and request.auth is None)


def may_call(request: Request, scope: str, staff_permission: str) -> bool:
    if isinstance(request.auth, ApiKey):
        return request.auth.may(scope)
    user = request.user
    return bool(user and user.is_active and user.is_staff and user.has_perm(staff_permission))


class DeskView(APIView):
    """`scope` is what a key needs, `staff_permission` what staff need; `anonymous` lets in who has neither."""

    scope: ClassVar[str] = ""
    staff_permission: ClassVar[str] = ""
    anonymous: ClassVar[bool] = False
    cache_control: ClassVar[str] = "no-store"  # codes and emails
    max_bytes: ClassVar[int] = settings.REQUEST_MAX_BYTES

    permission_classes = [MayCall]
    parser_classes = [DeskJSONParser]
    content_negotiation_class = AlwaysJSON

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.headers.get("Transfer-Encoding") and "CONTENT_LENGTH" not in request.META:
            raise LengthRequired
        if content_length(request) > self.max_bytes:
            raise TooLarge(f"The request is larger than {self.max_bytes:,} bytes.")
        super().initial(request, *args, **kwargs)
        request.META["CALLER"] = caller_of(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.setdefault("Cache-Control", self.cache_control)
        return response


def content_length(request: Request) -> int:
    given = request.META.get("CONTENT_LENGTH") or "0"
    return int(given) if given.isdigit() else 0


def caller_of(request: Request) -> str:
    """Who calls, as kept with what they did: `key:<prefix>`, `user:<id>` or nothing."""
    if isinstance(request.auth, ApiKey):
        return f"key:{request.auth.prefix}"
    return f"user:{request.user.pk}" if request.user and request.user.is_authenticated else ""


def actor_of(request: Request) -> str:
    """Who calls, in words for people."""
    if isinstance(request.auth, ApiKey):
        return f"API key {request.auth.name}"
    return str(request.user)


def idempotency_key_of(request: Request) -> str:
    """The `Idempotency-Key` header, empty where there is none. Raises `InvalidRequest` for one that is no key."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not key.isascii() or not key.isprintable() or not 1 <= len(key.strip()) <= IDEMPOTENCY_KEY_MAX:
        fault = f"Use 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters."
        raise InvalidRequest(f"Idempotency-Key: {fault}", fields={"Idempotency-Key": [fault]})
    return key.strip()


def validated(kind: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """The fields of a request. Raises `rest_framework.exceptions.ValidationError`, which names the wrong ones."""
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
