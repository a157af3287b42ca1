"""A real SMTP server on 127.0.0.1 that does as it is told: refuses, delays, drops, accepts and then drops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

DROP = "drop"  # hang up without a word
PASSWORD = b"right-password"
ALWAYS = float("inf")


@dataclass
class Received:
    """One message, as it stood after the final dot; whether the sender was told so is another matter."""

    recipients: list[str]
    connection: int
    message: EmailMessage

    @property
    def text(self) -> str:
        return self._part("plain")

    @property
    def html(self) -> str:
        return self._part("html")

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content())


@dataclass
class Order:
    """What to do at a stage of the dialogue: answer with a reply, drop, or first wait some seconds."""

    stage: str
    reply: str
    to: str | None
    times: float
    seconds: float


@dataclass
class SmtpServer:
    host: str = "127.0.0.1"
    port: int = 0
    per_connection: float = ALWAYS
    received: list[Received] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    connections: list[Session] = field(default_factory=list)
    # Called once a message is taken, before the sender is told so.
    when_taken: Callable[[], None] | None = None

    def answer(
        self, stage: str, reply: str, *, to: str | None = None, times: float = ALWAYS, seconds: float = 0
    ) -> None:
        """At MAIL, RCPT or DATA (the final dot): this reply, or DROP; to one recipient or to all."""
        self.orders.append(Order(stage, reply, to, times, seconds))

    def behave(self) -> None:
        self.orders.clear()

    @property
    def recipients(self) -> list[str]:
        return [recipient for received in self.received for recipient in received.recipients]

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        right = isinstance(data, LoginPassword) and data.password == PASSWORD
        return AuthResult(success=right, handled=False)

    async def handle_EHLO(  # noqa: N802  # the names are aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections.append(session)
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        number = self.connections.index(session)
        if sum(received.connection == number for received in self.received) >= self.per_connection:
            return "421 4.7.0 Too many messages in this session"
        envelope.mail_from = address
        return await self._carry_out("MAIL", server, []) or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = await self._carry_out("RCPT", server, [address])
        if reply is None:
            envelope.rcpt_tos.append(address)
        return reply or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        number = self.connections.index(session)
        self.received.append(Received(list(envelope.rcpt_tos), number, message))
        if self.when_taken:
            self.when_taken()
        return await self._carry_out("DATA", server, envelope.rcpt_tos) or "250 OK"

    async def _carry_out(self, stage: str, server: SMTP, recipients: list[str]) -> str | None:
        for order in self.orders:
            if order.stage == stage and order.times > 0 and (order.to is None or order.to in recipients):
                order.times -= 1
                await asyncio.sleep(order.seconds)
                if order.reply == DROP:
                    assert isinstance(server.transport, asyncio.Transport)
                    server.transport.abort()
                    await asyncio.sleep(3600)  # ended by the loss of the connection
                return order.reply
        return None


class OnAnyPort(Controller):
    def __init__(self, server: SmtpServer) -> None:
        self.socket = socket.create_server((server.host, 0))
        server.port = self.socket.getsockname()[1]
        super().__init__(
            server,
            hostname=server.host,
            port=server.port,
            authenticator=server.authenticate,
            auth_require_tls=False,
        )

    def _create_server(self) -> Awaitable[asyncio.AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self.socket)


@contextmanager
def running_smtp_server() -> Iterator[SmtpServer]:
    server = SmtpServer()
    controller = OnAnyPort(server)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
