"""Parses the URL of a mailbox to poll: `imaps://user@host:993/INBOX`. Pure.

`imap+starttls://` upgrades to TLS after the greeting; `imap://` is for servers on a private network only.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_PORTS = {"imaps": 993, "imap+starttls": 143, "imap": 143}

_FORMAT_HINT = "must look like imaps://user@mail.example.org/INBOX, with %40 for an @ in the user's name."


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
    """Parses a mailbox URL. Raises ValueError with a sentence for users."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(_FORMAT_HINT) from error
    if parts.scheme not in _PORTS or not host or not parts.username:
        raise ValueError(_FORMAT_HINT)
    if parts.password:
        raise ValueError("has no password in it: that has a place of its own.")
    folder = unquote(parts.path.strip("/")) or "INBOX"
    is_tls, is_starttls = parts.scheme == "imaps", parts.scheme == "imap+starttls"
    return MailboxSettings(host, port or _PORTS[parts.scheme], unquote(parts.username), folder, is_tls, is_starttls)


def url_problem(text: str) -> str:
    """Returns what is wrong with a mailbox URL, as a sentence; "" if it is valid."""
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""
