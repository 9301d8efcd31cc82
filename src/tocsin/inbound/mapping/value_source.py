"""One alternative of a mapped field: where its value comes from, and how it is transformed.

`between` and `pattern` take a part of a text; `only` keeps values of one type (others are no value); `nobody` lists
values that mean "nobody"; `map` translates; `else` replaces untranslated values (`<value>` stands for the value; "" is
no value); `when` is a condition on paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, joined
from tocsin.core.validation.field_errors import AT_PATH, unknown_key
from tocsin.core.validation.payload_paths import PATH_NOT_TEXT
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.inbound.expressions.fields import Value, clean_line, is_unset_date, number_of, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping import substring
from tocsin.inbound.mapping.extraction import Extraction
from tocsin.inbound.mapping.specs import ValueSourceSpec, ValueType
from tocsin.inbound.mapping.templates import Template, compile_template

_NO_ALTERNATIVE = ReasonType("mapping.no_alternative", "give at least one path")
_TOO_MANY_ALTERNATIVES = ReasonType("mapping.too_many_alternatives", "at most {maximum} alternatives")
_NESTED_LIST = ReasonType("mapping.nested_list", "a list in a list; give a path or an object")
_NOT_AN_ENTRY = ReasonType(
    "mapping.malformed_entry", "give a path, a list of paths, or {path, paths, template or literal: …}"
)
_ONE_SOURCE = ReasonType("mapping.not_one_source", "give exactly one of {keys}")
_PATHS_NOT_A_LIST = ReasonType("mapping.paths_not_a_list", "must be a list of paths")
_NOT_A_VALUE_MAP = ReasonType(
    "mapping.malformed_value_map", "a value map is {from: to}, or the name of a setting that holds one"
)
_VALUE_MAP_TOO_LONG = ReasonType("mapping.value_map_too_long", "a value map has at most {maximum} rows")
_INVALID_VALUE_MAP_ROW = ReasonType("mapping.invalid_value_map_row", "must map a text or number to non-empty text")
_INVALID_LITERAL = ReasonType(
    "mapping.invalid_literal", "a literal is a text, a number, true, false, or a list of those"
)
_UNKNOWN_TYPE = ReasonType("mapping.unknown_value_type", 'unknown type "{type}"; one of {types}')
_NOBODY_REQUIRED = ReasonType("mapping.nobody_required", 'enter the values that mean "no one"')
_INVALID_DEFAULT = ReasonType("mapping.invalid_else", 'must be text; "" for no value, <value> stands for the value')

#: How an alternative transforms its value, for a trace.
_ONLY_TYPE = ReasonType("mapping.step_only", "only {type}")
_TRANSLATED = ReasonType("mapping.step_translated", "mapped")
_TRANSLATED_BY = ReasonType("mapping.step_translated_by", "mapped by {setting}")
_ELSE = ReasonType("mapping.step_else", "else {value}")
_ON_CONDITION = ReasonType("mapping.step_on_condition", "conditional")

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
            raise rejection(field_path, _NO_ALTERNATIVE())
        if len(compiled) > MAX_ALTERNATIVES:
            raise rejection(field_path, _TOO_MANY_ALTERNATIVES(maximum=MAX_ALTERNATIVES))
        return compiled

    def _alternatives(self, definition: object, field_path: str) -> Iterator[Alternative]:
        if isinstance(definition, list | tuple):
            for i, entry in enumerate(definition):
                if isinstance(entry, list | tuple):
                    raise rejection(f"{field_path}[{i}]", _NESTED_LIST())
                yield from self._alternatives(entry, f"{field_path}[{i}]")
        elif isinstance(definition, str):
            slot = self.extraction.slot(definition, field_path)
            yield Alternative(field_path, definition, slot, True, _slot_reader(slot))
        elif isinstance(definition, Mapping):
            yield from self._entry(definition, field_path)
        else:
            raise rejection(field_path, _NOT_AN_ENTRY())

    def _entry(self, definition: Mapping[str, object], field_path: str) -> Iterator[Alternative]:
        for key in definition:
            if key not in _KEYS:
                raise rejection(f"{field_path}.{key}", unknown_key(str(key), _KEYS))
        sources = [key for key in _SOURCES if key in definition]
        if len(sources) != 1:
            raise rejection(field_path, _ONE_SOURCE(keys=", ".join(_SOURCES)))
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
                    raise rejection(f"{field_path}.paths", _PATHS_NOT_A_LIST())
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
        if (part := substring.compile_part(definition, field_path)) is not None:
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
            raise rejection(field_path, _NOT_A_VALUE_MAP())
        if len(table) > MAX_MAP:
            raise rejection(field_path, _VALUE_MAP_TOO_LONG(maximum=MAX_MAP))
        translated: dict[str, str] = {}
        for key, value in table.items():
            source, target = text_of(key), text_of(value)
            if source is None or target is None or isinstance(value, list | dict):
                raise rejection(f"{field_path}.{str(key)[:40]}", _INVALID_VALUE_MAP_ROW())
            translated[source.strip().casefold()] = target
        return translated


def _describe_transformations(definition: Mapping[str, object]) -> Reason:
    steps = [substring.describe_part(definition)]
    if "only" in definition:
        steps.append(_ONLY_TYPE(type=str(definition["only"])))
    if "map" in definition:
        table = definition["map"]
        steps.append(_TRANSLATED_BY(setting=table) if isinstance(table, str) else _TRANSLATED())
    if definition.get("else"):
        steps.append(_ELSE(value=str(definition["else"])))
    if "when" in definition:
        steps.append(_ON_CONDITION())
    return joined(*steps, separator=", ")


def _slot_reader(slot: int) -> Callable[[list[object], object, dict[str, Value]], ExtractedValue]:
    return lambda slots, payload, values: slots[slot]


def _unchanged(value: object) -> ExtractedValue:
    return value


def _literal(
    value: object, field_path: str, transform: Callable[[object], ExtractedValue] | None, when: CompiledCondition | None
) -> Alternative:
    if not isinstance(value, str | int | float | list) or value in ("", []):
        raise rejection(field_path, _INVALID_LITERAL())
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
        raise rejection(field_path, _UNKNOWN_TYPE(type=str(value)[:40], types=", ".join(ValueType))) from None


def _nobody(value: object, field_path: str) -> Callable[[object], ExtractedValue]:
    items = value if isinstance(value, list | tuple) else [value]
    texts = frozenset(item_text.strip().casefold() for item in items if (item_text := _raw_text(item)) is not None)
    if not texts:
        raise rejection(field_path, _NOBODY_REQUIRED())

    def find(value: object) -> ExtractedValue:
        text = _raw_text(value)
        return NOBODY if text is not None and len(text) < 200 and text.strip().casefold() in texts else value

    return find


def _raw_text(value: object) -> str | None:
    """Like `text_of`, except that an empty text, which templates make of an empty field, is a value too."""
    return value if type(value) is str else text_of(value)


def _translation(table: Mapping[str, str], default: object, field_path: str) -> Callable[[object], ExtractedValue]:
    if default is not None and not isinstance(default, str):
        raise rejection(field_path, _INVALID_DEFAULT())

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
