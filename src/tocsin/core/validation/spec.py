"""Typed specs: the objects that users write in YAML, the API and forms, as pydantic models.

A subclass of `Spec` declares its keys with type, limits and description; OpenAPI and the YAML reference are generated
from them. `Spec.read` validates strictly (no "5" for 5), takes null as absent, strips texts, and reports every error
at once, each with its place, such as `contact_methods[0].channel`. Types are annotated, not validated by decorators of
a subclass. A function in an annotation raises `InvalidValue`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.reasons import Reason, Text, as_reason, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import (
    AT_PATH,
    CONTROL_CHARACTER,
    DUPLICATE,
    DURATION_TOO_LONG,
    MAX_ITEMS,
    MAX_LENGTH,
    NOT_A_CHOICE,
    NOT_A_LIST,
    NOT_A_TIME_ZONE,
    NOT_AN_OBJECT,
    NOT_BOOLEAN,
    NOT_TEXT,
    NOT_TEXT_OF_LENGTH,
    REQUIRED,
    TOO_LONG,
    TOO_MANY_ENTRIES,
    UNSTORABLE_CHARACTER,
    has_control_character,
    is_zone,
    name_problem,
    raise_all,
    rejected_at,
    unknown_key,
)

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

#: Stands for the value of a required key that is absent.
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class SpecError:
    """A problem at a path below a spec, with the code of its rejection. `reason` completes a sentence that begins with
    the path."""

    path: str
    reason: Reason
    code: str


class SpecErrors:
    """Collects the errors of a spec, with paths relative to it; `context` is what `Spec.read` was given."""

    def __init__(self, context: Mapping[str, Any] | None = None) -> None:
        self.context: Mapping[str, Any] = context or {}
        self._errors: list[SpecError] = []
        self._paths: set[str] = set()
        #: The paths, and all above them.
        self._places: set[str] = set()

    def __iter__(self) -> Iterator[SpecError]:
        return iter(self._errors)

    def __bool__(self) -> bool:
        return bool(self._errors)

    def has(self, *paths: str) -> bool:
        """Returns whether there is an error at, above or below one of the paths, so that its value cannot be used."""
        return any(path in self._places or not self._paths.isdisjoint(_with_parents(path)) for path in paths)

    def add(self, path: str, reason: Reason | str, code: str = "invalid") -> None:
        """Adds an error, unless it would only be a consequence of one that is there: at the same path or above it, or
        below it if something is missing."""
        if self._paths.isdisjoint(_with_parents(path)) and not (code == "missing" and path in self._places):
            self._errors.append(SpecError(path, as_reason(reason), code))
            self._paths.add(path)
            self._places.update(_with_parents(path))

    def extend(self, errors: Iterable[SpecError], path: str) -> None:
        """Adds errors with paths below `path`."""
        for error in errors:
            self.add(join_path(path, error.path), error.reason, error.code)

    def add_rejection(self, rejection: Rejected, path: str) -> None:
        """Adds the errors of a rejection that was found elsewhere and names its places from `path` on."""
        for problem in rejection.problems if isinstance(rejection, RejectedAll) else (rejection,):
            reason: Any = problem.reason
            place = (problem.field or "").removeprefix(path).removeprefix(".")
            self.add(place, reason["problem"] if reason.code == AT_PATH.code else reason, problem.code)

    def add_duplicates(self, path: str, names: Iterable[str], key: str = "") -> None:
        """Adds an error for each name that occurs twice in a list, ignoring case; `key` is its key in an entry."""
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name and name.casefold() in seen:
                self.add(join_path(f"{path}[{index}]", key), DUPLICATE(value=name), "name_taken")
            seen.add((name or "").casefold())

    def raise_all(self, path: str = "") -> None:
        """Raises Rejected, or RejectedAll, with paths below `path`, if there are errors."""
        raise_all(
            rejected_at(place, error.reason, error.code) if place else Rejected(error.code, error.reason)
            for error in self._errors
            for place in [join_path(path, error.path)]
        )


class InvalidValue(ValueError):
    """Raised by a function in an annotation: what is wrong with a value, or with several places in it."""

    def __init__(self, reason: Reason | str | SpecErrors, code: str = "invalid") -> None:
        super().__init__(code)
        single = () if isinstance(reason, SpecErrors) else (SpecError("", as_reason(reason), code),)
        self.errors: tuple[SpecError, ...] = tuple(reason) if isinstance(reason, SpecErrors) else single


class Spec(BaseModel):
    """An object that users write. Immutable.

    A field whose key is not its name has the key as its alias.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", str_strip_whitespace=True, populate_by_name=True
    )

    #: Keys that were renamed, which are still read: former key → key.
    former_keys: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def read(
        cls, value: object, path: str = "", *, check: Callable[[Self, SpecErrors], None] | None = None, **context: Any
    ) -> Self:
        """Parses an object. `check` is a further check, which may resolve names; `context` is for the checks of specs.

        Raises Rejected, or RejectedAll, naming each place from `path` on.
        """
        reading = _Reading(context)
        spec = cls.model_validate(value, context=reading)
        errors = reading.take_errors(spec)
        if check is not None:
            check(spec, errors)
        errors.raise_all(path)
        return spec

    @classmethod
    def read_list(cls, values: object, path: str, *, maximum: int = MAX_ITEMS, **context: Any) -> tuple[Self, ...]:
        """Parses a list of objects, at most `maximum`. Raises Rejected, or RejectedAll, naming each place from `path`
        on."""
        try:
            entries = to_tuple(values, maximum)
        except InvalidValue as error:
            raise rejected_at(path, error.errors[0].reason) from None
        reading, errors = _Reading(context), SpecErrors()
        specs = tuple(cls.model_validate(entry, context=reading) for entry in entries)
        for index, spec in enumerate(specs):
            errors.extend(reading.take_errors(spec), f"[{index}]")
        errors.raise_all(path)
        return specs

    @property
    def given_keys(self) -> frozenset[str]:
        """The keys that were given, valid or not."""
        fields = type(self).model_fields
        return frozenset(fields[name].alias or name for name in self.model_fields_set)

    def reject_other_keys(self, applicable: Collection[str], errors: SpecErrors) -> None:
        """Adds an error for each given key that is not in `applicable`, for objects whose keys depend on each other."""
        for key in sorted(self.given_keys.difference(applicable)):
            errors.add(key, unknown_key(key, applicable), "unknown_key")

    def written(self) -> dict[str, Any]:
        """Returns the object as users write it, without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def to_column(self) -> dict[str, Any]:
        """Returns the object as a column of JSON stores it: by the names of its fields, without defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Returns the JSON schema of what users write, with the schemas of nested objects below `$defs`."""
        schema = cls.model_json_schema(schema_generator=SpecJsonSchema)
        if reference := schema.pop("$ref", None):
            # It contains itself.
            schema |= schema["$defs"][reference.rpartition("/")[2]]
        return schema

    def check(self, errors: SpecErrors) -> None:
        """Adds errors about several fields together. A field with an error has its default here; without a default, a
        text is empty, a list is empty, and anything else is None."""

    @model_validator(mode="wrap")
    @classmethod
    def _read_object(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        reading = info.context
        if not isinstance(reading, _Reading) or isinstance(value, cls):
            return handler(value)
        errors = SpecErrors(reading.context)
        if isinstance(value, Mapping):
            given = {str(key): item for key, item in value.items() if item is not None}
            for former, key in cls.former_keys.items():
                if former in given and key not in given:
                    given[key] = given.pop(former)
            known = _keys(cls)
            reading.errors.append(errors)
            spec = handler({key: given.get(key, _ABSENT) for key in known if key in given or known[key].is_required()})
            reading.errors.pop()
            for key in given:
                if key not in known:
                    errors.add(key, unknown_key(key, known), "unknown_key")
            spec.check(errors)
        else:
            errors.add("", NOT_AN_OBJECT())
            spec = cls.model_construct(**{name: _stand_in(field) for name, field in cls.model_fields.items()})
        if errors:
            reading.found[id(spec)] = (spec, errors)
        return spec

    @field_validator("*", mode="wrap")
    @classmethod
    def _read_field(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        reading = info.context
        if not isinstance(reading, _Reading):
            return handler(value)
        try:
            if value is _ABSENT:
                raise InvalidValue(REQUIRED(), "missing")
            if isinstance(value, str) and is_unstorable(value):
                raise InvalidValue(UNSTORABLE_CHARACTER())
            result = handler(value)
        except (ValidationError, InvalidValue) as error:
            field, key = _field(cls, info)
            _add_errors(reading.errors[-1], key, error, field)
            return _stand_in(field)
        if reading.found:
            for place, spec in _nested_specs(result):
                reading.errors[-1].extend(reading.take_errors(spec), _field(cls, info)[1] + place)
        return result


class _Reading:
    """The state of one `Spec.read`."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self.context = context
        #: Errors of the objects that are being read, outermost first.
        self.errors: list[SpecErrors] = []
        #: Objects that were read, with their errors, until these are added to those of the object around them.
        self.found: dict[int, tuple[Spec, SpecErrors]] = {}

    def take_errors(self, spec: Spec) -> SpecErrors:
        return self.found.pop(id(spec), (spec, SpecErrors(self.context)))[1]


class SpecJsonSchema(GenerateJsonSchema):
    """Generates the JSON schema of specs: with defaults as users write them, without titles, and without null, which
    is as good as absent for every key."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, Spec):
            return dft.written()
        return inputs.write_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return (
            super().default_schema(schema)
            if schema.get("default") is not None
            else self.generate_inner(schema["schema"])
        )

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def join_path(path: str, key: str) -> str:
    """Returns the path of a key, or of an `[index]`, below `path`."""
    return f"{path}.{key}" if path and key and not key.startswith("[") else path + key


def _with_parents(path: str) -> list[str]:
    """Returns the path and those above it, up to the whole object."""
    return [path, *(path[: match.start()] for match in re.finditer(r"[.\[]", path)), ""]


def is_unstorable(text: str) -> bool:
    """Returns whether a text has a NUL or a lone surrogate, which PostgreSQL cannot store."""
    return _UNSTORABLE.search(text) is not None


def reading_context(info: ValidationInfo) -> Mapping[str, Any]:
    """Returns the context that `Spec.read` was given, for a function in an annotation."""
    return info.context.context if isinstance(info.context, _Reading) else {}


def to_tuple(value: object, maximum: int = MAX_ITEMS) -> tuple[Any, ...]:
    """Returns the entries of a list. Raises InvalidValue if it is none, or has more entries than `maximum`."""
    if not isinstance(value, list | tuple):
        raise InvalidValue(NOT_A_LIST())
    if len(value) > maximum:
        raise InvalidValue(TOO_MANY_ENTRIES(maximum=maximum, length=len(value)))
    return tuple(value)


@cache
def _keys(kind: type[Spec]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def _field(kind: type[Spec], info: ValidationInfo) -> tuple[FieldInfo, str]:
    """Returns the field that is being read, and its key."""
    assert info.field_name is not None
    field = kind.model_fields[info.field_name]
    return field, field.alias or info.field_name


def _add_errors(errors: SpecErrors, key: str, error: ValidationError | InvalidValue, field: FieldInfo) -> None:
    if isinstance(error, InvalidValue):
        errors.extend(error.errors, key)
        return
    for details in error.errors(include_url=False):
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in details["loc"])
        errors.extend(_spec_errors(details, field), key + place)


def _stand_in(field: FieldInfo) -> Any:
    if not field.is_required():
        return field.get_default(call_default_factory=True, validated_data={})
    return "" if field.annotation is str else () if getattr(field.annotation, "__origin__", None) is tuple else None


def _nested_specs(value: object) -> Iterator[tuple[str, Spec]]:
    match value:
        case Spec():
            yield "", value
        case tuple():
            yield from ((f"[{index}]", item) for index, item in enumerate(value) if isinstance(item, Spec))
        case Mapping():
            yield from ((f".{key}", item) for key, item in value.items() if isinstance(item, Spec))


def _spec_errors(details: Any, field: FieldInfo) -> Iterable[SpecError]:
    if details["type"] == "value_error":
        return errors_of(details["ctx"]["error"])
    reason, code = _REASONS[details["type"]](details, field)
    return (SpecError("", reason, code),)


def errors_of(error: Any) -> tuple[SpecError, ...]:
    """The errors of an InvalidValue, or of another ValueError with a `reason`."""
    return error.errors if isinstance(error, InvalidValue) else (SpecError("", error.reason, "invalid"),)


def _range(_details: Any, field: FieldInfo) -> tuple[Reason, str]:
    minimum, maximum = (
        next(limit for part in field.metadata if (limit := getattr(part, name, None)) is not None)
        for name in ("ge", "le")
    )
    return sentence("must be a whole number from {minimum} to {maximum}.", minimum=minimum, maximum=maximum), "invalid"


def _too_long(details: Any, _field: FieldInfo) -> tuple[Reason, str]:
    context = details["ctx"]
    length = context.get("actual_length") or len(details["input"].strip())
    return TOO_LONG(maximum=context["max_length"], length=length), "invalid"


def _always(kind: Text, code: str = "invalid") -> Callable[[Any, FieldInfo], tuple[Reason, str]]:
    return lambda _details, _field: (kind(), code)


#: By type of pydantic's error, the reason and code from its details and the field.
_REASONS: dict[str, Callable[[Any, FieldInfo], tuple[Reason, str]]] = {
    "string_type": _always(NOT_TEXT),
    "string_unicode": _always(UNSTORABLE_CHARACTER),
    "string_too_short": _always(REQUIRED, "missing"),
    "too_short": _always(REQUIRED, "missing"),
    "string_too_long": _too_long,
    "too_long": _too_long,
    "bool_type": _always(NOT_BOOLEAN),
    "int_type": _range,
    "greater_than_equal": _range,
    "less_than_equal": _range,
    "dict_type": _always(NOT_AN_OBJECT),
}


# ---------- spec types
# Types of the fields of specs: texts, names, choices, durations, moments and lists. Pure.


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
        return tuple(dict.fromkeys(parsed))  # two texts may mean the same

    items = {"type": "string", "minLength": 1, "maxLength": max_length, **schema}
    return Parsed(read, {"type": "array", "items": items, "maxItems": MAX_ITEMS, "uniqueItems": True})


# Compared by identity, as `Parsed`.
@dataclass(frozen=True, eq=False)
class Reference:
    """Annotates an optional name, or a list of names, of other objects: looks each up, in lower case, among the ids in
    `context[kind]`, or rejects it with the reason `unknown`. An empty name is None.

    In a flat object (`people.changes.flat_objects`) `kind` is the label of a model, such as `people.Group`.
    """

    kind: str
    unknown: Text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_ids = core_schema.plain_serializer_function_ser_schema(lambda ids: ids)
        return core_schema.with_info_after_validator_function(self._resolve, handler(source), serialization=as_ids)

    def _resolve(self, names: str | tuple[str, ...] | None, info: ValidationInfo) -> int | tuple[int, ...] | None:
        if not names:
            return () if isinstance(names, tuple) else None
        ids, errors, found = reading_context(info)[self.kind], SpecErrors(), list[int]()
        for index, name in enumerate((names,) if isinstance(names, str) else names):
            try:
                found.append(ids[name.lower()])
            except KeyError:
                errors.add("" if isinstance(names, str) else f"[{index}]", self.unknown(name=name), "not_found")
        if errors:
            raise InvalidValue(errors)
        return found[0] if isinstance(names, str) else tuple(dict.fromkeys(found))


def list_of_choices(choices: Iterable[str]) -> Parsed:
    """Annotates a tuple: a list of distinct `choices`, such as members of a StrEnum; empty if there are none."""
    by_text = {str(choice): choice for choice in choices}
    if not by_text:
        return Parsed(lambda value: to_tuple(value, 0), {"type": "array", "items": {"type": "string"}, "maxItems": 0})
    return list_of(lambda text: _choose(text, tuple(by_text.values())), {"enum": list(by_text)})


def at_most(maximum: timedelta) -> AfterValidator:
    """Annotates a duration."""

    def check(duration: timedelta) -> timedelta:
        if duration > maximum:
            raise InvalidValue(DURATION_TOO_LONG(maximum=maximum))
        return duration

    return AfterValidator(check)


def _choose(text: str, choices: tuple[str, ...]) -> str:
    """Returns the choice that a text names; an enumeration may know it by a former name (`Enum._missing_`)."""
    for choice in choices:
        if choice == text:
            return choice
    for kind in {type(choice) for choice in choices if isinstance(choice, Enum)}:
        with suppress(ValueError):
            if (named := kind(text)) in choices:  # not every member is one
                return named
    raise InvalidValue(NOT_A_CHOICE(value=text, choices=tuple(filter(None, choices))))


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
        duration = inputs.parse_duration(value)
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
        raise InvalidValue(
            sentence(
                '"{value}" is not a date and time; write it like 2026-12-24T17:00 or 2026-12-24T16:00:00Z.', value=text
            )
        )
    if not 1970 < moment.year < 2200:
        raise InvalidValue(sentence('"{value}" is too far away.', value=text))
    zone = reading_context(info).get("zone")
    return in_utc(moment, zone) if zone or moment.tzinfo else moment


def in_utc(moment: datetime, zone: str | None) -> datetime:
    """Returns a moment in UTC; one without an offset is local in `zone`."""
    return (moment if moment.tzinfo or not zone else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


@dataclass(frozen=True, eq=False)
class InForm:
    """Annotates a field that the form of its object has, with its label and help. The texts are `translatable`.

    `widget` names what the type does not say (`web.ui.forms.SpecForm`), `choices` are the labels of an enumeration by
    value, `empty` is that of no choice. A field with a `section` is placed by the page, one that `is_last` is below all
    others.
    """

    label: str
    help: str = ""
    _: KW_ONLY
    widget: str = ""
    choices: Mapping[str, str] | None = None
    empty: str = ""
    section: str = ""
    is_last: bool = False
    is_required: bool = False


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
            "pattern": inputs.PATTERN,
            "description": "A duration, such as `90s`, `5m`, `1h30m`, `1d` or `1w`.",
        },
        inputs.write_duration,
    ),
]

#: A time of day in minutes since midnight, in a spec.
TimeOfDay = Annotated[
    int, ParsedText(lambda text, _info: inputs.parse_time(text), {"pattern": "^[0-9]{1,2}:[0-9]{2}$"})
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

    name: Annotated[Name, InForm(_("Name"))] = Field(description="Unique name.")
    group: Annotated[str, InForm(_("Owned by"), widget="group", empty=_("Administrators only"), is_last=True)] = Field(
        default="",
        max_length=200,
        description="Group whose managers may change it. Default: only administrators.",
    )
