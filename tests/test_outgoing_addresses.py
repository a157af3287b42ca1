"""Webhooks never go to this house, whatever an address is dressed up as."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest
import requests

from courses.models import Course
from tests.factories import issue_to, make_pool
from tests.webhook_receiver import reachable_receiver, running_receiver
from vouchers.models import WebhookMessage, WebhookReceiver
from vouchers.outgoing import addresses
from vouchers.outgoing.sending import send_due

pytestmark = pytest.mark.django_db


def issue(course: Course) -> WebhookMessage:
    make_pool(course, 1)
    issue_to(course)
    return WebhookMessage.objects.latest("id")


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "ff02::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "::",
    "192.88.99.1", "::ffff:192.88.99.1",
]  # fmt: skip


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_it_knows_private_ones_in_every_disguise(self, address: str) -> None:
        assert not addresses.is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e", "::ffff:1.1.1.1"])
    def test_it_lets_public_ones_pass(self, address: str) -> None:
        assert addresses.is_public(ipaddress.ip_address(address))

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
    )
    def test_it_sends_nothing_there(self, course: Course, tmp_path: Path, host: str) -> None:
        with running_receiver(tmp_path) as receiver:
            port = receiver.url.split(":")[2]
            WebhookReceiver.objects.create(name="In", url=f"https://{host}:{port}", events=["voucher.issued"])
            message = issue(course)
            assert send_due() == 0
            assert not receiver.calls
        message.refresh_from_db()
        assert message.status == "queued"
        assert "not public" in message.last_error

    def test_one_private_address_among_public_ones_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.215.14", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        with pytest.raises(addresses.PrivateAddress):
            addresses.public_addresses("rebinding.example", 443)

    def test_it_knows_no_http(self) -> None:
        with addresses.public_session() as session, pytest.raises(requests.exceptions.InvalidSchema):
            session.post("http://example.com/")

    @pytest.mark.parametrize(("certified", "sent"), [("lms.example", 1), ("other.example", 0)])
    def test_it_connects_to_the_very_address_it_looked_at_and_tls_checks_the_name(
        self, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certified: str, sent: int
    ) -> None:
        asked: list[str] = []
        original = socket.getaddrinfo

        def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
            """As a name server that rebinds: the second answer is another one."""
            asked.append(host)
            answer = "127.0.0.1" if asked.count("lms.example") == 1 else "127.0.0.2"
            return original(answer if host == "lms.example" else host, *args, **kwargs)

        with reachable_receiver(tmp_path, monkeypatch, certified) as receiver:
            url = receiver.url.replace("127.0.0.1", "lms.example")
            WebhookReceiver.objects.create(name="Platform", url=url, events=["voucher.issued"])
            message = issue(course)
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            assert send_due() == len(receiver.calls) == sent
        message.refresh_from_db()
        assert asked.count("lms.example") == 1
        assert message.last_error == ("" if sent else "No answer: SSLError")

    def test_it_follows_no_redirect(self, course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        inside = tmp_path / "inside"
        inside.mkdir()
        with reachable_receiver(tmp_path, monkeypatch) as receiver, running_receiver(inside) as private:
            receiver.answers, receiver.location = [307], private.url
            WebhookReceiver.objects.create(name="Platform", url=receiver.url, events=["voucher.issued"])
            message = issue(course)
            assert send_due() == 0
            assert (len(receiver.calls), private.calls) == (1, [])
        message.refresh_from_db()
        assert (message.status, message.last_status, message.last_error) == ("queued", 307, "Answered 307.")
