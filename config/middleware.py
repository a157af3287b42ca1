"""What surrounds every request: its id, its log line, and the address it really came from."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

logger = logging.getLogger("desk.request")

Handler = Callable[[HttpRequest], HttpResponseBase]

PORT = re.compile(r"(?P<v4>[0-9.]+):\d+|\[(?P<v6>[0-9A-Fa-f:.]+)\](:\d+)?")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """Gives every request an id (the caller's, where it is fit) and writes one line about it.

    The line names the route, not the path, and never the query: both can hold codes and emails.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.META["REQUEST_ID"] = request_id
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        match = request.resolver_match
        logger.info(
            "request",
            extra={
                "event": {
                    "requestId": request_id,
                    "method": request.method,
                    "route": f"/{match.route}" if match else None,
                    "status": response.status_code,
                    "ms": round((time.monotonic() - started) * 1000, 1),
                    "address": request.META.get("REMOTE_ADDR"),
                    "caller": request.META.get("CALLER") or caller_on_a_page(request),
                }
            },
        )
        return response


def caller_on_a_page(request: HttpRequest) -> str | None:
    """Staff, where the page has asked who they are; asking here would cost every request a query."""
    user = getattr(request, "_cached_user", None)
    return f"user:{user.pk}" if user and user.is_authenticated else None


class TrustedProxies:
    """Makes `REMOTE_ADDR` the address of the client, believing `X-Forwarded-For` no further than it was
    written by proxies in `TRUSTED_PROXIES`; the scheme likewise."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_trusted(request.META.get("REMOTE_ADDR", "")):
            request.META["REMOTE_ADDR"] = client_address(
                request.META["REMOTE_ADDR"], request.headers.get("X-Forwarded-For", "")
            )
            if request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https":
                request.META["wsgi.url_scheme"] = request.environ["wsgi.url_scheme"] = "https"  # type: ignore[attr-defined]
        return self.get_response(request)


def is_trusted(address: str) -> bool:
    ip = parse_address(address)
    return ip is not None and any(ip in network for network in settings.TRUSTED_PROXIES)


def client_address(peer: str, forwarded_for: str) -> str:
    """The last address in the chain that no trusted proxy vouches for, read from the nearest hop outwards."""
    address = peer
    for hop in reversed([hop.strip() for hop in forwarded_for.split(",") if hop.strip()]):
        if not is_trusted(address) or parse_address(bare := without_port(hop)) is None:
            break
        address = bare
    return address


def without_port(hop: str) -> str:
    """Some proxies write `198.51.100.7:5555` or `[2001:db8::1]:443`."""
    found = PORT.fullmatch(hop)
    return (found["v4"] or found["v6"]) if found else hop


def parse_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
