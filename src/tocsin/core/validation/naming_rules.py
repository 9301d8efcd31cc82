"""The rules for names of objects: 1–100 characters, no slash, not only digits. The table checks uniqueness. Pure."""

from __future__ import annotations

import unicodedata

from tocsin.core.reasons import Reason, ReasonType

MAX_LENGTH = 100

_REQUIRED = ReasonType("name.required", "A name is required.")
_SURROUNDING_SPACE = ReasonType("name.surrounding_space", "A name must not begin or end with a space.")
_TOO_LONG = ReasonType("name.too_long", "A name must have at most {maximum} characters, but this one has {length}.")
_SLASH = ReasonType("name.slash", "A name must not contain a slash (/), because names are used in URLs.")
_CONTROL_CHARACTER = ReasonType("name.control_character", "A name must not contain line breaks or control characters.")
_ONLY_DIGITS = ReasonType(
    "name.only_digits", "A name must not consist of digits only, because it could be mistaken for an id."
)

#: Unicode categories of control characters, and of the line and paragraph separators.
_CONTROL = frozenset({"Cc", "Zl", "Zp"})


def has_control_character(text: str) -> bool:
    """Returns whether `text` has a control character or line break, which could start a new header, row or log line."""
    return any(unicodedata.category(character) in _CONTROL for character in text)


def name_problem(name: str) -> Reason | None:
    """Returns the reason why `name` is invalid, or None if it is valid."""
    if not name.strip():
        return _REQUIRED()
    if name != name.strip():
        return _SURROUNDING_SPACE()
    if len(name) > MAX_LENGTH:
        return _TOO_LONG(maximum=MAX_LENGTH, length=len(name))
    if "/" in name:
        return _SLASH()
    if has_control_character(name):
        return _CONTROL_CHARACTER()
    if name.isdigit():
        return _ONLY_DIGITS()
    return None
