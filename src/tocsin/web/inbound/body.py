"""Formats a message body for display. Pure."""

from __future__ import annotations

import json

#: Longer bodies are cut; the API serves the complete body.
MAX_BODY_CHARS = 200_000


def readable(raw: bytes) -> str:
    """Return JSON indented and anything else unchanged. NUL and invalid UTF-8 become replacement characters."""
    text = raw.decode("utf-8", "replace").replace("\x00", "�")
    if len(text) > MAX_BODY_CHARS * 2:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
