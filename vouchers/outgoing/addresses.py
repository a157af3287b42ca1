"""Connections to the world, and never to this house: an address that somebody typed must not reach what only we can.

The name is resolved once, every address it has must be public, and the connection goes to one of just those: a name
that resolves to something else a moment later (DNS rebinding) gains nothing. TLS checks the name as ever.

Who is called may also be hostile, or just broken: an answer takes no longer than we say, and only its head is read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.poolmanager import PoolManager
from urllib3.response import HTTPResponse

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")
RELAYS = ipaddress.ip_network("192.88.99.0/24")  # of 6to4: nobody's, or the next router's
# All that is given out of IPv6. The rest is local, or IPv4 by a translator of the house's own, and yet Python 3.11
# calls ::127.0.0.1, ::ffff:0:127.0.0.1, fec0::1 and 64:ff9b:1::7f00:1 global.
WORLD = ipaddress.ip_network("2000::/3")
# A name with very many addresses, none of which answers, would cost a time-out for each.
ADDRESSES_TRIED = 3
# The time-out of a socket is for each read, so a line a second would keep a sender busy for hours.
ANSWER_SECONDS = 10.0


class PrivateAddress(Exception):
    """The receiver's name leads to an address that is not public; nothing was sent there."""


def is_public(ip: IP) -> bool:
    """Whether an address is out in the world, also where it is one of IPv4 in the clothes of IPv6."""
    return all(_is_in_the_world(address) for address in _meant(ip))


def _is_in_the_world(ip: IP) -> bool:
    return ip.is_global and not ip.is_multicast and ip not in RELAYS and (ip.version == 4 or ip in WORLD)


def _meant(ip: IP) -> list[IP]:
    """The address, and those that a packet to it may end at."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped:
        return [ip.ipv4_mapped]
    if ip in NAT64:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    tunnelled = [ip.sixtofour] if ip.sixtofour else [*ip.teredo] if ip.teredo else []
    return [ip, *tunnelled]


def public_addresses(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises `PrivateAddress` where one of them is not public, and `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found]
    for address in addresses:
        if not is_public(ipaddress.ip_address(address)):
            raise PrivateAddress(f"{host} is, or leads to, an address that is not public.")
    return addresses


class PublicConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        """What urllib3 does here, less the resolving: to the very addresses that were looked at."""
        try:
            addresses = public_addresses(self._dns_host, self.port)
            error: OSError = OSError("no address")
            for address in addresses[:ADDRESSES_TRIED]:
                try:
                    return socket.create_connection((address, self.port), self.timeout)
                except OSError as failure:
                    error = failure
        except OSError as failure:
            error = failure
        raise NewConnectionError(self, f"Could not connect: {error}") from error

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself does
        """The head of the answer; hangs up on whoever has not sent all of it in time.

        A status that was said by then counts: `http.client` takes the end for the end of the head.
        """
        timer = threading.Timer(ANSWER_SECONDS, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        if self.sock:
            # Not the TLS socket's own method: it would take the session from under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class PublicPool(HTTPSConnectionPool):
    ConnectionCls = PublicConnection


class PublicAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"https": PublicPool}


class PublicSession(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, ever: where a redirect is not followed, requests still reads all of its body and parses its target."""


def public_session() -> requests.Session:
    """A session that knows https only, no redirect, no proxy of the environment, and no address of this house."""
    session = PublicSession()
    session.trust_env = False
    session.adapters.clear()
    session.mount("https://", PublicAdapter())
    return session
