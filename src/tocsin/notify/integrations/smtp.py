"""The `smtp` provider kind: delivers mails to an SMTP server (RFC 5321) over connections that are kept open for a
while.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.charset import QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime, formataddr, parseaddr
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from tocsin.core.delivery.circuit_breaker import ENTER_CREDENTIALS, AddressRejected, NoSuchAddress
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import DeadlineStream, OutcomeUnknown
from tocsin.core.reasons import Reason, ReasonType, joined
from tocsin.core.runtime import clock
from tocsin.notify.channels.email import EmailChannel
from tocsin.notify.interfaces import (
    ProviderAccount,
    ProviderKind,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
)

#: In seconds, for each response of the server. After the data, the server may run a virus scan first.
TIMEOUT = 15.0
TIMEOUT_AFTER_DATA = 60.0
#: The total time in seconds for signing in and for each mail, however slowly the server responds; and the maximum
#: number of bytes that the server may send meanwhile.
DEADLINE = 120.0
MAX_SESSION_BYTES = 64 * 1024
#: A connection that was idle for longer, or carried this many mails, is not reused.
MAX_IDLE_SECONDS = 60.0
MAX_MAILS_PER_CONNECTION = 100

MAX_LINE_BYTES = 990
_POLICY = compat32.clone(linesep="\r\n")
_UNENCODED, _QUOTED = Charset("utf-8"), Charset("utf-8")
_UNENCODED.body_encoding = None  # type: ignore[assignment]  # what the documentation says for "not encoded"
_QUOTED.body_encoding = QP

#: Enhanced codes of RFC 3463 and its registry. Others of 5.1 are about the sender.
_NO_SUCH_ADDRESS = frozenset({"1.1", "1.2", "1.3", "1.6", "1.10"})
_RECIPIENT = frozenset({"1.0", "1.4", "1.5"})
#: Without an enhanced code, only words say that a mailbox does not exist: a 550 is also "relaying denied".
_NO_SUCH_WORDS = re.compile(
    r"\b(?:no such|unknown|invalid|non-?existent) (?:local )?(?:user|mailbox|recipient|address)\b"
    r"|\b(?:user|mailbox|recipient|address)\b.{0,80}\b(?:unknown|not found|does ?n[o']t exist|no longer exists)\b",
    re.IGNORECASE,
)
_ABOUT_SENDER = re.compile(r"\b(?:sender|relay\w*|from)\b", re.IGNORECASE)

_IMPLICIT_TLS_PORT, _SUBMISSION_PORT = 465, 587

_CONNECTED_WITH_TLS = ReasonType("provider.smtp_connected_with_tls", "Connected to {host} port {port} with {tls}.")
_CONNECTED_UNENCRYPTED = ReasonType(
    "provider.smtp_connected_unencrypted", "Connected to {host} port {port} without encryption."
)
_SIGNED_IN = ReasonType("provider.smtp_signed_in", "Signed in as {username}.")
_NOT_ASCII = ReasonType("provider.smtp_not_ascii", "The username and password must be ASCII.")
_CHOOSE_OTHERS = ReasonType("provider.smtp_choose_others", "Choose others.")
_NO_STARTTLS = ReasonType("provider.smtp_no_starttls", "{host} does not offer STARTTLS.")
_CHOOSE_ENCRYPTION = ReasonType("provider.smtp_choose_encryption", "Choose another port or kind of encryption.")
_NO_ENCRYPTION = ReasonType("provider.smtp_no_encryption", "{host} offers no encryption, so the password was not sent.")
_USE_TLS = ReasonType("provider.smtp_use_tls", "Use a port with TLS.")
_NO_REPLY = ReasonType("provider.smtp_no_reply", "{host} received the email and did not reply: {error}.")
_REPLIED = ReasonType("provider.smtp_replied", "{host} replied: {answer}.")
_CREDENTIALS = ReasonType("provider.smtp_credentials", "{host} rejected the username and password ({answer}).")
_NO_SIGN_IN = ReasonType("provider.smtp_no_sign_in", "{host} does not support signing in.")
_LEAVE_EMPTY = ReasonType("provider.smtp_leave_empty", "Leave username and password empty.")
_NO_CONNECTIONS = ReasonType("provider.smtp_no_connections", "{host} accepts no connections for now: {answer}.")
_CERTIFICATE = ReasonType("provider.smtp_certificate", "The certificate of {host} is not valid: {error}.")
_ALLOW_PRIVATE = ReasonType(
    "provider.smtp_allow_private", "If this is intended, select “Server in a private network” in the provider."
)
_NO_RESPONSE = ReasonType("provider.smtp_no_response", "{host} port {port} does not respond: {error}.")


class SmtpSender:
    """Opens as many connections as concurrent sends need, and keeps them for later mails."""

    def __init__(self, account: ProviderAccount) -> None:
        self._server = _SmtpServer.from_account(account)
        self._idle: list[_SmtpConnection] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        connection = self._acquire()
        while True:
            data = _data(rendered, self._server, address, idempotency_key, connection.supports_8bit)
            try:
                reply = connection.transmit(self._server.envelope, address, data)
            except _StaleConnection:
                # The server closed the idle connection. Nothing was accepted, so a new connection can send the mail.
                connection.close()
                connection = self._acquire(force_new=True)
            except (Temporary, Permanent):
                self._release(connection)
                raise
            else:
                self._release(connection)
                # Most servers answer with their queue id: "2.0.0 Ok: queued as 4XyZ".
                queued = re.search(r"queued as ([\w.-]+)", reply, re.IGNORECASE)
                return queued[1][:100] if queued else ""

    def verify(self) -> Reason:
        connection = self._acquire(force_new=True)
        try:
            connection.noop()
        except (smtplib.SMTPException, OSError) as error:
            _fail(self._server, error)
        finally:
            connection.close()
        host, port = self._server.host, str(self._server.port)
        connected = (
            _CONNECTED_WITH_TLS(host=host, port=port, tls=connection.tls_version)
            if connection.tls_version
            else _CONNECTED_UNENCRYPTED(host=host, port=port)
        )
        if not self._server.username:
            return connected
        return joined(connected, _SIGNED_IN(username=self._server.username), separator=" ")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _acquire(self, force_new: bool = False) -> _SmtpConnection:
        while not force_new:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return _SmtpConnection.open(self._server)

    def _release(self, connection: _SmtpConnection) -> None:
        connection.is_reused = True
        connection.used_at = time.monotonic()
        with self._lock:
            if not self._is_closed and connection.is_usable():
                self._idle.append(connection)
                return
        connection.close()


class SmtpKind(ProviderKind):
    name = "smtp"
    label = "SMTP server"
    description = "Sends email through any SMTP server: your own, Microsoft 365, Google or an email service."
    icon = "mail"
    channels: tuple[str, ...] = ("email",)
    max_concurrent_sends = 20
    open = SmtpSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting(
            "host", "Server", ProviderSettingType.HOST, is_required=True, help="Hostname, such as smtp.example.org."
        ),
        ProviderSetting("port", "Port", ProviderSettingType.NUMBER, help="Default: 587, or 465 with implicit TLS."),
        ProviderSetting(
            "security",
            "Encryption",
            ProviderSettingType.CHOICE,
            default="auto",
            choices=("auto", "starttls", "tls", "none"),
            help="auto: STARTTLS if the server supports it. Certificates are always verified.",
        ),
        ProviderSetting("username", "Username", help="Only if the server requires it."),
        ProviderSetting("password", "Password", is_secret=True, help="Password of this user."),
        ProviderSetting(
            "allow_private",
            "Server in a private network",
            ProviderSettingType.FLAG,
            default=False,
            help="Tocsin may connect to a private address. Without this, only to public addresses.",
        ),
        ProviderSetting("sender", "From", ProviderSettingType.MAILBOX, help="For example Tocsin <tocsin@example.org>."),
    )

    def accepts(self, channel: str, address: str) -> bool:
        try:
            EmailChannel().normalize_address(address)
        except Rejected:
            return False
        return True


def account_of_url(name: str, url: str, sender: str) -> ProviderAccount:
    """Returns the account of a URL `smtp[s]://user:password@host:port`; `smtps` means implicit TLS."""
    parts = urlsplit(url)
    settings = {
        "host": parts.hostname or "localhost",
        "port": parts.port or "",
        "security": "tls" if parts.scheme == "smtps" else "auto",
        "username": unquote(parts.username or ""),
        "sender": sender,
    }
    return ProviderAccount(name, settings, {"password": unquote(parts.password or "")}, is_trusted=True)


@dataclass(frozen=True, slots=True)
class _SmtpServer:
    """The server, the credentials and the sender."""

    host: str
    port: int
    security: str
    username: str
    sender: str
    is_trusted: bool
    password: str = field(repr=False, default="")

    @classmethod
    def from_account(cls, account: ProviderAccount) -> _SmtpServer:
        settings = account.settings
        security = str(settings.get("security") or "auto")
        default = _IMPLICIT_TLS_PORT if security == "tls" else _SUBMISSION_PORT
        username = str(settings.get("username") or "")
        host = str(settings.get("host") or "localhost")
        sender = str(settings.get("sender") or "") or (username if "@" in username else f"tocsin@{host}")
        return cls(
            host=host,
            port=int(settings.get("port") or default),
            security=security,
            username=username,
            sender=sender if parseaddr(sender)[0] else f"Tocsin <{parseaddr(sender)[1] or sender}>",
            is_trusted=account.is_trusted or bool(settings.get("allow_private")),
            password=account.secrets.get("password", ""),
        )

    @property
    def envelope(self) -> str:
        """The sender's address without the display name."""
        return parseaddr(self.sender)[1]


class _StaleConnection(Exception):
    """A kept connection turned out to be closed before anything was accepted."""


class _SmtpConnection(smtplib.SMTP):
    """One signed-in connection. `smtplib` implements the protocol; the destination is checked by `egress`."""

    def __init__(self, server: _SmtpServer) -> None:
        self._server = server
        self.used_at = time.monotonic()
        self.mail_count = 0
        self.is_reused = False
        self.tls_version = ""
        self._exchange = DeadlineStream()
        self._exchange.begin_exchange(DEADLINE, MAX_SESSION_BYTES)
        # A fixed name for EHLO: looking up the machine's own can take seconds.
        super().__init__(local_hostname=server.envelope.rpartition("@")[2] or "localhost", timeout=TIMEOUT)
        # The name that the certificate must match; `smtplib` sets it only if it connects by itself.
        self._host = server.host

    def getreply(self) -> tuple[int, bytes]:
        """Like `smtplib`'s method, limited by the deadline of the exchange."""
        if self.file is None and self.sock is not None:
            self.file = self._exchange.reader(self.sock)
        return super().getreply()

    @classmethod
    def open(cls, server: _SmtpServer) -> _SmtpConnection:
        """Connects, encrypts and signs in. Raises Temporary or Permanent: nothing was sent yet."""
        connection = cls(server)
        try:
            code, reply = connection.connect(server.host, server.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, reply)
            connection.ehlo_or_helo_if_needed()
            connection._encrypt()
            if server.username:
                connection._require_privacy()
                connection.login(server.username, server.password)
            return connection
        except BaseException as error:
            connection.close()
            match error:
                case smtplib.SMTPException() | OSError():
                    _fail(server, error)
                case UnicodeEncodeError():
                    # `smtplib` sends them as ASCII.
                    raise Permanent(_NOT_ASCII(), _CHOOSE_OTHERS()) from None
                case egress.EgressBlocked():
                    raise egress.EgressBlocked(error.reason, _ALLOW_PRIVATE()) from None
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = egress.connect(host, port, trusted=self._server.is_trusted)
        connection.settimeout(timeout)
        if self._server.security != "tls":
            return connection
        wrapped = egress.tls_context().wrap_socket(connection, server_hostname=host)
        self.tls_version = wrapped.version() or "TLS"
        return wrapped

    def _encrypt(self) -> None:
        security = self._server.security
        if security == "starttls" and not self.has_extn("starttls"):
            raise Permanent(_NO_STARTTLS(host=self._server.host), _CHOOSE_ENCRYPTION())
        if security in ("auto", "starttls") and self.has_extn("starttls"):
            self.starttls(context=egress.tls_context())
            self.ehlo()
            assert isinstance(self.sock, ssl.SSLSocket)
            self.tls_version = self.sock.version() or "TLS"

    def _require_privacy(self) -> None:
        """Raises Permanent rather than send the password unencrypted over the internet."""
        assert self.sock is not None
        if not self.tls_version and ip_address(str(self.sock.getpeername()[0]).split("%")[0]).is_global:
            raise Permanent(_NO_ENCRYPTION(host=self._server.host), _USE_TLS())

    def transmit(self, sender: str, address: str, data: bytes) -> str:
        """Sends a mail and returns the server's response. Raises Temporary, Permanent or _StaleConnection."""
        self.mail_count += 1
        self._exchange.begin_exchange(DEADLINE, MAX_SESSION_BYTES)
        try:
            options = ["BODY=8BITMIME"] if self.supports_8bit else []
            self._check_reply(*self._require_open(*self.mail(sender, options)))
            self._check_reply(*self._require_open(*self.rcpt(address)), is_recipient=True)
            code, reply = self._require_open(*self.docmd("DATA"))
            if code != 354:
                self._check_reply(code, reply)
        except (smtplib.SMTPServerDisconnected, OSError) as error:
            self.close()
            if self.is_reused:
                raise _StaleConnection from error
            _fail(self._server, error)
        return self._transmit_data(data)

    def _require_open(self, code: int, reply: bytes) -> tuple[int, bytes]:
        """Checks a response before the data. A server that timed out an idle connection says 421 and closes it (RFC
        5321, 3.8); on a kept connection this is noticed only now.
        """
        if code == 421 and self.is_reused:
            raise _StaleConnection
        return code, reply

    def _transmit_data(self, data: bytes) -> str:
        """Sends the data. From here on, the server may have accepted the mail."""
        assert self.sock is not None
        try:
            self.sock.settimeout(TIMEOUT_AFTER_DATA)
            self.send(data)
            code, reply = self.getreply()
            if self.sock is not None:
                self.sock.settimeout(TIMEOUT)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise OutcomeUnknown(_NO_REPLY(host=self._server.host, error=_text(error))) from None
        self._check_reply(code, reply)
        return reply.decode("utf-8", "replace")

    @property
    def supports_8bit(self) -> bool:
        return self.has_extn("8bitmime")

    def _check_reply(self, code: int, reply: bytes, *, is_recipient: bool = False) -> None:
        """Raises the error that a rejection means, and resets the connection for the next mail."""
        if 200 <= code < 300:
            return
        if code != 421 and self.sock is not None:
            try:
                self.rset()
            except (smtplib.SMTPException, OSError):
                self.close()
        else:
            self.close()
        _raise_for_reply(self._server, code, reply, is_recipient=is_recipient)

    def is_usable(self) -> bool:
        """Returns whether the connection can carry another mail."""
        return (
            self.sock is not None
            and self.mail_count < MAX_MAILS_PER_CONNECTION
            and time.monotonic() - self.used_at < MAX_IDLE_SECONDS
        )


def _data(rendered: Rendered, server: _SmtpServer, address: str, key: str, supports_8bit: bool) -> bytes:
    """Returns the mail in wire format: CRLF line ends, dot stuffing (RFC 5321, 4.5.2), and the final line with a dot.

    Uses the legacy classes of `email`: the newer API parses every header again, which takes five times as long.
    """
    mail = MIMEMultipart("alternative")
    mail["Subject"] = _encoded(rendered.subject, "Subject")
    mail["From"] = formataddr(parseaddr(server.sender))
    mail["To"] = address
    mail["Date"] = format_datetime(clock.now())
    default_headers = {"Message-ID": f"<{key}@{server.envelope.rpartition('@')[2] or 'localhost'}>"}
    for header, value in {**default_headers, **rendered.headers}.items():
        mail[header] = _encoded(value, header)
    mail.attach(_part(rendered.text, "plain", supports_8bit))
    if rendered.html:
        mail.attach(_part(rendered.html, "html", supports_8bit))
    return re.sub(rb"(?m)^\.", b"..", mail.as_bytes(policy=_POLICY)) + b"\r\n.\r\n"


def _encoded(value: str, header: str) -> str:
    """Returns a header's value, folded, and encoded by RFC 2047 if it is not ASCII."""
    return value if value.isascii() and len(value) < 60 else Header(value, header_name=header).encode()


def _part(text: str, kind: str, supports_8bit: bool) -> MIMENonMultipart:
    """Returns a text part, unencoded if the server allows it and no line is too long (RFC 5321, 4.5.3.1.6)."""
    part = MIMENonMultipart("text", kind)
    data = text.encode("utf-8", "replace")
    is_unencoded = (supports_8bit or data.isascii()) and max(map(len, data.splitlines()), default=0) < MAX_LINE_BYTES
    part.set_payload(data.decode(), _UNENCODED if is_unencoded else _QUOTED)
    return part


def _raise_for_reply(server: _SmtpServer, code: int, reply: bytes, *, is_recipient: bool = False) -> NoReturn:
    cleaned = _clean(reply.decode("utf-8", "replace"), server)
    reason = _REPLIED(host=server.host, answer=f"{code} {cleaned}")
    if 400 <= code < 500:
        raise Temporary(reason)
    if is_recipient:
        enhanced = re.match(r"5\.(\d+\.\d+)\b", cleaned)
        detail = enhanced[1] if enhanced else ""
        has_no_such_words = _NO_SUCH_WORDS.search(cleaned) and not _ABOUT_SENDER.search(cleaned)
        if detail in _NO_SUCH_ADDRESS or (not detail and has_no_such_words):
            raise NoSuchAddress(reason)
        # 5.2: the mailbox exists, but is full or disabled.
        if detail in _RECIPIENT or detail.startswith("2."):
            raise AddressRejected(reason)
    raise Permanent(reason)


def _fail(server: _SmtpServer, error: Exception) -> NoReturn:
    """Raises Temporary or Permanent for an error before the mail was handed over."""
    match error:
        case smtplib.SMTPAuthenticationError() if error.smtp_code >= 500:
            credentials = _CREDENTIALS(host=server.host, answer=str(error.smtp_code))
            raise Permanent(credentials, ENTER_CREDENTIALS()) from None
        case smtplib.SMTPNotSupportedError():
            raise Permanent(_NO_SIGN_IN(host=server.host), _LEAVE_EMPTY()) from None
        case smtplib.SMTPResponseException():
            reply = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
            if not isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPHeloError):
                _raise_for_reply(server, error.smtp_code, reply)
            # Rejected at connection time, whatever the code: this is not about the mail.
            answer = f"{error.smtp_code} {_clean(reply.decode('utf-8', 'replace'), server)}"
            raise Temporary(_NO_CONNECTIONS(host=server.host, answer=answer)) from None
        case ssl.SSLCertVerificationError():
            # Temporary, because a page must not be lost to a certificate that is renewed within minutes.
            raise Temporary(_CERTIFICATE(host=server.host, error=error.verify_message)) from None
        case _:
            text = _clean(_text(error), server)
            raise Temporary(_NO_RESPONSE(host=server.host, port=str(server.port), error=text)) from None


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _clean(text: str, server: _SmtpServer) -> str:
    line = " ".join(text.split())[:200].rstrip(".")
    return line.replace(server.password, "•••") if server.password else line
