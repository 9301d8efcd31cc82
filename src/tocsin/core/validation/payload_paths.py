"""Paths into a payload: `ticket^status^name`. Compiled once; reading a path never raises.

`^` separates segments, `^^` is a literal `^`, a number indexes a list (or is an object's key), `*` collects a list.
Keys match exactly first, then ignoring case. A missing value is MISSING.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final
from urllib.parse import quote

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.validation.field_errors import AT_PATH

PATH_NOT_TEXT = Text("a path is text such as ticket^status^name")
_TOO_LONG = Text("a path has at most {maximum} characters; this one has {length}")
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
        raise _rejection(field_path, _TOO_LONG(maximum=MAX_PATH, length=len(text)))
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
