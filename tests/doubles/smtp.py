"""A real SMTP server on loopback that keeps every mail, and rejects, hangs up or requires authentication on demand."""

from __future__ import annotations

import asyncio
import email
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it arrived."""

    sender: str
    to: str
    raw: bytes
    #: Whether it came encrypted, and as whom its sender had signed in.
    is_encrypted: bool = False
    user: str = ""

    @property
    def message(self) -> EmailMessage:
        message = email.message_from_bytes(self.raw, policy=default)
        assert isinstance(message, EmailMessage)
        return message

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    def part(self, kind: str) -> str:
        """The text of the `plain` or `html` part."""
        mimepart = self.message.get_body((kind,))
        return str(mimepart.get_content()) if mimepart is not None else ""


@dataclass
class SmtpDouble:
    """`answers` are given to the next mails, one each, instead of taking them ("450 later", "550 no"); an answer of
    "" closes the connection without one, after the mail was taken."""

    mails: list[Mail] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    answer_recipients: list[str] = field(default_factory=list)
    #: One for each mechanism that a client tries.
    refuse_logins: list[str] = field(default_factory=list)
    #: The answer to every mail while it is set, before the data are read.
    refuses: str = ""
    #: After a mail is kept, its answer takes so many seconds.
    takes: float = 0.0
    #: What a client meets: a greeting, none ever, or the end of the connection.
    greets: Literal["yes", "never", "hangs up"] = "yes"
    connections: int = 0
    arrived: threading.Condition = field(default_factory=threading.Condition)
    host: str = "127.0.0.1"
    port: int = 0

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}"

    @property
    def subjects(self) -> list[str]:
        return [mail.subject for mail in self.mails]

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer_recipients or self.refuses:
            return self.answer_recipients.pop(0) if self.answer_recipients else self.refuses
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.answers.pop(0) if self.answers else None
        if answer:
            return answer
        content = envelope.content
        assert isinstance(content, bytes)
        user = session.auth_data.decode() if isinstance(session.auth_data, bytes) else ""
        with self.arrived:
            for to in envelope.rcpt_tos:
                encrypted = session.ssl is not None
                self.mails.append(Mail(envelope.mail_from or "", to, content, encrypted, user))
            self.arrived.notify_all()
        if self.takes:
            await asyncio.sleep(self.takes)
        if answer == "":
            assert server.transport is not None
            server.transport.abort()
        return f"250 2.0.0 Ok: queued as Q{len(self.mails)}"


class _Handler:
    """What aiosmtpd calls. It reads every attribute of its handler at each connection, which must cost nothing."""

    def __init__(self, double: SmtpDouble) -> None:
        self._double = double

    # Looked up anew each time: a test may put another method in their place.

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        return await self._double.handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return await self._double.handle_DATA(server, session, envelope)

    def connected(self) -> None:
        self._double.connections += 1

    def forget(self) -> None:
        self._double.connections = 0

    @property
    def greets(self) -> str:
        return self._double.greets


class _Server(SMTP):
    """Counts connections."""

    def connection_made(self, transport: Any) -> None:
        self.event_handler.connected()
        super().connection_made(transport)
        if self.event_handler.greets == "hangs up":
            transport.abort()

    async def _handle_client(self) -> None:
        while self.event_handler.greets == "never":
            await asyncio.sleep(0.1)
        await super()._handle_client()


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Server(self.handler, **self.SMTP_kwargs)


@contextmanager
def smtp_double(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    login: tuple[str, str] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[SmtpDouble]:
    """A running server, on a free port unless one is named. With `login` it wants that user name and password,
    encrypted or not."""
    double = SmtpDouble(host=host)

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        if double.refuse_logins:
            return AuthResult(success=False, handled=False, message=double.refuse_logins.pop(0))
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == login, handled=False, auth_data=data.login)

    options: dict[str, Any] = {
        "hostname": host,
        "port": port,
        "ready_timeout": 10,
        "server_hostname": "localhost",
    }
    if login:
        options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": False}
    if starttls:
        options["tls_context"] = starttls
    if tls:
        options["ssl_context"] = tls
    controller = _PortZero(_Handler(double), **options)
    controller.start()
    double.port = controller.server.sockets[0].getsockname()[1]
    try:
        yield double
    finally:
        controller.stop()


class _PortZero(_Controller):
    """Starts on whatever port is free; aiosmtpd's own trigger connects to the port it was told."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()
        self.handler.forget()
