"""Text that came from outside as PostgreSQL and UTF-8 can hold it."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def without_unstorable(text: str) -> str:
    """NUL and lone surrogates, which neither PostgreSQL nor UTF-8 can hold, become U+FFFD."""
    if "\x00" not in text:
        try:
            text.encode()  # the quickest way to know
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSTORABLE.sub("\ufffd", text)
