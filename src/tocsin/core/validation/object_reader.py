"""Reads and validates one object from YAML, the API or a form: every key is typed, every error has its place.

A place looks like `contact_methods[0].channel`. Errors are collected, so that a user can fix all of them at once. Null
counts as absent. Writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from zoneinfo import ZoneInfo

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.naming_rules import has_control_character, name_problem

#: A problem of the value at a path in a document, such as `members[0].user`.
AT_PATH = ReasonType("field.problem", "{path}: {problem}")

# Problems of a value. Each completes a sentence that begins with its path.
REQUIRED = ReasonType("field.required", "is required.")
NOT_TEXT = ReasonType("field.not_text", "must be text. Put it in quotes.")
UNSTORABLE_CHARACTER = ReasonType("field.unstorable_character", "contains a character that cannot be stored.")
TOO_LONG = ReasonType("field.too_long", "must have at most {maximum} characters, but has {length}.")
CONTROL_CHARACTER = ReasonType("field.control_character", "must not contain a line break or control character.")
NOT_BOOLEAN = ReasonType("field.not_boolean", "must be true or false.")
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


class ObjectReader:
    """Reads the keys of one mapping. `reject_unknown_keys` rejects the keys that were never read."""

    __slots__ = ("_known_keys", "_path", "_problems", "_values")

    def __init__(self, value: object, path: str = "", problems: list[Rejected] | None = None) -> None:
        self._path = path
        self._problems: list[Rejected] = [] if problems is None else problems
        self._known_keys: set[str] = set()
        self._values: dict[str, object] = {}
        if isinstance(value, Mapping):
            self._values = {str(key): item for key, item in value.items() if item is not None}
        else:
            self._add("invalid", path, NOT_AN_OBJECT())

    def path(self, key: str) -> str:
        """Returns the full path of `key`."""
        return f"{self._path}.{key}" if self._path else key

    def has(self, key: str) -> bool:
        """Returns whether the key is present and not null."""
        self._known_keys.add(key)
        return key in self._values

    def raw(self, key: str, default: object = None) -> object:
        """Returns the value unchanged."""
        return self._values[key] if self.has(key) else default

    def text(self, key: str, default: str = "", *, required: bool = False, max_length: int = 200) -> str:
        """Returns a text without surrounding spaces, of at most `max_length` characters."""
        if not self.has(key):
            if required:
                self.add_error(key, REQUIRED(), "missing")
            return default
        value = self._values[key]
        if not isinstance(value, str):
            self.add_error(key, NOT_TEXT())
            return default
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            self.add_error(key, UNSTORABLE_CHARACTER())
            return default
        value = value.strip()
        if required and not value:
            self.add_error(key, REQUIRED(), "missing")
        if len(value) > max_length:
            self.add_error(key, TOO_LONG(maximum=max_length, length=len(value)))
            return default
        return value

    def line(self, key: str, default: str = "", *, required: bool = False, max_length: int = 200) -> str:
        """Returns a single-line text, such as a label or a person's name, without control characters."""
        value = self.text(key, default, required=required, max_length=max_length)
        if has_control_character(value):
            self.add_error(key, CONTROL_CHARACTER())
        return value

    def name(self, key: str = "name") -> str:
        """Returns a required name that follows `core.validation.naming_rules`."""
        value = self.text(key, required=True, max_length=1000)
        if value and (problem := name_problem(value)):
            self.add_error(key, problem, "invalid_name")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """Returns a boolean."""
        value = self.raw(key, default)
        if not isinstance(value, bool):
            self.add_error(key, NOT_BOOLEAN())
            return default
        return value

    def integer(self, key: str, default: int, *, minimum: int = 0, maximum: int = 1_000_000) -> int:
        """Returns an integer from `minimum` to `maximum`."""
        value = self.raw(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            self.add_error(key, NOT_IN_RANGE(minimum=minimum, maximum=maximum))
            return default
        return value

    def duration(self, key: str, default: timedelta, *, maximum: timedelta = durations.MAX_DURATION) -> timedelta:
        """Returns a duration, written like `90s` or `1h30m`."""
        if not self.has(key):
            return default
        try:
            value = durations.parse(self._values[key], self.path(key))
        except Rejected as problem:
            self._problems.append(problem)
            return default
        if value > maximum:
            self.add_error(key, DURATION_TOO_LONG(maximum=maximum))
            return default
        return value

    def time_zone(self, key: str = "time_zone", default: str = "UTC") -> str:
        """Returns the name of a time zone, such as Europe/Zurich."""
        value = self.text(key, default, max_length=64)
        if not is_zone(value):
            self.add_error(key, NOT_A_TIME_ZONE(value=value), "invalid_time_zone")
            return default
        return value

    def one_of[E: StrEnum](self, key: str, kind: type[E], default: E) -> E:
        """Returns a member of the enumeration `kind`."""
        value = self.text(key, default)
        try:
            return kind(value)
        except ValueError:
            self.add_error(key, NOT_A_CHOICE(value=value, choices=tuple(kind)))
            return default

    def texts(self, key: str, *, max_length: int = 100) -> tuple[str, ...]:
        """Returns a list of distinct, non-empty texts."""
        items: list[str] = []
        for index, value in enumerate(self._list(key)):
            if not isinstance(value, str) or not value.strip() or len(value) > max_length:
                self._add("invalid", f"{self.path(key)}[{index}]", NOT_TEXT_OF_LENGTH(maximum=max_length))
            elif value.strip() in items:
                self._add("invalid", f"{self.path(key)}[{index}]", DUPLICATE(value=value))
            else:
                items.append(value.strip())
        return tuple(items)

    def nested(self, key: str) -> ObjectReader | None:
        """Returns a reader for the object under `key`, or None if it is absent."""
        return ObjectReader(self._values[key], self.path(key), self._problems) if self.has(key) else None

    def nested_list(self, key: str) -> list[ObjectReader]:
        """Returns a reader for each object in the list under `key`."""
        return [
            ObjectReader(value, f"{self.path(key)}[{index}]", self._problems)
            for index, value in enumerate(self._list(key))
        ]

    def add_error(self, key: str, problem: Reason, code: str = "invalid") -> None:
        """Records an error about `key`. `problem` completes a sentence that begins with the key's place."""
        self._add(code, self.path(key), problem)

    def add_rejection(self, problem: Rejected) -> None:
        """Records an error that was found elsewhere and names its own place."""
        self._problems.extend(problem.problems if isinstance(problem, RejectedAll) else [problem])

    def reject_unknown_keys(self) -> None:
        """Records an error for each key that was never read."""
        for key in self._values:
            if key not in self._known_keys:
                suggestions = get_close_matches(key, self._known_keys, n=1)
                problem = (
                    MISSPELT_KEY(suggestion=suggestions[0])
                    if suggestions
                    else UNKNOWN_KEY(known=tuple(sorted(self._known_keys)))
                )
                self._add("unknown_key", self.path(key), problem)

    def raise_errors(self) -> None:
        """Raises Rejected, or RejectedAll, if an error was recorded in this object or a nested one."""
        raise_all(self._problems)

    def finish(self) -> None:
        """Calls `reject_unknown_keys` and `raise_errors`, for the outermost object."""
        self.reject_unknown_keys()
        self.raise_errors()

    def _list(self, key: str) -> list[object]:
        value = self.raw(key, [])
        if not isinstance(value, list | tuple):
            self.add_error(key, NOT_A_LIST())
            return []
        if len(value) > MAX_ITEMS:
            self.add_error(key, TOO_MANY_ENTRIES(maximum=MAX_ITEMS, length=len(value)))
            return []
        return list(value)

    def _add(self, code: str, path: str, problem: Reason) -> None:
        self._problems.append(rejected_at(path, problem, code) if path else Rejected(code, problem))


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
