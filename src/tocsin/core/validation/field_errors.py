"""What can be wrong with a value from YAML, the API or a form, and rejections that name its path. Pure.

A path looks like `contact_methods[0].channel`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from tocsin.core import reasons
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, Text, sentence

# ---------- naming rules
# The rules for names of objects: 1–100 characters, no slash, not only digits. The table checks uniqueness. Pure.


MAX_LENGTH = 100

_REQUIRED = Text("A name is required.")
_TOO_LONG = Text("A name must have at most {maximum} characters, but this one has {length}.")

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
        return sentence("A name must not begin or end with a space.")
    if len(name) > MAX_LENGTH:
        return _TOO_LONG(maximum=MAX_LENGTH, length=len(name))
    if "/" in name:
        return sentence("A name must not contain a slash (/), because names are used in URLs.")
    if has_control_character(name):
        return sentence("A name must not contain line breaks or control characters.")
    if name.isdigit():
        return sentence("A name must not consist of digits only, because it could be mistaken for an id.")
    return None


# ---------- durations
# Parses and formats durations: the short form (`90s`, `5m`, `1h30m`, `1w`) and the form used in sentences. Pure.


#: A longer duration is a typing error: nothing in Tocsin waits for more than ten years.
MAX_DURATION = timedelta(days=3650)


_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_PARTS = re.compile(r"\s*".join(["", *(rf"(?:(\d{{1,9}})\s*{unit})?" for unit in _UNITS), ""]), re.ASCII)

#: For a JSON schema, what `parse` reads.
PATTERN = r"^\s*(0|" + r"\s*".join(rf"([0-9]{{1,9}}\s*{unit})?" for unit in _UNITS) + r")\s*$"


#: Formats a duration for a sentence, in English.
describe = reasons.english_duration


def parse(text: object, path: str | None = None) -> timedelta:
    """Parses whole numbers with the units w, d, h, m and s, largest first. `0` needs no unit.

    Raises `Rejected("invalid_duration")` for the field `path`.
    """
    stripped = str(text).strip() if isinstance(text, str | int) and not isinstance(text, bool) else ""
    if stripped == "0":
        return timedelta()
    match = _PARTS.fullmatch(stripped)
    if not stripped or match is None:
        raise Rejected(
            "invalid_duration",
            sentence('"{text}" is not a duration. Use a format like 90s, 5m, 1h30m or 1w.', text=str(text)),
            path,
        )
    amounts = zip(match.groups(), _UNITS.values(), strict=True)
    seconds = sum(int(amount) * int(unit.total_seconds()) for amount, unit in amounts if amount is not None)
    if seconds > MAX_DURATION.total_seconds():
        raise Rejected(
            "invalid_duration",
            sentence('"{text}" is too long. A duration can be ten years at most.', text=stripped),
            path,
        )
    return timedelta(seconds=seconds)


def write(duration: timedelta) -> str:
    """Returns the shortest form that `parse` reads as `duration`, in whole seconds. Only exact multiples use weeks."""
    seconds = int(duration.total_seconds())
    if seconds < 0:
        raise ValueError("a negative span has no written form")
    if seconds == 0:
        return "0m"
    if seconds % 604_800 == 0:
        return f"{seconds // 604_800}w"
    return "".join(f"{amount}{unit}" for amount, unit in reasons.split_seconds(seconds))


#: A problem of the value at a path in a document, such as `members[0].user`.
AT_PATH = Text("{path}: {problem}")

# Problems of a value. Each completes a sentence that begins with its path.
REQUIRED = Text("is required.")
NOT_TEXT = Text("must be text. Put it in quotes.")
UNSTORABLE_CHARACTER = Text("contains a character that cannot be stored.")
TOO_LONG = Text("must have at most {maximum} characters, but has {length}.")
CONTROL_CHARACTER = Text("must not contain a line break or control character.")
NOT_BOOLEAN = Text("must be true or false.")
NOT_A_WHOLE_NUMBER = Text("must be a whole number.")
DURATION_TOO_LONG = Text("must be at most {maximum}.")
DURATION_TOO_SHORT = Text("must be at least {minimum}.")
NOT_AFTER_FROM = Text("must be after from.")
NOT_A_TIME_ZONE = Text('"{value}" is not a time zone. Use a name like Europe/Zurich or UTC.')
NOT_A_CHOICE = Text('"{value}" is not one of {choices}.')
NAME_IN_USE = Text('the name "{name}" is already in use.')
NOT_TEXT_OF_LENGTH = Text("must be text of 1 to {maximum} characters.")
DUPLICATE = Text('"{value}" is listed twice.')
NOT_A_LIST = Text("must be a list.")
NOT_AN_OBJECT = Text("must be an object with named values.")
TOO_MANY_ENTRIES = Text("must have at most {maximum} entries, but has {length}.")
UNKNOWN_KEY = Text("unknown key; known keys: {known}.")
NESTED_TOO_DEEPLY = Text("is nested too deeply.")

MAX_ITEMS = 1000


def unknown_key(key: str, known: Collection[str]) -> Reason:
    """Returns what is wrong with a key that is not among the `known`, with the one that was probably meant."""
    suggestions = get_close_matches(key[:100], list(known), n=1)
    return (
        sentence('unknown key; did you mean "{suggestion}"?', suggestion=suggestions[0])
        if suggestions
        else UNKNOWN_KEY(known=tuple(sorted(known)))
    )


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
            raise rejected_at(path, sentence("must be a finite number."))
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
            raise rejected_at(
                path, sentence("must be text, a number, true, false, a list or an object with named values.")
            )


def rejected_at(path: str, problem: Reason, code: str = "invalid") -> Rejected:
    """Returns the rejection of the value at `path`. `problem` completes a sentence that begins with it."""
    return Rejected(code, AT_PATH(path=path[:200], problem=problem), path)


# ---------- reasons
# Why a change of users, groups and absences is rejected, where several modules say so.


# Each completes a sentence that begins with the path of the value.
NO_SUCH_USER = Text('no user named "{name}".')
NO_SUCH_GROUP = Text('no group named "{name}".')
NO_SUCH_CONTACT_METHOD = Text('no contact method named "{label}".')
NOT_AN_EMAIL_ADDRESS = Text('"{address}" is not an email address.')

#: An absence that refers to a user or group.
ABSENCE_REFERENCE = Text("the absence of {username}")


# ---------- night hours
# The night hours, by local time: what counts as a page at night, in reports, backtests and on Home. Pure.


_FORMAT = re.compile(r"(([01]\d|2[0-3]):[0-5]\d)-(([01]\d|2[0-3]):[0-5]\d)")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NightHours:
    """From `start` to `end`, which is on the next day unless it is later. Written 22:00-07:00."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> NightHours:
        """Parses `HH:MM-HH:MM`. Raises ValueError for another format, and for hours without a length."""
        match = _FORMAT.fullmatch(text)
        if match is None or match[1] == match[3]:
            raise ValueError(text)
        return cls(time.fromisoformat(match[1]), time.fromisoformat(match[3]))

    def last_night(self, now: datetime) -> tuple[datetime, datetime]:
        """Start and end, by local time in the zone of `now`, of the night that ends on its day."""
        ends_at = datetime.combine(now, self.end, now.tzinfo)
        starts_at = datetime.combine(now, self.start, now.tzinfo)
        return (starts_at if starts_at < ends_at else starts_at - _DAY), ends_at

    def includes(self, at: datetime, zone: tzinfo) -> bool:
        """Whether it is night at that moment in that time zone."""
        return self.includes_time(at.astimezone(zone).time())

    def includes_time(self, local: time) -> bool:
        """Whether it is night at that time of day."""
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end
