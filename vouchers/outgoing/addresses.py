"""Connections to the world, and never to this house: an address that somebody typed must not reach what only we can.

The name is resolved once, every address it has must be public, and the connection goes to one of just those: a name
that resolves to something else a moment later (DNS rebinding) gains nothing. TLS checks the name as ever.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.poolmanager import PoolManager

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddress(Exception):
    """The receiver's name leads to an address that is not public; nothing was sent there."""


def is_public(ip: IP) -> bool:
    """Whether an address is out in the world, also where it is one of IPv4 in the clothes of IPv6."""
    return all(address.is_global and not address.is_multicast for address in _meant(ip))


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
            for address in addresses:
                try:
                    return socket.create_connection((address, self.port), self.timeout)
                except OSError as failure:
                    error = failure
        except OSError as failure:
            error = failure
        raise NewConnectionError(self, f"Could not connect: {error}") from error


class PublicPool(HTTPSConnectionPool):
    ConnectionCls = PublicConnection


class PublicAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"https": PublicPool}


def public_session() -> requests.Session:
    """A session that knows https only, no proxy of the environment, and no address of this house."""
    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount("https://", PublicAdapter())
    return session
