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
from tocsin.core.validation import durations
from tocsin.core.validation.naming_rules import has_control_character, name_problem

MAX_ITEMS = 1000


class ObjectReader:
    """Reads the keys of one mapping. `done` rejects the keys that were never read."""

    __slots__ = ("_asked", "_place", "_problems", "_values")

    def __init__(self, value: object, place: str = "", problems: list[Rejected] | None = None) -> None:
        self._place = place
        self._problems: list[Rejected] = [] if problems is None else problems
        self._asked: set[str] = set()
        self._values: dict[str, object] = {}
        if isinstance(value, Mapping):
            self._values = {str(key): held for key, held in value.items() if held is not None}
        else:
            self._add("invalid", place, "must be an object with named values.")

    def place(self, key: str) -> str:
        """Returns the full path of `key`."""
        return f"{self._place}.{key}" if self._place else key

    def has(self, key: str) -> bool:
        """Returns whether the key is present and not null."""
        self._asked.add(key)
        return key in self._values

    def raw(self, key: str, default: object = None) -> object:
        """Returns the value unchanged."""
        return self._values[key] if self.has(key) else default

    def text(self, key: str, default: str = "", *, required: bool = False, longest: int = 200) -> str:
        """Returns a text without surrounding spaces, of at most `longest` characters."""
        if not self.has(key):
            if required:
                self.refuse(key, "is needed.", "missing")
            return default
        value = self._values[key]
        if not isinstance(value, str):
            self.refuse(key, "must be text; put it in quotes.")
            return default
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            self.refuse(key, "has a character in it that cannot be stored.")
            return default
        value = value.strip()
        if required and not value:
            self.refuse(key, "is needed.", "missing")
        if len(value) > longest:
            self.refuse(key, f"has at most {longest} characters; this one has {len(value)}.")
            return default
        return value

    def line(self, key: str, default: str = "", *, required: bool = False, longest: int = 200) -> str:
        """Returns a single-line text, such as a label or a person's name, without control characters."""
        value = self.text(key, default, required=required, longest=longest)
        if has_control_character(value):
            self.refuse(key, "has a line break or control character in it.")
        return value

    def name(self, key: str = "name") -> str:
        """Returns a required name that follows `core.validation.naming_rules`."""
        value = self.text(key, required=True, longest=1000)
        if value and (problem := name_problem(value)):
            self.refuse(key, problem, "invalid_name")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Returns a boolean."""
        value = self.raw(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "must be true or false.")
            return default
        return value

    def whole(self, key: str, default: int, *, least: int = 0, most: int = 1_000_000) -> int:
        """Returns an integer from `least` to `most`."""
        value = self.raw(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(key, f"must be a whole number from {least} to {most}.")
            return default
        return value

    def span(self, key: str, default: timedelta, *, longest: timedelta = durations.MAX_DURATION) -> timedelta:
        """Returns a duration, written like `90s` or `1h30m`."""
        if not self.has(key):
            return default
        try:
            value = durations.parse(self._values[key], self.place(key))
        except Rejected as problem:
            self._problems.append(problem)
            return default
        if value > longest:
            self.refuse(key, f"must be at most {durations.describe(longest)}.")
            return default
        return value

    def zone(self, key: str = "time_zone", default: str = "UTC") -> str:
        """Returns the name of a time zone, such as Europe/Zurich."""
        value = self.text(key, default, longest=64)
        if not is_zone(value):
            self.refuse(key, f'"{value}" is not a time zone; write one like Europe/Zurich or UTC.', "invalid_time_zone")
            return default
        return value

    def one_of[E: StrEnum](self, key: str, kind: type[E], default: E) -> E:
        """Returns a member of the enumeration `kind`."""
        value = self.text(key, default)
        try:
            return kind(value)
        except ValueError:
            self.refuse(key, f'"{value}" is not one of {", ".join(kind)}.')
            return default

    def texts(self, key: str, *, longest: int = 100) -> tuple[str, ...]:
        """Returns a list of distinct, non-empty texts."""
        found: list[str] = []
        for number, value in enumerate(self._list(key)):
            if not isinstance(value, str) or not value.strip() or len(value) > longest:
                self._add("invalid", f"{self.place(key)}[{number}]", f"must be text of 1 to {longest} characters.")
            elif value.strip() in found:
                self._add("invalid", f"{self.place(key)}[{number}]", f'"{value}" is there twice.')
            else:
                found.append(value.strip())
        return tuple(found)

    def spec(self, key: str) -> ObjectReader | None:
        """Returns a reader for the object under `key`, or None if it is absent."""
        return ObjectReader(self._values[key], self.place(key), self._problems) if self.has(key) else None

    def specs(self, key: str) -> list[ObjectReader]:
        """Returns a reader for each object in the list under `key`."""
        return [
            ObjectReader(value, f"{self.place(key)}[{number}]", self._problems)
            for number, value in enumerate(self._list(key))
        ]

    def refuse(self, key: str, problem: str, code: str = "invalid") -> None:
        """Records an error about `key`. `problem` completes a sentence that begins with the key's place."""
        self._add(code, self.place(key), problem)

    def note(self, problem: Rejected) -> None:
        """Records an error that was found elsewhere and names its own place."""
        self._problems.extend(problem.problems if isinstance(problem, RejectedAll) else [problem])

    def done(self) -> None:
        """Records an error for each key that was never read."""
        for key in self._values:
            if key not in self._asked:
                near = get_close_matches(key, self._asked, n=1)
                hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(self._asked))}."
                self._add("unknown_key", self.place(key), f"unknown key; {hint}")

    def check(self) -> None:
        """Raises Rejected, or RejectedAll, if an error was recorded in this object or a nested one."""
        raise_all(self._problems)

    def finish(self) -> None:
        """Calls `done` and `check`, for the outermost object."""
        self.done()
        self.check()

    def _list(self, key: str) -> list[object]:
        value = self.raw(key, [])
        if not isinstance(value, list | tuple):
            self.refuse(key, "must be a list.")
            return []
        if len(value) > MAX_ITEMS:
            self.refuse(key, f"has at most {MAX_ITEMS} entries; this one has {len(value)}.")
            return []
        return list(value)

    def _add(self, code: str, place: str, problem: str) -> None:
        self._problems.append(Rejected(code, f"{place}: {problem}" if place else problem, place or None))


def raise_all(problems: Iterable[Rejected]) -> None:
    """Raises the only error, or all of them as RejectedAll. Does nothing if there are none."""
    found = list(problems)
    if len(found) == 1:
        raise found[0]
    if found:
        raise RejectedAll(found)


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


def require_storable(value: object, place: str) -> None:
    """Raises Rejected, naming the place, for values that jsonb cannot store: NUL, lone surrogates, infinity."""
    _storable(value, place, 0)


def _storable(value: object, place: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Rejected("invalid", f"{place[:200]}: is nested too deeply.", place)
    match value:
        case str() if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise Rejected("invalid", f"{place}: has a character in it that cannot be stored.", place)
        case float() if not math.isfinite(value):
            raise Rejected("invalid", f"{place}: is not a number that can be stored.", place)
        case Mapping():
            for key, held in value.items():
                _storable(str(key), place, depth + 1)
                _storable(held, f"{place}.{key}", depth + 1)
        case list() | tuple():
            for number, held in enumerate(value):
                _storable(held, f"{place}[{number}]", depth + 1)
        case None | str() | int() | float():
            pass
        case _:
            raise Rejected("invalid", f"{place}: is not text, a number, true, false, a list or named values.", place)
