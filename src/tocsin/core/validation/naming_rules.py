"""What a name of an object may be: 1–100 characters, no slash, not all digits. Uniqueness is the table's. Pure."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 100

#: Control characters, those beyond ASCII too, and Unicode's own line and paragraph separators.
_CONTROL = frozenset({"Cc", "Zl", "Zp"})


def has_control_character(text: str) -> bool:
    """Whether a line break or another control character is in it, which would begin a new header, row or log line."""
    return any(unicodedata.category(character) in _CONTROL for character in text)


def problem_with_name(name: str) -> str | None:
    """The sentence that says why `name` cannot be used, or None when it can."""
    if not name.strip():
        return "A name is needed."
    if name != name.strip():
        return "A name does not begin or end with a space."
    if len(name) > MAX_LENGTH:
        return f"A name has at most {MAX_LENGTH} characters; this one has {len(name)}."
    if "/" in name:
        return "A name has no slash (/) in it, because names are used in addresses."
    if has_control_character(name):
        return "A name has no line breaks or control characters in it."
    if name.isdigit():
        return "A name is not digits only, so that it is never mistaken for a number."
    return None
