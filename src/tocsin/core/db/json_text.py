"""Values as JSON that PostgreSQL takes, for jsonb columns and for rows that travel in one parameter."""

from __future__ import annotations

import json

import msgspec


def as_json(value: object) -> str:
    """Compact JSON text."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # A lone surrogate that escaped cleaning: kept as U+FFFD rather than losing the row.
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def as_storable_json(value: object) -> str:
    """The same of text that nobody has cleaned: NUL, which jsonb cannot hold, becomes U+FFFD."""
    return as_json(value).replace("\\u0000", "\\ufffd")


def bytes_in_json(value: bytes | None) -> str | None:
    """Bytes as PostgreSQL reads them from JSON into a bytea column."""
    return None if value is None else f"\\x{value.hex()}"
