"""The rules for names of objects: 1–100 characters, no slash, not only digits. The table checks uniqueness. Pure."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 100

#: Unicode categories of control characters, and of the line and paragraph separators.
_CONTROL = frozenset({"Cc", "Zl", "Zp"})


def has_control_character(text: str) -> bool:
    """Returns whether `text` has a control character or line break, which could start a new header, row or log line."""
    return any(unicodedata.category(character) in _CONTROL for character in text)


def name_problem(name: str) -> str | None:
    """Returns the reason why `name` is invalid, as a sentence, or None if it is valid."""
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
