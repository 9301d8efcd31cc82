"""Maps payload values to fields. Compiled once per configuration version.

A field is defined by a path, a list of alternatives (the first with a value wins), or an object with one of `path`,
`paths`, `template`, `literal`, and any of `only`, `nobody`, `map`, `else`, `when` (see `inbound.mapping.mapping`).
A name that is not one of Tocsin's fields is a custom field; `tags` and `custom` contain named ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, create_model

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, Term, Text, joined, sentence
from tocsin.core.validation.inputs import AT_PATH, PATH_NOT_TEXT, unknown_key
from tocsin.core.validation.spec import ListOf, OneOf, Parsed, Spec
from tocsin.inbound.conditions import CompiledCondition, Condition, compile_condition
from tocsin.inbound.fields import (
    CLEANERS,
    CUSTOM_LENGTH,
    FIELDS,
    MAX_CUSTOM,
    MAX_TAGS,
    TAG_LENGTH,
    FieldKind,
    MappedFields,
    Value,
    clean_line,
    clean_text,
    is_unset_date,
    number_of,
    one_line,
    text_of,
)
from tocsin.inbound.mapping import templates
from tocsin.inbound.mapping.templates import Extraction, Template, compile_template

# ---------- specs
# How a mapping is written. `inbound.mapping.mapping` and `inbound.mapping.mapping` validate and compile it.


MAX_TEXT = 5000


class ValueType(StrEnum):
    """The types of value that `only` accepts."""

    TEXT = "text"  # a text or number: no object, list, true or false
    WORDS = "words"  # a text that is not a number
    NUMBER = "number"  # a number, or a text that is one
    INTEGER = "integer"  # a whole number, or a text that is one: 7, "7", 7.0, "0007" all give 7
    POSITIVE = "positive"  # a whole number above 0, like ids
    GUID = "guid"
    DATE = "date"  # a date that is set (not 1900-01-01)
    EMAIL = "email"


_Text = Annotated[str, Field(max_length=MAX_TEXT)]
_SCALAR = {"type": ["string", "number", "boolean"]}
_Scalars = Annotated[Any, Parsed(lambda value: value, {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]})]


class ValueSourceSpec(Spec):
    """Where the value of a field comes from: exactly one of `path`, `paths`, `template` and `literal`."""

    path: _Text = Field(default="", description="Path in the message, such as `ticket^status^name`.")
    paths: ListOf[_Text] = Field(default=(), description="Paths, of which the first with a value is used.")
    template: _Text = Field(default="", description="Text with paths in brackets, such as `<ticket^summary>`.")
    literal: _Scalars = Field(default=None, description="Fixed value.")
    between: _Text | ListOf[_Text] = Field(
        default=(), description="Texts before and after the part that is used; the second may be left out."
    )
    pattern: _Text = Field(default="", description="Pattern (RE2) of the part that is used.")
    group: _Text | int = Field(default=0, description="Name or number of the pattern's group that is used.")
    only: Annotated[ValueType, OneOf()] | None = Field(
        default=None, description="Type of value that is used; another one counts as no value."
    )
    nobody: _Scalars = Field(default=None, description="Values that mean that no one is assigned.")
    map: _Text | dict[str, _Text] | None = Field(
        default=None, description="Values to translate, or the name of a setting that holds them."
    )
    default: _Text = Field(
        default="", alias="else", description="Value instead of one that is not translated; `<value>` stands for it."
    )
    when: Condition | None = Field(default=None, description="Condition on paths without which it has no value.")


type ValueSource = _Text | ValueSourceSpec | list[_Text | ValueSourceSpec]


class _OtherFields(Spec):
    # Further names are custom fields of the kind.
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ValueSource]

    tags: dict[str, ValueSource] = Field(default={}, description="Sources of tags by name.")
    custom: dict[str, ValueSource] = Field(default={}, description="Sources of custom fields by name.")


_STANDARD_FIELDS: dict[str, Any] = {
    name: (ValueSource | None, Field(default=None, description=f"Source of the field {field.label}."))
    for name, field in FIELDS.items()
}

MappingSpec = create_model(
    "MappingSpec",
    __base__=_OtherFields,
    __doc__="Where the values of an alert's fields come from. An omitted field is mapped as the kind maps it.",
    __module__=__name__,
    **_STANDARD_FIELDS,
)


# ---------- value source
# One alternative of a mapped field: where its value comes from, and how it is transformed.
#
# `between` and `pattern` take a part of a text; `only` keeps values of one type (others are no value); `nobody` lists
# values that mean "nobody"; `map` translates; `else` replaces untranslated values (`<value>` stands for the value; ""
# is no value); `when` is a condition on paths.


_TRANSLATED = Text("mapped")

MAX_ALTERNATIVES: Final = 100
MAX_MAP: Final = 2000

type ExtractedValue = object  # a payload value, a text, NOBODY, or None for no value


class _Unassigned:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOBODY"


#: The message explicitly says "nobody": no further alternative is tried.
NOBODY: Final = _Unassigned()


@dataclass(frozen=True, slots=True)
class Alternative:
    """`find(slots, payload, values)` → the value before cleaning, NOBODY, or None.

    `slot` is the slot that it reads, or -1; `is_plain` means that `find` returns just that slot.
    """

    field_path: str
    source_text: str  # the source in a trace: the path, the template, the literal
    slot: int
    is_plain: bool
    find: Callable[[list[object], object, dict[str, Value]], ExtractedValue]
    fields: frozenset[str] = frozenset()
    transformations: Reason = NO_REASON  # such as "only guid"


_KEYS: Final = frozenset(field.alias or name for name, field in ValueSourceSpec.model_fields.items())
_SOURCES: Final = ("path", "paths", "template", "literal")
_NOTHING: Final = MappedFields({}, {}, {})


class EntryCompiler:
    """Compiles the alternatives of all fields of a mapping, sharing one extraction."""

    def __init__(self, extraction: Extraction, settings: Mapping[str, object], fields: frozenset[str]) -> None:
        self.extraction = extraction
        self.settings = settings
        self.fields = fields

    def alternatives(self, definition: object, field_path: str) -> list[Alternative]:
        compiled = list(self._alternatives(definition, field_path))
        if not compiled:
            raise rejection(field_path, sentence("give at least one path"))
        if len(compiled) > MAX_ALTERNATIVES:
            raise rejection(field_path, sentence("at most {maximum} alternatives", maximum=MAX_ALTERNATIVES))
        return compiled

    def _alternatives(self, definition: object, field_path: str) -> Iterator[Alternative]:
        if isinstance(definition, list | tuple):
            for i, entry in enumerate(definition):
                if isinstance(entry, list | tuple):
                    raise rejection(f"{field_path}[{i}]", sentence("a list in a list; give a path or an object"))
                yield from self._alternatives(entry, f"{field_path}[{i}]")
        elif isinstance(definition, str):
            slot = self.extraction.slot(definition, field_path)
            yield Alternative(field_path, definition, slot, True, _slot_reader(slot))
        elif isinstance(definition, Mapping):
            yield from self._entry(definition, field_path)
        else:
            raise rejection(
                field_path, sentence("give a path, a list of paths, or {path, paths, template or literal: …}")
            )

    def _entry(self, definition: Mapping[str, object], field_path: str) -> Iterator[Alternative]:
        for key in definition:
            if key not in _KEYS:
                raise rejection(f"{field_path}.{key}", unknown_key(str(key), _KEYS))
        sources = [key for key in _SOURCES if key in definition]
        if len(sources) != 1:
            raise rejection(field_path, sentence("give exactly one of {keys}", keys=", ".join(_SOURCES)))
        transform = self._compile_transform(definition, field_path)
        when = self._when(definition, field_path)
        transformations = _describe_transformations(definition)
        for alternative in self._from_source(definition, sources[0], field_path, transform, when):
            yield replace(alternative, transformations=transformations)

    def _from_source(
        self,
        definition: Mapping[str, object],
        source: str,
        field_path: str,
        transform: Callable[[object], ExtractedValue] | None,
        when: CompiledCondition | None,
    ) -> Iterator[Alternative]:
        match source:
            case "path":
                yield self._path(definition["path"], f"{field_path}.path", transform, when)
            case "paths":
                paths = definition["paths"]
                if not isinstance(paths, list | tuple) or not paths:
                    raise rejection(f"{field_path}.paths", sentence("must be a list of paths"))
                for i, path in enumerate(paths):
                    yield self._path(path, f"{field_path}.paths[{i}]", transform, when)
            case "template":
                yield self._template(definition["template"], f"{field_path}.template", transform, when)
            case _:
                yield _literal(definition["literal"], f"{field_path}.literal", transform, when)

    def _path(
        self,
        path: object,
        field_path: str,
        transform: Callable[[object], ExtractedValue] | None,
        when: CompiledCondition | None,
    ) -> Alternative:
        if not isinstance(path, str):
            raise rejection(field_path, PATH_NOT_TEXT())
        slot = self.extraction.slot(path, field_path)
        if transform is None and when is None:
            return Alternative(field_path, path, slot, True, _slot_reader(slot))
        apply_transform = transform or _unchanged

        def find(slots: list[object], payload: object, values: dict[str, Value]) -> ExtractedValue:
            value = slots[slot]
            if value is None or (when is not None and not when.matches(payload, _NOTHING)):
                return None
            return apply_transform(value)

        return Alternative(field_path, path, slot, False, find)

    def _template(
        self,
        text: object,
        field_path: str,
        transform: Callable[[object], ExtractedValue] | None,
        when: CompiledCondition | None,
    ) -> Alternative:
        template: Template = compile_template(text, self.extraction, self.settings, field_path, self.fields)
        apply_transform = transform or _unchanged

        def find(slots: list[object], payload: object, values: dict[str, Value]) -> ExtractedValue:
            if when is not None and not when.matches(payload, _NOTHING):
                return None
            value = template.render(slots, values)
            return None if value is None else apply_transform(value)

        return Alternative(field_path, template.text, -1, False, find, template.fields)

    def _when(self, definition: Mapping[str, object], field_path: str) -> CompiledCondition | None:
        return compile_condition(definition["when"], f"{field_path}.when") if "when" in definition else None

    def _compile_transform(
        self, definition: Mapping[str, object], field_path: str
    ) -> Callable[[object], ExtractedValue] | None:
        steps: list[Callable[[object], ExtractedValue]] = []
        if (part := templates.compile_part(definition, field_path)) is not None:
            steps.append(part)
        if (only := definition.get("only")) is not None:
            steps.append(_only(only, f"{field_path}.only"))
        if (nobody := definition.get("nobody")) is not None:
            steps.append(_nobody(nobody, f"{field_path}.nobody"))
        if (table := definition.get("map")) is not None or "else" in definition:
            steps.append(
                _translation(self._table(table, f"{field_path}.map"), definition.get("else"), f"{field_path}.else")
            )
        if len(steps) < 2:
            return steps[0] if steps else None

        def run_steps(value: object) -> ExtractedValue:
            for step in steps:
                value = step(value)
                if value is None or value is NOBODY:
                    return value
            return value

        return run_steps

    def _table(self, table: object, field_path: str) -> dict[str, str]:
        """Returns a value map, given literally or as the name of a setting that contains one."""
        if isinstance(table, str):
            table = self.settings.get(table) or {}
        if table is None:
            return {}
        if not isinstance(table, Mapping):
            raise rejection(field_path, sentence("a value map is {from: to}, or the name of a setting that holds one"))
        if len(table) > MAX_MAP:
            raise rejection(field_path, sentence("a value map has at most {maximum} rows", maximum=MAX_MAP))
        translated: dict[str, str] = {}
        for key, value in table.items():
            source, target = text_of(key), text_of(value)
            if source is None or target is None or isinstance(value, list | dict):
                raise rejection(
                    f"{field_path}.{str(key)[:40]}", sentence("must map a text or number to non-empty text")
                )
            translated[source.strip().casefold()] = target
        return translated


def _describe_transformations(definition: Mapping[str, object]) -> Reason:
    steps = [templates.describe_part(definition)]
    if "only" in definition:
        steps.append(sentence("only {type}", type=str(definition["only"])))
    if "map" in definition:
        table = definition["map"]
        steps.append(sentence("mapped by {setting}", setting=table) if isinstance(table, str) else _TRANSLATED())
    if definition.get("else"):
        steps.append(sentence("else {value}", value=str(definition["else"])))
    if "when" in definition:
        steps.append(sentence("conditional"))
    return joined(*steps, separator=", ")


def _slot_reader(slot: int) -> Callable[[list[object], object, dict[str, Value]], ExtractedValue]:
    return lambda slots, payload, values: slots[slot]


def _unchanged(value: object) -> ExtractedValue:
    return value


def _literal(
    value: object, field_path: str, transform: Callable[[object], ExtractedValue] | None, when: CompiledCondition | None
) -> Alternative:
    if not isinstance(value, str | int | float | list) or value in ("", []):
        raise rejection(field_path, sentence("a literal is a text, a number, true, false, or a list of those"))
    literal_value = (transform or _unchanged)(value)

    def find(slots: list[object], payload: object, values: dict[str, Value]) -> ExtractedValue:
        return literal_value if when is None or when.matches(payload, _NOTHING) else None

    return Alternative(field_path, f'"{text_of(value)}"', -1, False, find)


_GUID: Final = re.compile(r"\{?[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?")


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value
    if type(value) is str and len(value) <= 40 and value.isascii() and (digits := value.strip()).isdigit():
        return int(digits)
    number = number_of(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 1e16 else None


def _scalar(value: object) -> ExtractedValue:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


_ONLY: Final[Mapping[ValueType, Callable[[object], ExtractedValue]]] = {
    ValueType.TEXT: _scalar,
    ValueType.WORDS: lambda value: (
        value if type(value) is str and (value[:1].isalpha() or number_of(value) is None) else None
    ),
    ValueType.NUMBER: lambda value: value if number_of(value) is not None else None,
    ValueType.INTEGER: _whole,
    ValueType.POSITIVE: lambda value: whole if (whole := _whole(value)) is not None and int(whole) > 0 else None,
    ValueType.GUID: lambda value: value if type(value) is str and _GUID.fullmatch(value) else None,
    ValueType.DATE: lambda value: value if (text := clean_line(value, 100)) and not is_unset_date(text) else None,
    ValueType.EMAIL: lambda value: (
        value if type(value) is str and re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,250}", value) else None
    ),
}


def _only(value: object, field_path: str) -> Callable[[object], ExtractedValue]:
    try:
        return _ONLY[ValueType(str(value))]
    except ValueError:
        raise rejection(
            field_path,
            sentence('unknown type "{type}"; one of {types}', type=str(value)[:40], types=", ".join(ValueType)),
        ) from None


def _nobody(value: object, field_path: str) -> Callable[[object], ExtractedValue]:
    items = value if isinstance(value, list | tuple) else [value]
    texts = frozenset(item_text.strip().casefold() for item in items if (item_text := _raw_text(item)) is not None)
    if not texts:
        raise rejection(field_path, sentence('enter the values that mean "no one"'))

    def find(value: object) -> ExtractedValue:
        text = _raw_text(value)
        return NOBODY if text is not None and len(text) < 200 and text.strip().casefold() in texts else value

    return find


def _raw_text(value: object) -> str | None:
    """Like `text_of`, except that an empty text, which templates make of an empty field, is a value too."""
    return value if type(value) is str else text_of(value)


def _translation(table: Mapping[str, str], default: object, field_path: str) -> Callable[[object], ExtractedValue]:
    if default is not None and not isinstance(default, str):
        raise rejection(field_path, sentence('must be text; "" for no value, <value> stands for the value'))

    def translate(value: object) -> ExtractedValue:
        text = text_of(value)
        if text is None:
            return None
        translated = table.get(text.strip().casefold()) if len(text) < 500 else None
        if translated is not None or default == "":
            return translated
        return value if default is None else default.replace("<value>", text.strip()[:500])

    return translate


def rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_mapping", AT_PATH(path=field_path, problem=problem), field_path)


type Cleaner = Callable[[object, int], Value]
type PickValue = Callable[[list[object], object, dict[str, Value]], object]

#: The number of plans cached, one for each combination of shapes in a sender's messages.
_MAX_PLANS: Final = 256

#: Kinds whose values must be understood: an unknown value adds a note.
_MUST_BE_UNDERSTOOD: Final = {
    FieldKind.PRIORITY: Text('{field} "{value}" is not mapped to critical, high, medium or low'),
    FieldKind.MOMENT: Text('{field} "{value}" is not a time that Tocsin can read'),
}

_NOT_A_MAPPING = Text("must map fields to value sources")
_TOO_MANY_TAGS = Text("at most {maximum} tags; these are {length}")
_TOO_MANY_CUSTOM = Text("at most {maximum} custom fields; these are {length}")
_DUPLICATE_NAME = Text("is a tag and a custom field; names are unique")
_INVALID_NAME = Text("a field's name is text of 1 to 100 characters; this is {name}")
_RESERVED_NAME = Text("is the name of a standard field; map it at the top level")
_CIRCULAR = Text("its template has a circular reference")


@dataclass(frozen=True, slots=True)
class MappedField:
    """One field and its alternatives; `pick` returns the value, NOBODY, or None."""

    name: str
    alternatives: tuple[Alternative, ...]
    cleaner: Cleaner
    length: int
    pick: PickValue


class _MappingPlan:
    """The fields that payloads with one trail can fill. `direct` fields come from a single plain path each."""

    __slots__ = ("direct", "picked")

    def __init__(
        self, direct: tuple[tuple[str, int, Cleaner, int], ...], picked: tuple[tuple[str, PickValue], ...]
    ) -> None:
        self.direct = direct
        self.picked = picked


class CompiledMapping:
    """`apply(payload)` maps a payload; `names` are the fields, tags and custom fields that it may return."""

    def __init__(
        self,
        extraction: Extraction,
        fields: tuple[MappedField, ...],
        tags: tuple[MappedField, ...],
        custom: tuple[MappedField, ...],
    ) -> None:
        self.extraction = extraction
        self.fields = fields
        self.tags = tags
        self.custom = custom
        self.names = frozenset(field.name for group in (fields, tags, custom) for field in group)
        self._full_plan = _MappingPlan((), tuple((field.name, field.pick) for field in fields))
        self._plans: dict[tuple[int, ...], _MappingPlan] = {}
        self._tag_plan = tuple((field.name, field.pick) for field in tags)
        self._custom_plan = tuple((field.name, field.pick) for field in custom)
        self._must_be_understood = tuple(f for f in fields if FIELDS[f.name].kind in _MUST_BE_UNDERSTOOD)

    def apply(self, payload: object) -> MappedFields:
        """Maps a payload. Never raises."""
        slots, trail = self.extraction.read_with_trail(payload)
        plan = self._full_plan if trail is None else self._plans.get(trail) or self._build_plan(trail, payload)
        values: dict[str, Value] = {}
        for name, slot, clean, length in plan.direct:
            candidate = slots[slot]
            if candidate is not None and (value := clean(candidate, length)) is not None:
                values[name] = value
        for name, pick in plan.picked:
            candidate = pick(slots, payload, values)
            if candidate is not None:
                values[name] = None if candidate is NOBODY else candidate  # type: ignore[assignment]
        notes: tuple[Reason, ...] = ()
        for field in self._must_be_understood:
            if field.name not in values and (note := _note(field, slots, payload, values)):
                notes += (note,)
        tags = _texts(self._tag_plan, slots, payload, values) if self._tag_plan else {}
        custom = _texts(self._custom_plan, slots, payload, values) if self._custom_plan else {}
        return MappedFields(values, tags, custom, notes)

    def _build_plan(self, trail: tuple[int, ...], payload: object) -> _MappingPlan:
        """Builds the plan for a trail, without alternatives whose path is missing in all payloads of that trail."""
        filled = self.extraction.fillable_slots(payload)
        direct: list[tuple[str, int, Cleaner, int]] = []
        picked: list[tuple[str, PickValue]] = []
        for field in self.fields:
            remaining = tuple(a for a in field.alternatives if a.slot < 0 or a.slot in filled)
            if len(remaining) == 1 and remaining[0].is_plain:
                direct.append((field.name, remaining[0].slot, field.cleaner, field.length))
            elif remaining:
                picked.append((field.name, _picker(remaining, field.cleaner, field.length)))
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = self._plans[trail] = _MappingPlan(tuple(direct), tuple(picked))
        return plan


def _texts(
    plan: tuple[tuple[str, PickValue], ...],
    slots: list[object],
    payload: object,
    values: dict[str, Value],
) -> dict[str, str]:
    picked = {name: pick(slots, payload, values) for name, pick in plan}
    return {name: value for name, value in picked.items() if isinstance(value, str)}


def _note(field: MappedField, slots: list[object], payload: object, values: dict[str, Value]) -> Reason | None:
    """Returns a note about a value that is present but not understood."""
    known_field = FIELDS[field.name]
    for alternative in field.alternatives:
        candidate = alternative.find(slots, payload, values)
        value_text = None if candidate is None or candidate is NOBODY else clean_line(candidate, 100)
        if value_text is not None:
            note = _MUST_BE_UNDERSTOOD[known_field.kind]
            return note(field=Term(known_field.label), value=one_line(value_text))
    return None


def compile_mapping(
    definition: object,
    settings: Mapping[str, object] | None = None,
    field_path: str = "mapping",
) -> CompiledMapping:
    """Compiles a mapping. Raises Rejected("invalid_mapping", "invalid_path" or "invalid_condition") with the field."""
    if not isinstance(definition, Mapping):
        raise rejection(field_path, _NOT_A_MAPPING())
    groups = _group_fields(definition, field_path)
    names = frozenset(name for group in groups for name in group)
    compiler = EntryCompiler(Extraction(), settings or {}, names & FIELDS.keys())
    known, tags, custom = groups
    nested = definition.get("custom") or {}
    fields = tuple(
        _known_field(compiler, name, known[name], f"{field_path}.{name}") for name in FIELDS if name in known
    )
    mapping = CompiledMapping(
        compiler.extraction,
        _dependency_order(fields, field_path),
        tuple(_custom_field(compiler, n, d, f"{field_path}.tags.{n}", clean_line, TAG_LENGTH) for n, d in tags.items()),
        tuple(
            _custom_field(compiler, n, d, f"{field_path}.{'custom.' * (n in nested)}{n}", clean_text, CUSTOM_LENGTH)
            for n, d in custom.items()
        ),
    )
    compiler.extraction.freeze()
    return mapping


type _Group = dict[str, object]


def _group_fields(definition: Mapping[object, object], field_path: str) -> tuple[_Group, _Group, _Group]:
    """Returns known fields, tags and custom fields by name; null removes one."""
    known: _Group = {}
    custom: _Group = {}
    tags: _Group = {}
    for name, entry in definition.items():
        if entry is None:
            continue
        if name in ("tags", "custom"):
            if not isinstance(entry, Mapping):
                raise rejection(f"{field_path}.{name}", sentence("must map names to value sources"))
            (tags if name == "tags" else custom).update(
                {_check_name(n, f"{field_path}.{name}", is_nested=True): d for n, d in entry.items() if d is not None}
            )
        elif name in FIELDS:
            known[str(name)] = entry
        else:
            custom[_check_name(name, field_path)] = entry
    for limit, group, problem in ((MAX_TAGS, tags, _TOO_MANY_TAGS), (MAX_CUSTOM, custom, _TOO_MANY_CUSTOM)):
        if len(group) > limit:
            raise rejection(field_path, problem(maximum=limit, length=len(group)))
    if duplicates := tags.keys() & custom.keys():
        raise rejection(f"{field_path}.{min(duplicates)}", _DUPLICATE_NAME())
    return known, tags, custom


def _check_name(name: object, field_path: str, *, is_nested: bool = False) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
        raise rejection(field_path, _INVALID_NAME(name=repr(str(name)[:40])))
    if is_nested and name in FIELDS:
        raise rejection(f"{field_path}.{name}", _RESERVED_NAME())
    return name


def _known_field(compiler: EntryCompiler, name: str, definition: object, field_path: str) -> MappedField:
    field = FIELDS[name]
    return _field(compiler, name, definition, field_path, CLEANERS[field.kind], field.length)


def _custom_field(
    compiler: EntryCompiler, name: str, definition: object, field_path: str, cleaner: Cleaner, length: int
) -> MappedField:
    return _field(compiler, name, definition, field_path, cleaner, length)


def _field(
    compiler: EntryCompiler, name: str, definition: object, field_path: str, cleaner: Cleaner, length: int
) -> MappedField:
    alternatives = tuple(compiler.alternatives(definition, field_path))
    return MappedField(name, alternatives, cleaner, length, _picker(alternatives, cleaner, length))


def _picker(alternatives: tuple[Alternative, ...], cleaner: Cleaner, length: int) -> PickValue:
    """Returns a function for the first alternative with a value, cleaned. Plain paths are read without a call."""
    steps = tuple((a.slot if a.is_plain else -1, a.slot, a.find) for a in alternatives)

    def pick(slots: list[object], payload: object, values: dict[str, Value]) -> object:
        for plain_slot, slot, find in steps:
            candidate: ExtractedValue
            if plain_slot >= 0:
                candidate = slots[plain_slot]
                if candidate is None:
                    continue
            else:
                if slot >= 0 and slots[slot] is None:
                    continue
                candidate = find(slots, payload, values)
                if candidate is None:
                    continue
                if candidate is NOBODY:
                    return NOBODY
            value = cleaner(candidate, length)
            if value is not None:
                return value
        return None

    return pick


def _dependency_order(fields: tuple[MappedField, ...], field_path: str) -> tuple[MappedField, ...]:
    """Sorts fields so that templates come after the fields they refer to. Raises Rejected for a circular reference."""
    remaining = {f.name: f for f in fields}
    ordered: list[MappedField] = []
    while remaining:
        ready = [
            f for f in remaining.values() if not (set().union(*(a.fields for a in f.alternatives)) & remaining.keys())
        ]
        if not ready:
            name = next(iter(remaining))
            raise rejection(f"{field_path}.{name}", _CIRCULAR())
        for field in ready:
            ordered.append(field)
            del remaining[field.name]
    return tuple(ordered)
