"""What can be wrong with a value from YAML, the API or a form, and rejections that name its path. Pure.

A path looks like `contact_methods[0].channel`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, ReasonType

#: A problem of the value at a path in a document, such as `members[0].user`.
AT_PATH = ReasonType("field.problem", "{path}: {problem}")

# Problems of a value. Each completes a sentence that begins with its path.
REQUIRED = ReasonType("field.required", "is required.")
NOT_TEXT = ReasonType("field.not_text", "must be text. Put it in quotes.")
UNSTORABLE_CHARACTER = ReasonType("field.unstorable_character", "contains a character that cannot be stored.")
TOO_LONG = ReasonType("field.too_long", "must have at most {maximum} characters, but has {length}.")
CONTROL_CHARACTER = ReasonType("field.control_character", "must not contain a line break or control character.")
NOT_BOOLEAN = ReasonType("field.not_boolean", "must be true or false.")
NOT_A_WHOLE_NUMBER = ReasonType("field.not_a_whole_number", "must be a whole number.")
NOT_IN_RANGE = ReasonType("field.not_in_range", "must be a whole number from {minimum} to {maximum}.")
DURATION_TOO_LONG = ReasonType("field.duration_too_long", "must be at most {maximum}.")
DURATION_TOO_SHORT = ReasonType("field.duration_too_short", "must be at least {minimum}.")
NOT_AFTER_FROM = ReasonType("field.not_after_from", "must be after from.")
NOT_A_TIME_ZONE = ReasonType(
    "field.not_a_time_zone", '"{value}" is not a time zone. Use a name like Europe/Zurich or UTC.'
)
NOT_A_CHOICE = ReasonType("field.not_a_choice", '"{value}" is not one of {choices}.')
NAME_IN_USE = ReasonType("field.name_in_use", 'the name "{name}" is already in use.')
NOT_TEXT_OF_LENGTH = ReasonType("field.not_text_of_length", "must be text of 1 to {maximum} characters.")
DUPLICATE = ReasonType("field.duplicate", '"{value}" is listed twice.')
NOT_A_LIST = ReasonType("field.not_a_list", "must be a list.")
NOT_AN_OBJECT = ReasonType("field.not_an_object", "must be an object with named values.")
TOO_MANY_ENTRIES = ReasonType("field.too_many_entries", "must have at most {maximum} entries, but has {length}.")
UNKNOWN_KEY = ReasonType("field.unknown_key", "unknown key; known keys: {known}.")
MISSPELT_KEY = ReasonType("field.misspelt_key", 'unknown key; did you mean "{suggestion}"?')
NESTED_TOO_DEEPLY = ReasonType("field.nested_too_deeply", "is nested too deeply.")
NOT_A_FINITE_NUMBER = ReasonType("field.not_a_finite_number", "must be a finite number.")
UNSUPPORTED_TYPE = ReasonType(
    "field.unsupported_type", "must be text, a number, true, false, a list or an object with named values."
)

MAX_ITEMS = 1000


def unknown_key(key: str, known: Collection[str]) -> Reason:
    """Returns what is wrong with a key that is not among the `known`, with the one that was probably meant."""
    suggestions = get_close_matches(key[:100], list(known), n=1)
    return MISSPELT_KEY(suggestion=suggestions[0]) if suggestions else UNKNOWN_KEY(known=tuple(sorted(known)))


def raise_all(problems: Iterable[Rejected]) -> None:
    """Raises the only error, or all of them as RejectedAll. Does nothing if there are none."""
    errors = list(problems)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise RejectedAll(errors)


def is_zone(name: str) -> bool:
    """Returns whether `name` is a time zone of the tz database."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # ZoneInfo raises ZoneInfoNotFoundError (a KeyError), ValueError for a path, and OSError for a directory.
        return False
    return True


#: Maximum nesting. Real configuration is never deeper.
MAX_DEPTH = 60


def require_storable(value: object, path: str) -> None:
    """Raises Rejected, naming the place, for values that jsonb cannot store: NUL, lone surrogates, infinity."""
    _storable(value, path, 0)


def _storable(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise rejected_at(path, NESTED_TOO_DEEPLY())
    match value:
        case str() if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise rejected_at(path, UNSTORABLE_CHARACTER())
        case float() if not math.isfinite(value):
            raise rejected_at(path, NOT_A_FINITE_NUMBER())
        case Mapping():
            for key, item in value.items():
                _storable(str(key), path, depth + 1)
                _storable(item, f"{path}.{key}", depth + 1)
        case list() | tuple():
            for index, item in enumerate(value):
                _storable(item, f"{path}[{index}]", depth + 1)
        case None | str() | int() | float():
            pass
        case _:
            raise rejected_at(path, UNSUPPORTED_TYPE())


def rejected_at(path: str, problem: Reason, code: str = "invalid") -> Rejected:
    """Returns the rejection of the value at `path`. `problem` completes a sentence that begins with it."""
    return Rejected(code, AT_PATH(path=path[:200], problem=problem), path)
