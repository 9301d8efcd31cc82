"""Phone numbers in the one form that every provider takes (E.164). Knows no country's own rules."""

from __future__ import annotations

import re

from tocsin.core.errors import Rejected

_SEPARATORS = re.compile(r"[\s().\-/\u00a0\u2010-\u2013]")
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")


def phone_number(text: str) -> str:
    """`text` as "+41790000001". Raises Rejected("invalid_address") when it is no number with its country code."""
    written = _SEPARATORS.sub("", text.strip().replace("(0)", ""))
    if written.startswith("00"):
        written = f"+{written[2:]}"
    if not written.isascii() or not _NUMBER.fullmatch(written):
        raise Rejected(
            "invalid_address",
            f'"{text[:50]}" is not a phone number with its country code; write it like +41 79 000 00 01.',
        )
    return written
