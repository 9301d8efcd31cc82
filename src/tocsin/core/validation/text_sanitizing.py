"""Makes untrusted text storable in PostgreSQL and encodable as UTF-8."""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def sanitize(text: str) -> str:
    """Replaces NUL and lone surrogates, which neither PostgreSQL nor UTF-8 can represent, with U+FFFD."""
    if "\x00" not in text:
        try:
            text.encode()  # the fastest check
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSTORABLE.sub("\ufffd", text)
