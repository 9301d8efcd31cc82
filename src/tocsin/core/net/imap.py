"""Reads unread mails from a mailbox by IMAP (RFC 9051), and marks them as read once processed. Never deletes a mail.

Connects through `egress`, so private servers must be allowed. Certificates are always verified.
"""

from __future__ import annotations

import imaplib
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, NoReturn

from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import egress
from tocsin.core.net.egress import DeadlineStream
from tocsin.core.reasons import Reason, ReasonType, as_reason

if TYPE_CHECKING:
    from imap_tools import BaseMailBox

#: Seconds for each response of the server.
TIMEOUT = 20.0
#: Seconds for signing in, for each search and for each mail, however slowly the server sends. A mail gets additional
#: time by its size, at this many bytes per second.
DEADLINE = 60.0
MIN_BYTES_PER_SECOND = 64 * 1024
#: Larger mails are not read, because they are no replies and would fill the memory.
MAX_MAIL_BYTES = 10 * 1024 * 1024
#: Maximum bytes the server may send in one exchange.
MAX_SESSION_BYTES = 2 * MAX_MAIL_BYTES
_MAX_LINE_BYTES = 1_000_000
#: Maximum remembered mails per mailbox that could not be marked.
_MAX_UNMARKED_MAILS = 10_000

#: Processed mails that the server did not let Tocsin mark as read, by mailbox and UIDVALIDITY, as long as its UIDs keep
#: their meaning. Without this, each poll would process them again and never reach the mails behind them.
_unmarked: dict[tuple[str, int, str, str, str], dict[str, None]] = {}


_SIGNED_IN = ReasonType(
    "mailbox.signed_in",
    "Signed in. {folder} of {username} at {host} has {count} unread email.",
    "Signed in. {folder} of {username} at {host} has {count} unread emails.",
)
_MARKING_REFUSED = ReasonType(
    "mailbox.marking_refused", "The mailbox at {host} does not allow marking emails as read: {error}."
)
_ALLOW_FLAGS = ReasonType("mailbox.allow_flags", "Allow the user to change flags in it.")
_UNENCRYPTED = ReasonType("mailbox.unencrypted", "A password is not sent to {host} without encryption.")
_CHOOSE_TLS = ReasonType("mailbox.choose_tls", "Choose tls or starttls for it.")
_LOGIN_REFUSED = ReasonType("mailbox.login_refused", "{host} does not accept the user name and password.")
_ENTER_LOGIN = ReasonType("mailbox.enter_login", "Enter them again. Many servers require an app password.")
_NO_FOLDER = ReasonType("mailbox.no_folder", "{host} has no folder {folder}.")
_ENTER_FOLDER = ReasonType("mailbox.enter_folder", "Enter the name of an existing folder.")
_UNREADABLE = ReasonType("mailbox.unreadable", "The mailbox at {host} cannot be read: {error}.")


class ImapSecurity(StrEnum):
    """How a connection is encrypted: from the first byte, after STARTTLS, or not at all."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ImapAccount:
    """A mailbox and its credentials."""

    host: str
    username: str
    password: str = field(repr=False)
    folder: str = "INBOX"
    port: int = 0
    security: ImapSecurity = ImapSecurity.TLS
    is_trusted: bool = False

    @property
    def port_used(self) -> int:
        return self.port or (993 if self.security is ImapSecurity.TLS else 143)


class ImapMailbox:
    """An open mailbox. Every method may raise Temporary or Permanent; no error text contains the password."""

    def __init__(self, account: ImapAccount) -> None:
        self._account = account
        self._box, self._client = _open(account)
        _status, response = self._client.response("UIDVALIDITY")
        uid_validity = next((part.decode("ascii", "replace") for part in response if isinstance(part, bytes)), "")
        mailbox_key = (account.host, account.port_used, account.username, account.folder, uid_validity)
        self._unmarked = _unmarked.setdefault(mailbox_key, {})
        #: The server's last reason for refusing to mark a mail.
        self._refusal = ""

    def unread(self, limit: int) -> Iterator[tuple[str, bytes]]:
        """Yields UID and bytes of at most `limit` unread mails, oldest first. Reading does not mark them.

        A mail that is too large has no bytes. At the end, Permanent is raised if a processed mail cannot be marked as
        read. Such a mail is still not returned again while this process lives.
        """
        try:
            self._client.begin_exchange()
            # The server may not have announced new mails yet.
            self._client.noop()
            unread_uids = self._box.uids("UNSEEN")
            uids = [uid for uid in unread_uids if uid not in self._unmarked][:limit]
            self._retry_marking(unread_uids)
            for uid in uids:
                # The mail may have been deleted in the meantime.
                if (mail := self._fetch(uid)) is not None:
                    yield uid, mail
        except (imaplib.IMAP4.error, OSError, _library_error()) as error:
            _fail(self._account, error)
        if self._refusal:
            raise Permanent(_MARKING_REFUSED(host=self._account.host, error=self._refusal), _ALLOW_FLAGS())

    def mark_read(self, uid: str) -> None:
        """Marks one mail as read. If the server refuses, `unread` reports it at its end."""
        self._client.begin_exchange()
        try:
            status, response = self._client.uid("STORE", uid, "+FLAGS", r"(\Seen)")
        except (imaplib.IMAP4.error, OSError) as error:
            _fail(self._account, error)
        if status == "OK":
            self._unmarked.pop(uid, None)
            return
        reasons = (part for part in response if isinstance(part, bytes))
        self._refusal = _server_text(self._account, next(reasons, b"no reason given"))
        self._unmarked[uid] = None
        if len(self._unmarked) > _MAX_UNMARKED_MAILS:
            del self._unmarked[next(iter(self._unmarked))]

    def describe(self) -> Reason:
        """Returns the number of unread emails."""
        self._client.begin_exchange()
        try:
            waiting = len(self._box.uids("UNSEEN"))
        except (imaplib.IMAP4.error, OSError, _library_error()) as error:
            _fail(self._account, error)
        account = self._account
        return _SIGNED_IN(folder=account.folder, username=account.username, host=account.host, count=waiting)

    def close(self) -> None:
        """Logs out, if the server still responds."""
        try:
            self._client.logout()
        except (imaplib.IMAP4.error, OSError):
            self._client.shutdown()

    def _retry_marking(self, unread: list[str]) -> None:
        """Retries marking the remembered mails, and stops at the first refusal, because the rest would fail too.
        Forgets those that have been marked or deleted elsewhere."""
        self._refusal = ""
        for uid in set(self._unmarked).difference(unread):
            del self._unmarked[uid]
        for uid in list(self._unmarked):
            self.mark_read(uid)
            if self._refusal:
                return

    def _fetch(self, uid: str) -> bytes | None:
        """Returns the mail; no bytes if it is too large or refused by the server; None if it is gone."""
        self._client.begin_exchange()
        status, response = self._client.uid("FETCH", uid, "(RFC822.SIZE)")
        size = _parse_size(response)
        if status != "OK" or size > MAX_MAIL_BYTES:
            return b""
        self._client.begin_exchange(size)
        status, parts = self._client.uid("FETCH", uid, "(BODY.PEEK[])")
        if status == "OK" and not any(parts):
            return None
        return next((part[1] for part in parts if isinstance(part, tuple)), b"")


def _open(account: ImapAccount) -> tuple[BaseMailBox, _Client]:
    # Imported when a mailbox is read, not at start-up.
    from imap_tools import BaseMailBox

    class Box(BaseMailBox):
        def _get_mailbox_client(self) -> imaplib.IMAP4:
            return client

    try:
        client = _client(account)
    except (imaplib.IMAP4.error, OSError) as error:
        _fail(account, error)
    try:
        box = Box()
        box.login_utf8(account.username, account.password, account.folder)
    except (imaplib.IMAP4.error, OSError, _library_error()) as error:
        client.shutdown()
        _fail(account, error)
    return box, client


class _Client(imaplib.IMAP4):
    """`imaplib`'s client, with its target checked by `egress` and its reading time bounded."""

    def __init__(self, account: ImapAccount) -> None:
        self._account = account
        self._exchange = DeadlineStream()
        self._reader: tuple[socket.socket, io.BufferedReader] | None = None
        self.begin_exchange()
        super().__init__(account.host, account.port_used, timeout=TIMEOUT)

    def begin_exchange(self, size: int = 0) -> None:
        """Starts an exchange with its own deadline. `size` is the expected number of bytes."""
        self._exchange.begin_exchange(DEADLINE + size / MIN_BYTES_PER_SECOND, MAX_SESSION_BYTES)

    def read(self, size: int) -> bytes:
        """Reads as `imaplib` does, within the deadline of the exchange."""
        return self._current_reader().read(size)

    def readline(self) -> bytes:
        """Reads a line as `imaplib` does, within the deadline of the exchange."""
        line = self._current_reader().readline(_MAX_LINE_BYTES + 1)
        if len(line) > _MAX_LINE_BYTES:
            raise self.error(f"got more than {_MAX_LINE_BYTES} bytes in a line")
        return line

    def _current_reader(self) -> io.BufferedReader:
        # STARTTLS replaces the socket. Data buffered before it must not be used.
        if self._reader is None or self._reader[0] is not self.sock:
            self._reader = self.sock, self._exchange.reader(self.sock)
        return self._reader[1]

    def _create_socket(self, timeout: float | None) -> socket.socket:
        connection = egress.connect(self.host, self.port, trusted=self._account.is_trusted)
        connection.settimeout(timeout)
        if self._account.security is not ImapSecurity.TLS:
            return connection
        return egress.tls_context().wrap_socket(connection, server_hostname=self.host)


def _client(account: ImapAccount) -> _Client:
    client = _Client(account)
    match account.security:
        case ImapSecurity.STARTTLS:
            client.starttls(egress.tls_context())
        case ImapSecurity.NONE if ip_address(str(client.sock.getpeername()[0]).split("%")[0]).is_global:
            client.shutdown()
            raise Permanent(_UNENCRYPTED(host=account.host), _CHOOSE_TLS())
    return client


def _library_error() -> type[Exception]:
    from imap_tools import ImapToolsError

    return ImapToolsError


def _fail(account: ImapAccount, error: Exception) -> NoReturn:
    """Raises Permanent if the credentials or the folder are wrong, else Temporary: the mailbox may come back."""
    server_text = _server_text(account, str(getattr(error, "strerror", None) or error or type(error).__name__).encode())
    if (
        "AUTHENTICATIONFAILED" in server_text.upper()
        or "login failed" in server_text.lower()
        or "invalid credentials" in server_text.lower()
    ):
        raise Permanent(_LOGIN_REFUSED(host=account.host), _ENTER_LOGIN()) from None
    if "NONEXISTENT" in server_text.upper() or "doesn't exist" in server_text.lower():
        raise Permanent(_NO_FOLDER(host=account.host, folder=account.folder), _ENTER_FOLDER()) from None
    raise Temporary(_UNREADABLE(host=account.host, error=server_text)) from None


def _server_text(account: ImapAccount, text: bytes) -> str:
    """Returns the server's text as one line, without the password."""
    line = " ".join(text.decode("utf-8", "replace").split())[:200].rstrip(".")
    return line.replace(account.password, "•••") if account.password else line


def _parse_size(response: list[bytes | tuple[bytes, bytes] | None]) -> int:
    """Returns the size from a response such as `12 (UID 34 RFC822.SIZE 5678)`."""
    first = response[0] if response else None
    text = first.decode("ascii", "replace") if isinstance(first, bytes) else ""
    digits = text.rpartition("RFC822.SIZE")[2].strip(" )").split(" ")[0]
    return int(digits) if digits.isdigit() else 0


# ---------- mailbox errors
# The mailboxes that could not be read at the last poll: since when, and why. Written by the polling tasks.


class MailboxReader(StrEnum):
    """The purpose for which a mailbox is read."""

    #: An inbound integration: its mails become alerts.
    INBOUND = "inbound"
    #: A provider: its mails are replies to pages.
    REPLIES = "answers"


def record_failure(
    connection: Connection, purpose: MailboxReader, owner_id: int, error: Reason | str, now: datetime
) -> None:
    """Records that a mailbox cannot be read. `since` keeps the time of the first consecutive failure."""
    connection.execute(
        "INSERT INTO core_mailboxtrouble (reads, number, since, reason) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (reads, number) DO UPDATE SET reason = EXCLUDED.reason",
        (purpose, owner_id, now, as_reason(error)),
    )


def clear_failure(connection: Connection, purpose: MailboxReader, owner_id: int) -> None:
    """Records that a mailbox was read, which clears its error."""
    connection.execute("DELETE FROM core_mailboxtrouble WHERE reads = %s AND number = %s", (purpose, owner_id))
