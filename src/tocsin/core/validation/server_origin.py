"""Detects whether changed settings lead to another server, so that a stored secret is never sent there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
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
