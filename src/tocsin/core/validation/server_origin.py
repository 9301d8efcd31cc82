"""Detects whether changed settings lead to another server, so that a stored secret is never sent there. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443, "imap": 143, "imap+starttls": 143, "imaps": 993}

#: Settings that together identify a server, besides URLs.
_PARTS = ("host", "port", "security")


def has_different_origin(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Returns whether a URL setting (`url`, `api_base`, `…_url`) has a new origin, or the server identified by `host`,
    `port` and `security` has changed."""
    keys = [key for key in after if key in ("url", "api_base") or key.endswith("_url")]
    if any(is_different_origin(str(before.get(key, "")), str(after[key])) for key in keys):
        return True
    return any(str(before.get(key, "")).casefold() != str(after.get(key, "")).casefold() for key in _PARTS)


def is_different_origin(before: str, after: str) -> bool:
    """Returns whether two URLs differ in scheme, host or port."""
    return _origin(before) != _origin(after)


def _origin(url: str) -> tuple[str, str, int | None] | str:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return url


# ---------- forwarding target
# The address to which the audit log is forwarded, such as `syslog+tls://siem.example.org:6514`. Pure.


_DEFAULT_PORTS = {"syslog+tls": 6514, "syslog+tcp": 601, "syslog+udp": 514}


class Transport(StrEnum):
    """How entries are sent: RFC 5424 over TLS, TCP or UDP, or as signed HTTP requests."""

    TLS = "syslog+tls"
    TCP = "syslog+tcp"
    UDP = "syslog+udp"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class ForwardingTarget:
    """A parsed address. A webhook has its URL; syslog a host and a port."""

    transport: Transport
    host: str
    port: int
    url: str

    @classmethod
    def parse(cls, text: str) -> ForwardingTarget:
        """Parses an address. Raises ValueError if it is none, has a password, or is a public one by plain http."""
        if any(character.isspace() for character in text):
            raise ValueError(text)
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        if not host or parts.username is not None or parts.password is not None:
            raise ValueError(text)
        if parts.scheme in _DEFAULT_PORTS:
            if parts.path not in ("", "/") or parts.query or parts.fragment:
                raise ValueError(text)
            return cls(Transport(parts.scheme), host, port or _DEFAULT_PORTS[parts.scheme], "")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_private(host)):
            raise ValueError(text)
        return cls(Transport.WEBHOOK, host, port or (443 if parts.scheme == "https" else 80), text)


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"
