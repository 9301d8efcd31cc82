"""JSON of PostgreSQL: of jsonb columns, and of rows passed in one parameter."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def as_json(value: object) -> str:
    """Returns compact JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, TypeError):
        # A lone surrogate that was not sanitized becomes U+FFFD, so that the row is not lost. The other error is for
        # subclasses of str.
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def from_json(data: str | bytes) -> Any:
    """Returns the value that PostgreSQL sent. A number beyond the range of a float becomes infinite."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return json.loads(data)


def as_storable_json(value: object) -> str:
    """Returns JSON for unsanitized text: NUL, which jsonb cannot store, becomes U+FFFD."""
    return as_json(value).replace("\\u0000", "\\ufffd")


def bytes_in_json(value: bytes | None) -> str | None:
    """Returns bytes in the form that PostgreSQL converts from JSON text to bytea."""
    return None if value is None else f"\\x{value.hex()}"
