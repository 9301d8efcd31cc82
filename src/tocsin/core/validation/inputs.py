"""Values from outside: what can be wrong with one, rejections that name its path, texts that can be stored, and paths
into a payload. Pure.

A path looks like `contact_methods[0].channel`.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
import string
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from difflib import get_close_matches
from itertools import islice
from typing import Final
from urllib.parse import quote
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


def parse_duration(text: object, path: str | None = None) -> timedelta:
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


def write_duration(duration: timedelta) -> str:
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


# ---------- times of day


class InvalidTime(ValueError):
    """A text that is not a weekday or time of day, with the reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def parse_time(text: str) -> int:
    """Parses `HH:MM`, up to 24:00, to minutes since midnight. Raises InvalidTime."""
    hour, colon, minute = text.partition(":")
    if colon and len(hour) in (1, 2) and len(minute) == 2 and (hour + minute).isascii() and (hour + minute).isdigit():
        total = int(hour) * 60 + int(minute)
        if int(minute) < 60 and total <= 24 * 60:
            return total
    raise InvalidTime(sentence('"{value}" is not a time of day; write it like "08:00".', value=text))


def format_time(number: int) -> str:
    return f"{number // 60:02}:{number % 60:02}"


# ---------- text sanitizing
# Makes untrusted text storable in PostgreSQL and encodable as UTF-8, and logins comparable.


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


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


def fold_login(login: str) -> str:
    """Returns a username or email address in the form in which two are compared: only A to Z are lowered.

    By Unicode's rules a dotless i, a long s or a Kelvin sign would make somebody else's login of a new one. The lookup
    `login` (`User.objects.filter(email__login=…)`) and `lower(… COLLATE "C")` do the same in the database.
    """
    return login.translate(_LOWER)


# ---------- csv text
# CSV that is safe to open in a spreadsheet. A cell that looks like a formula is written with a leading apostrophe,
# which is removed when read. Pure.


#: First characters by which a spreadsheet recognizes a formula; the full-width ones only in some languages. See
#: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LEADING = ("\t", "\r", "\n")
_MARK = "'"


def write_csv(rows: Iterable[Iterable[object]]) -> str:
    """Returns the rows as comma-separated CSV. None is an empty cell; numbers, also negative ones, stay numbers."""
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return output.getvalue()


def read_csv(text: str) -> Iterator[list[str]]:
    """Yields the rows of a CSV, with cells stripped and without the apostrophes that `write` added.

    The delimiter is the comma, semicolon or tab that is most frequent in the first line. Raises Rejected, naming the
    row.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            yield [_plain(cell.strip()) for cell in row]
    except csv.Error as error:
        raise Rejected(
            "invalid", sentence("Row {row} cannot be read: {error}.", row=str(reader.line_num), error=str(error))
        ) from None


def _cell(value: object) -> object:
    return f"{_MARK}{value}" if isinstance(value, str) and _is_formula(value) else value


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith(_MARK) and _is_formula(cell[1:]) else cell


def _is_formula(cell: str) -> bool:
    # A spreadsheet ignores leading spaces, no-break spaces as well.
    return cell.startswith(_LEADING) or cell.lstrip().startswith(_FORMULA)


# ---------- payload paths
# Paths into a payload: `ticket^status^name`. Compiled once; reading a path never raises.
#
# `^` separates segments, `^^` is a literal `^`, a number indexes a list (or is an object's key), `*` collects a list.
# Keys match exactly first, then ignoring case. A missing value is MISSING.


PATH_NOT_TEXT = Text("a path is text such as ticket^status^name")
_PATH_TOO_LONG = Text("a path has at most {maximum} characters; this one has {length}")
_BEGINS_WITH_SEPARATOR = Text('the path "{path}" begins with ^')
_ENDS_WITH_SEPARATOR = Text('the path "{path}" ends with ^')

MAX_PATH: Final = 500
MAX_SEGMENTS: Final = 50
#: Limits on the items that `*` examines and the values that it collects, to bound the time per message.
MAX_INSPECTED: Final = 10_000
MAX_COLLECTED: Final = 1000


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


#: The result for a path without a value (JSON's null is a value: None).
MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Path:
    """A path as written, its segments, and `read(payload)` → the value there, or MISSING."""

    text: str
    segments: tuple[str, ...]
    read: Callable[[object], object]

    def __call__(self, payload: object) -> object:
        return self.read(payload)


def compile_path(text: str, field_path: str = "path") -> Path:
    """Compiles a path. Raises Rejected("invalid_path") with `field_path` and the position."""
    segments = split_path(text, field_path)
    return Path(text, segments, _reader(segments))


def read_path(payload: object, text: str) -> object:
    """Returns the value at a path; None if there is none, and for a text that is no path."""
    try:
        value = compile_path(text).read(payload)
    except Rejected:
        return None
    return None if value is MISSING else value


def split_path(text: str, field_path: str = "path") -> tuple[str, ...]:
    """Splits a path into segments. `^^` is read from the left, so it belongs to the segment before a separator."""
    if not isinstance(text, str):
        raise _rejection(field_path, PATH_NOT_TEXT())
    if not text.strip():
        raise _rejection(field_path, sentence("the path is empty"))
    if len(text) > MAX_PATH:
        raise _rejection(field_path, _PATH_TOO_LONG(maximum=MAX_PATH, length=len(text)))
    segments: list[str] = []
    current = ""
    position = 0
    while position <= len(text):
        if text.startswith("^^", position):
            current += "^"
            position += 2
        elif position == len(text) or text[position] == "^":
            if not current:
                # Not between two separators: these are one, taken literally.
                problem = _BEGINS_WITH_SEPARATOR if position == 0 else _ENDS_WITH_SEPARATOR
                raise _rejection(field_path, problem(path=text))
            segments.append(current)
            current = ""
            position += 1
        else:
            current += text[position]
            position += 1
    if len(segments) > MAX_SEGMENTS:
        raise _rejection(field_path, sentence("a path has at most {maximum} segments", maximum=MAX_SEGMENTS))
    return tuple(segments)


def _rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_path", AT_PATH(path=field_path, problem=problem), field_path)


def join_path(keys: Iterable[str | int]) -> str | None:
    """Returns the path that leads through `keys`, or None if there is none: an empty key, or a key after the first that
    starts with ^, cannot be written."""
    segments: list[str] = []
    for key in keys:
        segment = str(key)
        if not segment or (segments and segment.startswith("^")):
            return None
        segments.append(segment.replace("^", "^^"))
    return "^".join(segments) if segments else None


def _reader(segments: tuple[str, ...]) -> Callable[[object], object]:
    if "*" in segments:
        return _collector(segments)
    steps = tuple(_Segment(segment) for segment in segments)

    def read(value: object) -> object:
        for step in steps:
            if type(value) is dict:
                value = step.in_object(value)
            elif type(value) is list and step.index is not None:
                value = value[step.index] if step.index < len(value) else MISSING
            else:
                return MISSING
        return value

    return read


class _Segment:
    __slots__ = ("folded", "index", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.folded = key.casefold()
        self.index = index_of(key)

    def in_object(self, value: dict[str, object]) -> object:
        exact_match = value.get(self.key, MISSING)
        if exact_match is MISSING and (key := find_key(value, self.folded)) is not None:
            return value[key]
        return exact_match


def index_of(segment: str) -> int | None:
    """Returns the list index that a segment spells, or None."""
    return int(segment) if len(segment) < 10 and segment.isascii() and segment.isdigit() else None


def find_key(value: dict[str, object], folded: str) -> str | None:
    """Returns the first key of an object that equals `folded` ignoring case."""
    for key in value:
        if type(key) is str and key.casefold() == folded:
            return key
    return None


def _collector(segments: tuple[str, ...]) -> Callable[[object], object]:
    star_index = segments.index("*")
    before = _reader(segments[:star_index]) if star_index else _identity
    after = _reader(segments[star_index + 1 :]) if star_index + 1 < len(segments) else _identity
    flatten = "*" in segments[star_index + 1 :]

    def read(value: object) -> object:
        collected: list[object] = []
        for item in _items(before(value)):
            item_value = after(item)
            if flatten and type(item_value) is list:
                collected.extend(item_value)
            elif item_value is not MISSING:
                collected.append(item_value)
            if len(collected) >= MAX_COLLECTED:
                break
        return collected[:MAX_COLLECTED] or MISSING

    return read


def _items(value: object) -> Iterable[object]:
    if type(value) is list:
        return islice(value, MAX_INSPECTED)
    if type(value) is dict:
        return (value["*"],) if "*" in value else islice(value.values(), MAX_INSPECTED)
    return ()


def _identity(value: object) -> object:
    return value


# ---------- text templates
# Text templates: `<subject>` is replaced by the alert's subject, `<custom.ticket>` by a custom field. Pure.
#
# Unknown names are left as they are, so that HTML and comparisons survive. A tag or custom field that the alert does
# not have becomes empty. `<<` is a literal `<`.


_REFERENCE = re.compile(r"<<|<([A-Za-z_][\w.^ -]{0,80})>")

#: Prefixes of values that only some alerts have.
_OPTIONAL_PREFIXES = ("tag.", "custom.")

MAX_TEMPLATE_CHARS = 20_000


def render(template: str, values: Mapping[str, object], escape: Callable[[str], str] | None = None) -> str:
    """Renders the template; `escape` adapts each value to the surrounding text."""

    def replace_reference(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "<"
        if name not in values and not name.startswith(_OPTIONAL_PREFIXES):
            return match.group(0)
        text = describe_template(values.get(name))
        return escape(text) if escape is not None else text

    return _REFERENCE.sub(replace_reference, template)


def references(template: str) -> frozenset[str]:
    """The names that a template uses."""
    return frozenset(name for name in _REFERENCE.findall(template) if name)


def in_json(text: str) -> str:
    """Escapes a value for use inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def in_xml(text: str) -> str:
    """Escapes a value for XML or HTML, dropping control characters (XML 1.0, section 2.2)."""
    return html.escape("".join(character for character in text if character >= " " or character in "\t\n\r"))


def in_url(text: str) -> str:
    """Escapes a value for a URL's path or query; bare dots would be resolved as path segments (RFC 3986, 5.2.4)."""
    return quote(text, safe="") if text not in (".", "..") else text.replace(".", "%2E")


def in_header(text: str) -> str:
    """Makes a value fit into a header: a single line."""
    return " ".join(text.split())[:1000]


def describe_template(value: object) -> str:
    """A value as text: empty for None, true or false for booleans, comma-separated for lists."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(describe_template(item) for item in value)
        case _:
            return str(value)
