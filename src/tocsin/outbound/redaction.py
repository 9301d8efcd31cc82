"""Removes secrets from recorded requests and responses. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

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


def mask_url(url: str) -> str:
    """A URL without user, password and secret parameters."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return mask_text(urlunsplit((parts.scheme, host, parts.path, parts.query, "")))[:2000]
