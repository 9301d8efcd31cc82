"""Formats values and reasons for users: quoted, on one line, and cut to the length that is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tocsin.core.validation.text_sanitizing import sanitize

MAX_VALUE_CHARS: Final = 60  # characters of each value in a reason


def quote(text: str) -> str:
    """Returns a value for use in a reason: in quotes, on one line, at most 60 characters."""
    return f'"{one_line(text)}"'


def one_line(text: str) -> str:
    """Returns a value on one line, at most 60 characters."""
    if len(text) > MAX_VALUE_CHARS:
        text = f"{text[: MAX_VALUE_CHARS - 1]}…"
    return text if text.isprintable() else " ".join(sanitize(text).split())


def join_list(texts: Sequence[str]) -> str:
    """Returns up to five values separated by commas."""
    shown = ", ".join(text[:MAX_VALUE_CHARS] for text in texts[:5])
    return f"{shown}, …" if len(texts) > 5 else shown


def cut_bytes(text: str, limit: int) -> str:
    """Returns `text` cut to at most `limit` bytes of UTF-8, ending in … if cut."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 3].decode("utf-8", "ignore").rstrip() + "…"
