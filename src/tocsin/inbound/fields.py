"""The fields that a message is mapped to: names, kinds, maximum lengths, and how values are cleaned and shown. Pure.

Cleaning turns a payload value into a clean value or None ("no value"), and never raises.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from tocsin.core.reasons import Reason, Term, translatable
from tocsin.core.validation.inputs import sanitize

#: The values of a mapped field. None means that the message says "nobody" (see `MappedFields`).
type Value = str | bool | datetime | tuple[str, ...] | tuple[Attachment, ...] | None


class FieldKind(StrEnum):
    LINE = translatable("line")  # one line of text
    TEXT = translatable("text")  # text with line breaks
    ID = translatable("id")  # one line; overlong ids stay distinguishable (see `clean_id`)
    URL = translatable("url")  # http or https only
    DATE = translatable("date")  # a date as text, as the sender wrote it; "not set" dates are no value
    MOMENT = translatable("moment")  # an aware datetime in UTC
    FLAG = translatable("flag")  # true or false
    PRIORITY = translatable("priority")  # critical, high, medium or low
    NAMES = translatable("names")  # a list of names, e-mail addresses or ids
    ATTACHMENTS = translatable("attachments")


@dataclass(frozen=True, slots=True)
class Attachment:
    url: str
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: FieldKind
    length: int  # maximum characters, of each entry for fields with several
    label: str  # the name in reasons and in the UI


PRIORITIES: Final = ("critical", "high", "medium", "low")

MAX_NAMES: Final = 50
MAX_ATTACHMENTS: Final = 20
MAX_TAGS: Final = 50
MAX_CUSTOM: Final = 100
TAG_LENGTH: Final = 200
CUSTOM_LENGTH: Final = 2000

#: The tags that the UI suggests; any other name is allowed too.
TAGS: Final = ("business_service", "component_type", "component_name", "data_center", "environment", "problem_type")


def _fields(*rows: tuple[str, FieldKind, int, Term]) -> dict[str, Field]:
    return {name: Field(name, kind, length, label.text) for name, kind, length, label in rows}


FIELDS: Final[Mapping[str, Field]] = _fields(
    ("source_name", FieldKind.ID, 200, Term("source name")),
    ("source_id", FieldKind.ID, 200, Term("source id")),
    ("dedup_key", FieldKind.ID, 500, Term("dedup key")),
    ("source_url", FieldKind.URL, 2000, Term("source URL")),
    ("source_status", FieldKind.LINE, 100, Term("status")),
    ("source_time", FieldKind.MOMENT, 40, Term("source time")),
    ("delivery_id", FieldKind.ID, 200, Term("delivery id")),
    ("event", FieldKind.LINE, 100, Term("event")),
    ("severity", FieldKind.LINE, 100, Term("severity")),
    ("priority", FieldKind.PRIORITY, 100, Term("priority")),
    ("assignee", FieldKind.LINE, 254, Term("assignee")),
    ("agent", FieldKind.LINE, 200, Term("agent")),
    ("agent_id", FieldKind.ID, 100, Term("agent id")),
    ("subject", FieldKind.LINE, 300, Term("subject")),
    ("short_text", FieldKind.LINE, 500, Term("short text")),
    ("long_text", FieldKind.TEXT, 20_000, Term("long text")),
    ("details", FieldKind.TEXT, 50_000, Term("details")),
    ("recipient_users", FieldKind.NAMES, 254, Term("recipient users")),
    ("recipient_groups", FieldKind.NAMES, 100, Term("recipient groups")),
    ("client", FieldKind.LINE, 200, Term("client")),
    ("site", FieldKind.LINE, 200, Term("site")),
    ("team", FieldKind.LINE, 200, Term("team")),
    ("ticket_type", FieldKind.LINE, 100, Term("ticket type")),
    ("category", FieldKind.LINE, 200, Term("category")),
    ("requester", FieldKind.LINE, 200, Term("requester")),
    ("requester_phone", FieldKind.LINE, 50, Term("requester phone")),
    ("vip", FieldKind.FLAG, 5, Term("VIP")),
    ("respond_by", FieldKind.DATE, 40, Term("respond by")),
    ("fix_by", FieldKind.DATE, 40, Term("fix by")),
    ("attachments", FieldKind.ATTACHMENTS, 2000, Term("attachments")),
)

_ID_DIGEST_CHARS: Final = 16


def text_of(value: object) -> str | None:
    """Converts a payload value to text: 34.0 is "34", true is "true"; a list of plain values is joined with ", ".

    Objects and nested lists become compact JSON. None, "", [] and {} are no value.
    """
    kind = type(value)
    if kind is str:
        return value or None  # type: ignore[return-value]
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        try:
            return str(value)
        except ValueError:  # over Python's limit of 4,300 digits for decimal conversion
            return f"{value:x}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    if kind is datetime:
        return value.isoformat()  # type: ignore[attr-defined, no-any-return]
    if not value:
        return None
    if isinstance(value, list | tuple):
        if all(isinstance(item, str | int | float) or item is None for item in value):
            return ", ".join(text for item in value if (text := text_of(item))) or None
        if all(isinstance(item, Attachment) for item in value):
            return ", ".join(item.name for item in value)
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, TypeError, ValueError):
        return f"({type(value).__name__})"  # only for values that JSON cannot represent


def clean_line(value: object, limit: int) -> str | None:
    """Returns one clean line of at most `limit` characters: white space and line breaks become single spaces."""
    text = value if type(value) is str else text_of(value)
    if text is None:
        return None
    if len(text) <= limit and text.isprintable():  # no control characters, no surrogates, no line breaks
        return text.strip() or None
    text = " ".join(sanitize(text[: limit * 8]).split())
    return _truncate(text, limit) or None


def clean_text(value: object, limit: int) -> str | None:
    """Returns clean text of at most `limit` characters, with line breaks."""
    content = value if type(value) is str else text_of(value)
    if content is None:
        return None
    if len(content) > limit:
        content = _truncate(content.strip(), limit)
    content = sanitize(content)
    return None if content.isspace() or not content else content


def clean_id(value: object, limit: int) -> str | None:
    """Returns an id as one clean line. An overlong id is cut and gets a hash of the whole, so that it stays unique."""
    content = value if type(value) is str else text_of(value)
    if content is None:
        return None
    if len(content) <= limit:
        return clean_line(content, limit)
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_DIGEST_CHARS]
    return f"{clean_line(content[: limit - _ID_DIGEST_CHARS - 1], limit - _ID_DIGEST_CHARS - 1) or ''}…{digest}"


def clean_url(value: object, limit: int) -> str | None:
    """Returns an http or https URL that is safe to link to. An overlong one is no value, because cutting breaks it."""
    address = clean_line(value, limit + 1)
    if address is None or len(address) > limit or not address[:8].lower().startswith(("http://", "https://")):
        return None
    return address


def clean_flag(value: object, limit: int = 5) -> bool | None:
    return value if type(value) is bool else _FLAGS.get((clean_line(value, limit) or "").casefold())


_FLAGS: Final = {**dict.fromkeys(("true", "yes", "1", "on"), True), **dict.fromkeys(("false", "no", "0", "off"), False)}


def clean_date(value: object, limit: int) -> str | None:
    """Returns a date as the sender wrote it (Halo's dates have no zone). "Not set" (year 1 or 1900) is no value."""
    content = clean_line(value, limit)
    return None if content is None or is_unset_date(content) else content


def is_unset_date(text: str) -> bool:
    """Returns whether a date means "not set": HaloITSM writes 1900-01-01, .NET's empty date is 0001-01-01."""
    return text.startswith(("1900-01-01", "0001-01-01", "01/01/1900", "01/01/0001", "1/1/1900", "1/1/0001"))


def parse_moment(value: object, limit: int = 40) -> datetime | None:
    """Parses a time as UTC: ISO 8601 (any number of fraction digits; without a zone it is UTC), or a Unix time in
    seconds, or in milliseconds if the number is too large for seconds. Anything else is no value."""
    if type(value) is str and len(value) <= limit:
        try:
            time = datetime.fromisoformat(value.strip())
        except ValueError:
            return _unix_time(value)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        try:
            time = time.astimezone(UTC)
        except OverflowError:
            return None
        return None if time.year <= 1900 else time
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _unix_time(value)
    return value if isinstance(value, datetime) and value.tzinfo is not None else None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND: Final = 100_000_000_000  # the year 5138; larger numbers are milliseconds


def _unix_time(value: str | float) -> datetime | None:
    seconds = number_of(value)
    if seconds is None or not 0 < seconds < _LAST_SECOND * 1000:
        return None
    return _EPOCH + timedelta(seconds=seconds if seconds < _LAST_SECOND else seconds / 1000)


_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,6})?", re.ASCII)


def number_of(value: object) -> float | None:
    """Returns the number that a value is or spells ("1", "1.0", 1), else None. Infinity if too large for a float."""
    if type(value) is bool:
        return None
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
        return None if number != number else number
    if isinstance(value, str) and len(value) <= 100 and _NUMBER.fullmatch(stripped := value.strip()):
        return float(stripped)
    return None


def clean_names(value: object, limit: int) -> tuple[str, ...] | None:
    """Returns names from a list, or from text separated by commas or semicolons."""
    items: list[object]
    if isinstance(value, str):
        items = [*re.split("[,;]", value[: (limit + 2) * MAX_NAMES], maxsplit=MAX_NAMES)][:MAX_NAMES]
    elif isinstance(value, list | tuple):
        items = list(value[:MAX_NAMES])
    else:
        items = [value]
    unique_names = tuple(dict.fromkeys(name for item in items if (name := clean_line(item, limit))))
    return unique_names or None


def clean_attachments(value: object, limit: int) -> tuple[Attachment, ...] | None:
    """Returns links from a list of URLs, or of objects with `url` (or `link`, `href`) and `name` (or `file_name`)."""
    links: list[Attachment] = []
    for item in value[:MAX_ATTACHMENTS] if isinstance(value, list) else [value]:
        entry = item if isinstance(item, dict) else {"url": item}
        address = next((a for key in ("url", "link", "href") if (a := clean_url(entry.get(key), limit))), None)
        if address is not None:
            name = next(
                (n for key in ("name", "file_name", "filename") if (n := clean_line(entry.get(key), 200))), None
            )
            links.append(Attachment(address, name or address.rsplit("/", 1)[-1] or address))
    return tuple(links) or None


def clean_priority(value: object, limit: int) -> str | None:
    """Returns the priority that a word means, or None. Bare numbers have no meaning: senders count both ways."""
    word = clean_line(value, limit)
    return None if word is None else priority_of(word)


def priority_of(word: str) -> str | None:
    """Returns critical, high, medium or low for common names ("P1", "1 - Critical", "sev2", "Warning"), else None.

    Each word is looked up; None if the words disagree ("Low to High").
    """
    folded = word.casefold()
    if folded in _PRIORITY_WORDS:
        return _PRIORITY_WORDS[folded]
    levels = {_PRIORITY_WORDS[part] for part in re.findall(r"[^\W_]+", folded[:200]) if part in _PRIORITY_WORDS}
    return levels.pop() if len(levels) == 1 else None


_PRIORITY_WORDS: Final[Mapping[str, str]] = {
    word: level
    for level, words in {
        "critical": "critical crit emergency emerg fatal disaster urgent blocker highest p1 sev1 s1 severity1 "
        "kritisch critique crítico crítica critico critica kritiek urgente",
        "high": "high major error err severe p2 sev2 s2 severity2 "
        "fehler erreur hoch schwerwiegend élevé élevée haute haut alto alta hoog",
        "medium": "medium moderate normal average warning warn p3 sev3 s3 severity3 "
        "mittel warnung moyen moyenne avertissement medio media advertencia middel",
        "low": "low minor info information informational notice lowest trivial debug p4 p5 sev4 sev5 s4 s5 "
        "niedrig gering faible basse bas baja bajo basso bassa laag",
    }.items()
    for word in words.split()
}

#: The cleaner of each kind: (value, maximum length) → clean value, or None for no value.
CLEANERS: Final[Mapping[FieldKind, Callable[[object, int], Value]]] = {
    FieldKind.LINE: clean_line,
    FieldKind.TEXT: clean_text,
    FieldKind.ID: clean_id,
    FieldKind.URL: clean_url,
    FieldKind.DATE: clean_date,
    FieldKind.MOMENT: parse_moment,
    FieldKind.FLAG: clean_flag,
    FieldKind.PRIORITY: clean_priority,
    FieldKind.NAMES: clean_names,
    FieldKind.ATTACHMENTS: clean_attachments,
}


def _truncate(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


class MappedFields(msgspec.Struct, frozen=True):
    """`values` contains, by name, the known fields that the message mentions.

    An absent field was not mentioned, so the alert keeps its value. A field that is None (`agent`, `assignee`) was
    explicitly *nobody*. Notes are for users, for example about an unmapped priority.
    """

    values: dict[str, Value]
    tags: dict[str, str]
    custom: dict[str, str]
    notes: tuple[Reason, ...] = ()

    def text(self, name: str) -> str | None:
        """Returns a text field's value, or None."""
        value = self.values.get(name)
        return value if type(value) is str else None

    def moment(self, name: str) -> datetime | None:
        value = self.values.get(name)
        return value if isinstance(value, datetime) else None

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        return value if isinstance(value, bool) else None

    def names(self, name: str) -> tuple[str, ...]:
        value = self.values.get(name)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, tuple) else ()

    def attachments(self) -> tuple[Attachment, ...]:
        value = self.values.get("attachments")
        return tuple(item for item in value if isinstance(item, Attachment)) if isinstance(value, tuple) else ()

    def is_nobody(self, name: str) -> bool:
        """Returns whether the message explicitly says that the field is nobody (an unassigned ticket)."""
        return name in self.values and self.values[name] is None


# ---------- values and reasons for users: on one line, and cut to the length that is stored

MAX_VALUE_CHARS: Final = 60  # characters of each value in a reason


def quote(text: str) -> str:
    """Returns a value for use in a reason: in quotes, on one line, at most 60 characters."""
    return f'"{one_line(text)}"'


def one_line(text: str) -> str:
    """Returns a value on one line, at most 60 characters."""
    if len(text) > MAX_VALUE_CHARS:
        text = f"{text[: MAX_VALUE_CHARS - 1]}…"
    return text if text.isprintable() else " ".join(sanitize(text).split())


def join_list(texts: Sequence[str]) -> str:
    """Returns up to five values separated by commas."""
    shown = ", ".join(text[:MAX_VALUE_CHARS] for text in texts[:5])
    return f"{shown}, …" if len(texts) > 5 else shown


def cut_bytes(text: str, limit: int) -> str:
    """Returns `text` cut to at most `limit` bytes of UTF-8, ending in … if cut."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 3].decode("utf-8", "ignore").rstrip() + "…"
