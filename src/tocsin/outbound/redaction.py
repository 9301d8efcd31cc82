"""Removes secrets from recorded requests, responses and reasons. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from tocsin.core.reasons import Param, Reason

MASK = "•••"

#: Names of values that are always secret.
_NAMES = (
    r"access_token|refresh_token|id_token|client_secret|client_assertion|password|basic_password|secret|api_key|apikey|"
    r"authorization|token"
)

_JSON = re.compile(rf'("(?:{_NAMES})"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE)
_FORM = re.compile(rf"(?<![\w-])((?:{_NAMES})=)[^&\s\"]+", re.IGNORECASE)
#: The token in an inbound integration's webhook URL.
_WEBHOOK_TOKEN = re.compile(r"(/in/)[A-Za-z0-9_-]{16,}")


def mask_text(text: str) -> str:
    """`text` with the values of secret names and the tokens of webhook URLs masked."""
    text = _JSON.sub(rf'\1"{MASK}"', text)
    return _WEBHOOK_TOKEN.sub(rf"\1{MASK}", _FORM.sub(rf"\1{MASK}", text))


def mask_reason(reason: Reason, mask: Callable[[str], str]) -> Reason:
    """The reason with `mask` applied to every text in it: a text may be the remote system's."""
    return Reason(reason.code, tuple((name, _mask_param(value, mask)) for name, value in reason.params))


def _mask_param(value: Param, mask: Callable[[str], str]) -> Param:
    match value:
        case str():
            return mask(value)
        case Reason():
            return mask_reason(value, mask)
        case tuple():
            return tuple(_mask_param(one, mask) for one in value)
        case _:
            return value


def mask_url(url: str) -> str:
    """A URL without user, password and secret parameters."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return mask_text(urlunsplit((parts.scheme, host, parts.path, parts.query, "")))[:2000]
