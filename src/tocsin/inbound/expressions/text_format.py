"""How values and reasons are written for people: quoted, on one line, and cut to what may be stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tocsin.core.validation.text_sanitizing import without_unstorable

MAX_VALUE_CHARS: Final = 60  # characters of each value in a reason


def quoted(text: str) -> str:
    """A value as reasons show it: in quotes, on one line, at most 60 characters."""
    if len(text) > MAX_VALUE_CHARS:
        text = f"{text[: MAX_VALUE_CHARS - 1]}…"
    return f'"{text}"' if text.isprintable() else f'"{" ".join(without_unstorable(text).split())}"'


def listed(texts: Sequence[str]) -> str:
    """Up to five values with commas between them."""
    shown = ", ".join(text[:MAX_VALUE_CHARS] for text in texts[:5])
    return f"{shown}, …" if len(texts) > 5 else shown


def cut_bytes(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8, ending in … where it was cut."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 3].decode("utf-8", "ignore").rstrip() + "…"
