"""Parses the URL of a mailbox to poll: `imaps://user@host:993/INBOX`. Pure.

`imap+starttls://` upgrades to TLS after the greeting; `imap://` is for servers on a private network only.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType

_PORTS = {"imaps": 993, "imap+starttls": 143, "imap": 143}

_INVALID_URL = ReasonType(
    "mailbox.invalid_url", "must look like {example}, with {escaped} for an @ in the user's name."
)
_HAS_PASSWORD = ReasonType("mailbox.url_has_password", "must not contain the password; use the password field.")


@dataclass(frozen=True, slots=True)
class MailboxSettings:
    """A mailbox to poll. `is_tls`: TLS from the first byte; `is_starttls`: TLS after the greeting."""

    host: str
    port: int
    user: str
    folder: str
    is_tls: bool
    is_starttls: bool = False


def read(text: str) -> MailboxSettings:
    """Parses a mailbox URL. Raises Rejected."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _invalid_url() from None
    if parts.scheme not in _PORTS or not host or not parts.username:
        raise _invalid_url()
    if parts.password:
        raise Rejected("invalid", _HAS_PASSWORD())
    folder = unquote(parts.path.strip("/")) or "INBOX"
    is_tls, is_starttls = parts.scheme == "imaps", parts.scheme == "imap+starttls"
    return MailboxSettings(host, port or _PORTS[parts.scheme], unquote(parts.username), folder, is_tls, is_starttls)


def url_problem(text: str) -> Reason:
    """Returns what is wrong with a mailbox URL; `NO_REASON` if it is valid."""
    try:
        read(text)
    except Rejected as problem:
        return problem.reason
    return NO_REASON


def _invalid_url() -> Rejected:
    return Rejected("invalid", _INVALID_URL(example="imaps://user@mail.example.org/INBOX", escaped="%40"))
