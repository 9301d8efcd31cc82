"""A message's bytes as people read them. Pure."""

from __future__ import annotations

import json

#: Bodies longer than this are shown cut; the whole one can be downloaded through the API.
MAX_BODY_CHARS = 200_000


def readable(raw: bytes) -> str:
    """JSON indented, anything else as it came; NUL and broken UTF-8 are made visible."""
    text = raw.decode("utf-8", "replace").replace("\x00", "�")
    if len(text) > MAX_BODY_CHARS * 2:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
