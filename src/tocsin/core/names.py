"""What a name of an object may be: 1–100 characters, no slash, not all digits. Uniqueness is the table's. Pure."""

from __future__ import annotations

MAX_LENGTH = 100


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
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "A name has no line breaks or control characters in it."
    if name.isdigit():
        return "A name is not digits only, so that it is never mistaken for a number."
    return None
