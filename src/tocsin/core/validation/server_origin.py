"""Whether settings lead to another server than before: a stored secret goes only where it was entered for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443, "imap": 143, "imap+starttls": 143, "imaps": 993}

#: Settings that together name a server, beside addresses.
_PARTS = ("host", "port", "security")


def leads_elsewhere(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether an address among the settings (`url`, `api_base`, `…_url`) has another origin than before, or is new; or
    a server that is named by `host`, `port` and `security` is another one."""
    keys = [key for key in after if key in ("url", "api_base") or key.endswith("_url")]
    if any(is_elsewhere(str(before.get(key, "")), str(after[key])) for key in keys):
        return True
    return any(str(before.get(key, "")).casefold() != str(after.get(key, "")).casefold() for key in _PARTS)


def is_elsewhere(before: str, after: str) -> bool:
    """Whether two addresses have another scheme, host or port."""
    return _origin(before) != _origin(after)


def _origin(url: str) -> tuple[str, str, int | None] | str:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return url
