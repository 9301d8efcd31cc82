"""Types of the fields of specs: texts, names, choices, durations, moments and lists. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema, core_schema

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation import durations
from tocsin.core.validation.field_errors import (
    CONTROL_CHARACTER,
    DUPLICATE,
    DURATION_TOO_LONG,
    MAX_ITEMS,
    NOT_A_CHOICE,
    NOT_A_TIME_ZONE,
    NOT_TEXT_OF_LENGTH,
    UNSTORABLE_CHARACTER,
    is_zone,
)
from tocsin.core.validation.naming_rules import MAX_LENGTH, has_control_character, name_problem
from tocsin.core.validation.spec import (
    InvalidValue,
    Spec,
    SpecErrors,
    errors_of,
    is_unstorable,
    reading_context,
    to_tuple,
)

NOT_A_MOMENT = ReasonType(
    "time.not_a_moment", '"{value}" is not a date and time; write it like 2026-12-24T17:00 or 2026-12-24T16:00:00Z.'
)
TOO_FAR = ReasonType("time.too_far", '"{value}" is too far away.')


# Compared by identity: before Python 3.12.2 `typing` hashes what annotates a type, and a schema cannot be hashed.
@dataclass(frozen=True, eq=False)
class Parsed:
    """Annotates a type whose values `parse` reads from what users write; `schema` is the JSON schema of that, and
    `write` the reverse of `parse`.

    `parse` raises InvalidValue, or another ValueError with a `reason`.
    """

    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(self.write) if self.write else None
        return core_schema.no_info_plain_validator_function(self.parse, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


@dataclass(frozen=True)
class OneOf:
    """Annotates an enumeration, or `str` with `choices`: a text that is one of them."""

    choices: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = self.choices or tuple(source)
        return core_schema.no_info_after_validator_function(
            lambda text: source(_choose(text, choices)),
            core_schema.str_schema(strict=True, strip_whitespace=True, max_length=200),
            metadata={"pydantic_js_updates": {"enum": [str(choice) for choice in choices]}},
        )


@dataclass(frozen=True, eq=False)
class ParsedText:
    """Annotates a type whose values `parse` reads from a text that is not empty. `parse` raises as for `Parsed`."""

    parse: Callable[[str, ValidationInfo], Any]
    schema: Mapping[str, Any]
    max_length: int = 40

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(
            self.parse,
            core_schema.str_schema(strict=True, strip_whitespace=True, min_length=1, max_length=self.max_length),
            serialization=core_schema.to_string_ser_schema(),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.max_length, **self.schema}


def list_of(parse: Callable[[str], Any], schema: Mapping[str, Any], max_length: int = 100) -> Parsed:
    """Annotates a tuple: a list of distinct texts, of which `parse` reads each; `schema` is that of an entry."""

    def read(value: object) -> tuple[Any, ...]:
        errors, texts, parsed = SpecErrors(), set[str](), []
        for index, item in enumerate(to_tuple(value)):
            text = item.strip() if isinstance(item, str) else ""
            if not text or len(text) > max_length:
                errors.add(f"[{index}]", NOT_TEXT_OF_LENGTH(maximum=max_length))
            elif is_unstorable(text):
                errors.add(f"[{index}]", UNSTORABLE_CHARACTER())
            elif text in texts:
                errors.add(f"[{index}]", DUPLICATE(value=text))
            else:
                texts.add(text)
                try:
                    parsed.append(parse(text))
                except ValueError as error:
                    errors.extend(errors_of(error), f"[{index}]")
        if errors:
            raise InvalidValue(errors)
        return tuple(parsed)

    items = {"type": "string", "minLength": 1, "maxLength": max_length, **schema}
    return Parsed(read, {"type": "array", "items": items, "maxItems": MAX_ITEMS, "uniqueItems": True})


def id_of(kind: str, unknown: ReasonType) -> AfterValidator:
    """Annotates an optional name: looks it up as `ids_of` does; an empty one is None."""

    def resolve(name: str, info: ValidationInfo) -> int | None:
        if not name:
            return None
        try:
            return int(reading_context(info)[kind][name.lower()])
        except KeyError:
            raise InvalidValue(unknown(name=name), "not_found") from None

    return AfterValidator(resolve)


def ids_of(kind: str, unknown: ReasonType) -> AfterValidator:
    """Annotates a list of names: looks each up, in lower case, among the ids in `context[kind]`, or rejects it with the
    reason `unknown`."""

    def resolve(names: tuple[str, ...], info: ValidationInfo) -> tuple[int, ...]:
        ids, errors, found = reading_context(info)[kind], SpecErrors(), list[int]()
        for index, name in enumerate(names):
            try:
                found.append(ids[name.lower()])
            except KeyError:
                errors.add(f"[{index}]", unknown(name=name), "not_found")
        if errors:
            raise InvalidValue(errors)
        return tuple(dict.fromkeys(found))

    return AfterValidator(resolve)


def list_of_choices(choices: Iterable[str]) -> Parsed:
    """Annotates a tuple: a list of distinct `choices`, such as members of a StrEnum; empty if there are none."""
    by_text = {str(choice): choice for choice in choices}
    if not by_text:
        return Parsed(lambda value: to_tuple(value, 0), {"type": "array", "items": {"type": "string"}, "maxItems": 0})
    return list_of(lambda text: by_text[_choose(text, tuple(by_text))], {"enum": list(by_text)})


def at_most(maximum: timedelta) -> AfterValidator:
    """Annotates a duration."""

    def check(duration: timedelta) -> timedelta:
        if duration > maximum:
            raise InvalidValue(DURATION_TOO_LONG(maximum=maximum))
        return duration

    return AfterValidator(check)


def _choose(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise InvalidValue(NOT_A_CHOICE(value=text, choices=tuple(filter(None, choices))))
    return text


def _single_line(text: str) -> str:
    if has_control_character(text):
        raise InvalidValue(CONTROL_CHARACTER())
    return text


def _name(text: str) -> str:
    if problem := name_problem(text):
        raise InvalidValue(problem, "invalid_name")
    return text


def _time_zone(name: str) -> str:
    if not is_zone(name):
        raise InvalidValue(NOT_A_TIME_ZONE(value=name), "invalid_time_zone")
    return name


def parse_duration(value: object, maximum: timedelta | None = None) -> timedelta:
    """Parses a duration of at most `maximum`. Raises InvalidValue."""
    try:
        duration = durations.parse(value)
    except Rejected as rejection:
        raise InvalidValue(rejection.reason, rejection.code) from None
    if maximum is not None and duration > maximum:
        raise InvalidValue(DURATION_TOO_LONG(maximum=maximum))
    return duration


def _moment(text: str, info: ValidationInfo) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    # A date alone does not say whether the day is included.
    if moment is None or len(text) < len("2026-12-24T17:00"):
        raise InvalidValue(NOT_A_MOMENT(value=text))
    if not 1970 < moment.year < 2200:
        raise InvalidValue(TOO_FAR(value=text))
    zone = reading_context(info).get("zone")
    return in_utc(moment, zone) if zone or moment.tzinfo else moment


def in_utc(moment: datetime, zone: str | None) -> datetime:
    """Returns a moment in UTC; one without an offset is local in `zone`."""
    return (moment if moment.tzinfo or not zone else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


_T = TypeVar("_T")

#: A list of objects.
ListOf = Annotated[tuple[_T, ...], BeforeValidator(lambda value: to_tuple(value))]

#: A secret, which is written but never read back. An omitted one stays.
Secret = Annotated[str, Field(max_length=4000, json_schema_extra={"writeOnly": True})]

#: A text of one line.
Line = Annotated[str, AfterValidator(_single_line)]

#: The name of an object.
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1000,  # `name_problem` says what a name may be
        json_schema_extra={"maxLength": MAX_LENGTH},
        description="Unique name, without a slash.",
    ),
    AfterValidator(_name),
]

#: The names of other objects.
Names = Annotated[tuple[str, ...], list_of(str, {})]

#: A duration, zero included.
Duration = Annotated[
    timedelta,
    Parsed(
        parse_duration,
        {
            "type": "string",
            "pattern": durations.PATTERN,
            "description": "A duration, such as `90s`, `5m`, `1h30m`, `1d` or `1w`.",
        },
        durations.write,
    ),
]

#: The name of a time zone.
TimeZone = Annotated[
    str,
    Field(max_length=64, description="A time zone of the tz database, such as `Europe/Zurich` or `UTC`."),
    AfterValidator(_time_zone),
]

#: A date and time, in UTC: local in `context["zone"]` if it is written without an offset.
Moment = Annotated[
    datetime,
    ParsedText(
        _moment,
        {
            "description": "A date and time: local, such as `2026-12-24T17:00`, or with an offset, such as "
            "`2026-12-24T16:00:00Z`."
        },
    ),
]


def write_moment(at: datetime) -> str:
    """Formats a time in a form that `Moment` reads."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class OwnedSpec(Spec):
    """An object with a unique name, which the managers of a group may change."""

    name: Name = Field(description="Unique name.")
    group: str = Field(
        default="",
        max_length=200,
        description="Group whose managers may change it. Default: only administrators.",
    )
