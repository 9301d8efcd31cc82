"""JSON objects that senders put into a text: in a form field, or in the message of an envelope. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from tocsin.catalogue.hooks import Payload

#: A text that is nested deeper is kept as text.
_MAX_DEPTH: Final = 50


def decode_object(text: object) -> Payload | None:
    """Returns the JSON object in a text; None for any other text or value."""
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) and _is_shallow(decoded) else None


def _is_shallow(value: dict[str, object]) -> bool:
    level: list[dict[str, object] | list[object]] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False
