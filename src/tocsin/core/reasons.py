"""Reasons as data: a key and typed parameters, rendered in English for records or in the reader's language.

What is stored or decided by has a `ReasonType`, a module-level constant with a stable code. Code decides by `code` and
parameters and never reads the rendered sentence:

    ACKNOWLEDGED = ReasonType("alert.acknowledged", "{user} acknowledged the alert")
    reason = ACKNOWLEDGED(user=Person("Ann", 3))
    str(reason)               # "Ann acknowledged the alert"
    reason.localized("de")    # from the catalogue of translations; the template is the msgid
    reason_as_json(reason)    # {"code": "alert.acknowledged", "data": {"user": {"user": 3, "name": "Ann"}}}: stored

What is only shown, such as an error of a form or what a command prints, is a `Text` without a code, or a `sentence`
where it is said in one place:

    raise Rejected("invalid", sentence("A token expires after at most {days} days.", days=90), "expires_at")

Parameters are texts (shown as they are), whole numbers (a count), moments (shown in the reader's zone), days,
durations, `Ago`, `Term`, `Person`, `AlertRef`, other reasons, and tuples of these (shown as a list).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec
from django.utils import timezone, translation
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language, gettext, ngettext, npgettext, pgettext

# ---------- locale format
# Formats durations, moments and lists, in English for records and in the active language for a reader. Pure.


_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNIT_NAMES = {"d": "day", "h": "hour", "m": "minute", "s": "second"}
#: A shorter time ago is "just now".
_JUST_NOW = timedelta(seconds=5)


_UNCHANGED = nullcontext()


def in_locale(language: str | None, zone: tzinfo | None) -> AbstractContextManager[Any]:
    """Activates a language and a time zone for a `with` block; None leaves what is active.

    To activate one costs more than to render a sentence, so what is active already is not activated again.
    """
    other_language = language is not None and language != translation.get_language()
    other_zone = zone is not None and zone is not timezone.get_current_timezone()
    if not other_language and not other_zone:
        return _UNCHANGED
    stack = ExitStack()
    if language is not None and other_language:
        stack.enter_context(translation.override(language))
    if zone is not None and other_zone:
        stack.enter_context(timezone.override(zone))
    return stack


def translate(text: str, language: str | None = None) -> str:
    """Translates a fixed text, by default into the active language."""
    return _translate(text, language or translation.get_language())


# Django looks for a text without a translation, and so for every English one, in the catalogue of each application.
@lru_cache(maxsize=4096)
def _translate(text: str, language: str | None) -> str:
    if language is None:
        return gettext(text)
    with translation.override(language):
        return gettext(text)


def split_seconds(seconds: int) -> list[tuple[int, str]]:
    """Returns the non-zero parts of a duration as (amount, unit), days first."""
    parts = []
    for unit, length in _UNIT_SECONDS.items():
        amount, seconds = divmod(seconds, length)
        if amount:
            parts.append((amount, unit))
    return parts


def english_duration(duration: timedelta) -> str:
    """Formats a duration for a sentence: "5 minutes", "1 hour 30 minutes". At most two units; never negative."""
    parts = split_seconds(max(0, int(duration.total_seconds())))[:2]
    return (
        " ".join(f"{amount} {_UNIT_NAMES[unit]}{'' if amount == 1 else 's'}" for amount, unit in parts) or "0 seconds"
    )


def local_duration(duration: timedelta, *, ago: bool = False) -> str:
    """Formats a duration in the active language. After "ago", some languages need another case."""
    parts = split_seconds(max(0, int(duration.total_seconds())))[:2] or [(0, "s")]
    return " ".join(_amount(amount, unit, ago=ago) for amount, unit in parts)


def local_moment(at: datetime) -> str:
    """Formats a moment in the active language and time zone: "Tue 24 Nov 2026, 11:00 CET"."""
    local = timezone.localtime(at)
    return f"{local_date(local)}, {local:%H:%M} {local.tzname()}"


def local_date(day: date) -> str:
    """Formats a day in the active language: "Tue 24 Nov 2026"."""
    return date_format(day, pgettext("date format", "D j M Y"))


def local_count(number: int) -> str:
    """Formats a whole number with the thousands separator of the active language."""
    return number_format(number, force_grouping=True) if abs(number) >= 1000 else str(number)


def local_term(word: str) -> str:
    """Translates a fixed word of Tocsin's, such as a role. An empty word stays empty."""
    return translate(word) if word else ""


def _largest_unit(duration: timedelta) -> timedelta:
    amount, unit = split_seconds(int(duration.total_seconds()))[0]
    return timedelta(seconds=amount * _UNIT_SECONDS[unit])


def _amount(number: int, unit: str, *, ago: bool) -> str:
    match unit:
        case "d" if ago:
            return npgettext("ago", "%(count)d day", "%(count)d days", number) % {"count": number}
        case "d":
            return ngettext("%(count)d day", "%(count)d days", number) % {"count": number}
        case "h":
            return ngettext("%(count)d hour", "%(count)d hours", number) % {"count": number}
        case "m":
            return ngettext("%(count)d minute", "%(count)d minutes", number) % {"count": number}
        case _:
            return ngettext("%(count)d second", "%(count)d seconds", number) % {"count": number}


_PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: Neither PostgreSQL nor UTF-8 can represent NUL and lone surrogates, which a sender's text may have.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CODE = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)+")


@dataclass(frozen=True, slots=True)
class Ago:
    """The time since a moment: "2 minutes ago"."""

    duration: timedelta


@dataclass(frozen=True, slots=True)
class Term:
    """A fixed English word of Tocsin's, such as a priority: the reader sees its translation."""

    text: str


def translatable(text: str) -> str:
    """Marks a fixed text where it is defined, such as a label or the value of a `Term`, for `scripts/translations.py`.
    Returns it unchanged: what shows it translates it.
    """
    return text


@dataclass(frozen=True, slots=True)
class Person:
    """A person by name, with the id of the account if there is one."""

    name: str
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class AlertRef:
    """An alert by its number."""

    alert_id: int


type Param = str | int | datetime | date | timedelta | Ago | Term | Person | AlertRef | Reason | tuple[Param, ...]

#: Every reason type by its code. Filled as modules are imported.
REASON_TYPES: dict[str, ReasonType] = {}


class Text:
    """A sentence that is shown and decides nothing: an English template with `{placeholders}`.

    `plural` is the template for a parameter `count` other than 1. Raises `TypeError` on a call with parameters that
    are not those of the template. The template is the key under which a reason that contains it is stored.
    """

    __slots__ = ("code", "name_set", "names", "plural", "template")

    def __init__(self, template: str, plural: str = "") -> None:
        names = {*_PLACEHOLDER.findall(template + plural), *(("count",) if plural else ())}
        self.code, self.template, self.plural = template, template, plural
        #: The parameters' names, sorted.
        self.names: tuple[str, ...] = tuple(sorted(names))
        self.name_set = frozenset(names)
        if plural:
            _PLURALS[template] = self

    def __call__(self, **params: Param) -> Reason:
        names = self.names
        if params.keys() != self.name_set:
            raise TypeError(f"reason {self.code}: parameters {sorted(params)}, expected {list(names)}")
        return Reason(self.code, tuple([(name, params[name]) for name in names]))


#: The texts of two forms, by the first.
_PLURALS: dict[str, Text] = {}


class ReasonType(Text):
    """A kind of reason that is stored or decided by: a text with a code (`area.what_happened`).

    Raises `ValueError` for a code that is malformed or taken.
    """

    __slots__ = ()

    def __init__(self, code: str, template: str, plural: str = "") -> None:
        super().__init__(template, plural)
        if not _CODE.fullmatch(code):
            raise ValueError(f"{code!r} is not a reason code: area.what_happened")
        if code in REASON_TYPES:
            raise ValueError(f"the reason code {code!r} is defined twice")
        self.code = code
        REASON_TYPES[code] = self


def sentence(template: str, plural: str = "", /, **params: Param) -> Reason:
    """A text that is said in one place. `template` and `plural` are those of a `Text`."""
    return Text(template, plural)(**params)


class Reason(msgspec.Struct, frozen=True):
    """A code and its parameters by name, sorted. Two reasons are equal if both are."""

    code: str
    params: tuple[tuple[str, Param], ...] = ()

    def __bool__(self) -> bool:
        """False for `NO_REASON` only."""
        return bool(self.code)

    def __getitem__(self, name: str) -> Param:
        """Returns a parameter. Raises `KeyError` if the reason has none of that name."""
        return dict(self.params)[name]

    def __str__(self) -> str:
        """The sentence in English, moments in UTC: the same for every reader."""
        return self._render(None)

    def localized(self, language: str | None = None, zone: tzinfo | None = None) -> str:
        """The sentence in a language and time zone; without them in those that are active."""
        if not self.code:
            return ""
        with in_locale(language, zone):
            return self._render(language or translation.get_language() or "en")

    @property
    def data(self) -> dict[str, Any]:
        """The parameters as JSON that PostgreSQL can store. `reason_from` reads them back."""
        return _params_to_json(self.params)

    def _render(self, language: str | None) -> str:
        """Renders the reason in `language`, which is active, or in English for records if it is None."""
        params = dict(self.params)
        if self.code == JOINED.code:
            return str(params["separator"]).join([_text(part, language) for part in _as_tuple(params["parts"])])
        count = params.get("count")
        template = _template(self.code, count if isinstance(count, int) else 1, language)
        pieces = list(_split(template))
        for index in range(1, len(pieces), 2):
            name = pieces[index]
            pieces[index] = _text(params[name], language) if name in params else f"{{{name}}}"
        return "".join(pieces)


#: The reason of what has none: an empty text, an empty code.
NO_REASON = Reason("")

#: Several reasons in order. Made by `joined`.
JOINED = ReasonType("reason.joined", "{parts}{separator}")


def joined(*reasons: Reason, separator: str = "; ") -> Reason:
    """Several reasons as one, without those that are empty. A single reason is returned as it is."""
    parts = tuple([reason for reason in reasons if reason.code])
    if len(parts) < 2:
        return parts[0] if parts else NO_REASON
    return JOINED(parts=parts, separator=separator)


#: The rest of a list that is cut off.
MORE = ReasonType("reason.more", "{count} more", "{count} more")

#: A text of somebody's that stands where a reason is expected, such as a provider's own error message.
TEXT = ReasonType("reason.text", "{text}")


def as_reason(value: Reason | str) -> Reason:
    """Returns a reason as it is, and a text as a reason that is rendered as that text."""
    if isinstance(value, str):
        return TEXT(text=value) if value else NO_REASON
    return value


def each_of(reason: Reason) -> tuple[Reason, ...]:
    """The reasons that `joined` made into one; a tuple of one otherwise."""
    if reason.code != JOINED.code:
        return (reason,)
    return tuple(one for part in _as_tuple(reason["parts"]) if isinstance(part, Reason) for one in each_of(part))


def replace_texts(reason: Reason, replace: Callable[[str], str]) -> Reason:
    """Returns the reason with `replace` applied to each of its texts, such as one that a server sent."""

    def replaced(value: Param) -> Param:
        match value:
            case str():
                return replace(value)
            case Reason():
                return replace_texts(value, replace)
            case tuple():
                return tuple(replaced(one) for one in value)
            case _:
                return value

    return Reason(reason.code, tuple((name, replaced(value)) for name, value in reason.params))


def reason_from(code: str, data: Mapping[str, Any]) -> Reason:
    """Reads a stored reason. A code that is not defined is kept, and rendered as the code."""
    return Reason(code, tuple([(name, _from_json(data[name])) for name in sorted(data)]))


def reason_as_json(reason: Reason) -> dict[str, Any]:
    """Returns a reason as JSON, of a column or of a part of a larger document; `{}` for `NO_REASON`. `reason_from_json`
    reads it back."""
    return {"code": reason.code, "data": _params_to_json(reason.params)} if reason.code else {}


def reason_from_json(value: object) -> Reason:
    """Reads a reason that `reason_as_json` wrote; `NO_REASON` for anything else."""
    match value:
        case {"code": str(code), "data": dict(data)}:
            return reason_from(code, data)
        case _:
            return NO_REASON


@cache  # as many as there are templates and translations
def _split(template: str) -> tuple[str, ...]:
    """Returns the template's literal texts, with the name of a parameter between each two."""
    return tuple(_PLACEHOLDER.split(template))


def _as_tuple(value: Param) -> tuple[Param, ...]:
    return value if isinstance(value, tuple) else (value,)


def _template(code: str, count: int, language: str | None) -> str:
    if kind := REASON_TYPES.get(code) or _PLURALS.get(code):
        template, plural = kind.template, kind.plural
    else:
        # A text's code is its template. So one that is not known, such as a code that a newer version stored, is shown.
        template, plural, *_ = (*_former_codes().get(code, (code,)), "") if _CODE.fullmatch(code) else (code, "")
    if language is None:
        return plural if plural and count != 1 else template
    return translation.ngettext(template, plural, count) if plural else translate(template, language)


@cache
def _former_codes() -> dict[str, list[str]]:
    """The templates of texts that had a code in earlier versions, which is what those have stored."""
    return msgspec.json.decode((Path(__file__).parent / "former_codes.json").read_bytes(), type=dict[str, list[str]])


def _text(value: Param, language: str | None) -> str:
    if type(value) is str:  # most are, and a sender waits for the sentence
        return value
    if type(value) is Reason:
        return value._render(language)
    return _english(value) if language is None else _local(value, language)


def _english(value: Param) -> str:
    match value:
        case int():
            return f"{value:,}"
        case datetime():
            # In UTC: records are the same for every reader.
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        case date():
            return value.isoformat()
        case timedelta():
            return english_duration(value)
        case Ago():
            if value.duration < _JUST_NOW:
                return "just now"
            return f"{english_duration(_largest_unit(value.duration))} ago"
        case tuple():
            *first, last = [_text(one, None) for one in value] or [""]
            return f"{', '.join(first)} and {last}" if first else last
        case _:
            return _plain(value)


def _local(value: Param, language: str) -> str:
    match value:
        case int():
            return local_count(value)
        case datetime():
            return local_moment(value)
        case date():
            return local_date(value)
        case timedelta():
            return local_duration(value)
        case Ago():
            if value.duration < _JUST_NOW:
                return gettext("just now")
            return gettext("%(span)s ago") % {"span": local_duration(_largest_unit(value.duration), ago=True)}
        case Term():
            return local_term(value.text)
        case tuple():
            *first, last = [_text(one, language) for one in value] or [""]
            return gettext("%(first)s and %(last)s") % {"first": ", ".join(first), "last": last} if first else last
        case _:
            return _plain(value)


def _plain(value: str | Term | Person | AlertRef | Reason) -> str:
    match value:
        case Person():
            return value.name
        case AlertRef():
            return str(value.alert_id)
        case Term():
            return value.text
        case _:
            return str(value)


def _params_to_json(params: tuple[tuple[str, Param], ...]) -> dict[str, Any]:
    """Ingest stores several reasons for each message: the usual types come first, without a call for each value."""
    data: dict[str, Any] = {}
    for name, value in params:
        if type(value) is str and value.isascii() and "\x00" not in value:
            data[name] = value
        elif type(value) is Reason:
            data[name] = {"code": value.code, "data": _params_to_json(value.params)}
        elif type(value) is Term:
            data[name] = {"term": value.text}
        elif type(value) is tuple:
            data[name] = [
                {"code": item.code, "data": _params_to_json(item.params)} if type(item) is Reason else _to_json(item)
                for item in value
            ]
        else:
            data[name] = _to_json(value)
    return data


def _to_json(value: Param) -> Any:
    match value:
        case Reason():
            return reason_as_json(value)
        case datetime():
            return {"at": value.isoformat()}
        case date():
            return {"day": value.isoformat()}
        case timedelta():
            return {"seconds": value.total_seconds()}
        case Ago():
            return {"seconds_ago": value.duration.total_seconds()}
        case Term():
            return {"term": value.text}
        case Person():
            return {"name": _UNSTORABLE.sub("\ufffd", value.name), "user": value.user_id}
        case AlertRef():
            return {"alert": value.alert_id}
        case tuple():
            return [_to_json(one) for one in value]
        case int():
            return value
        case _:
            return _UNSTORABLE.sub("\ufffd", value)


def _from_json(value: Any) -> Param:
    if type(value) is str:  # most are, and each pattern below is a look-up
        return value
    try:
        return _read_param(value)
    except (ValueError, OverflowError):
        # Not written by `_to_json`, such as a moment that is none: shown as it is rather than lost.
        return str(value)


def _read_param(value: Any) -> Param:
    match value:
        case {"code": str(code), "data": dict(data)}:
            return reason_from(code, data)
        case dict() if not value:
            return NO_REASON
        case {"at": str(text)}:
            return datetime.fromisoformat(text)
        case {"day": str(text)}:
            return date.fromisoformat(text)
        case {"seconds": int() | float() as seconds}:
            return timedelta(seconds=seconds)
        case {"seconds_ago": int() | float() as seconds}:
            return Ago(timedelta(seconds=seconds))
        case {"term": str(text)}:
            return Term(text)
        case {"name": str(name), "user": int() | None as user_id}:
            return Person(name, user_id)
        case {"alert": int(alert_id)}:
            return AlertRef(alert_id)
        case list():
            return tuple([_from_json(one) for one in value])
        case int():
            return value
        case _:
            return str(value)


# ---------- reason json
# Reasons in JSON for people and programs: the sentence in the reader's language, its code and its parameters.


def render(reason: Reason) -> str:
    """Returns the sentence in the active language: of a request, the one that Accept-Language asks for.

    In English it is the record, the same for every reader. A user who is signed in has chosen a language.
    """
    return str(reason) if (get_language() or "en").startswith("en") else reason.localized()


def show_reason(reason: Reason | None) -> dict[str, Any] | None:
    """Returns the text, code and data of a reason, the code empty for a text without one; None if there is none."""
    if not reason:
        return None
    return {"text": render(reason), "code": reason.code if reason.code in REASON_TYPES else "", "data": reason.data}


def show_fields(row: object, *names: str) -> dict[str, Any]:
    """Returns the named attributes of an object, those that are reasons as `show_reason` does."""
    values = {name: getattr(row, name) for name in names}
    return {name: show_reason(value) if isinstance(value, Reason) else value for name, value in values.items()}
