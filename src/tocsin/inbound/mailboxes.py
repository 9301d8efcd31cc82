"""The address of a mailbox that is read for an integration: `imaps://user@host:993/INBOX`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_PORTS = {"imaps": 993, "imap": 143}

_FORM = "must look like imaps://user@mail.example.org/INBOX, with %40 for an @ in the user's name."


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where mails wait. `is_tls`: from the first byte; else the connection turns to TLS by STARTTLS where it can."""

    host: str
    port: int
    user: str
    folder: str
    is_tls: bool


def read(text: str) -> Mailbox:
    """The mailbox that `text` names. Raises ValueError with a sentence."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(_FORM) from error
    if parts.scheme not in _PORTS or not host or not parts.username:
        raise ValueError(_FORM)
    if parts.password:
        raise ValueError("has no password in it: that has a place of its own.")
    folder = unquote(parts.path.strip("/")) or "INBOX"
    return Mailbox(host, port or _PORTS[parts.scheme], unquote(parts.username), folder, parts.scheme == "imaps")


def problem_with(text: str) -> str:
    """What is wrong with it, as a sentence; "" if nothing is."""
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""
