"""One alternative of a mapped field: where its value comes from, and how it is transformed.

`between` and `pattern` take a part of a text; `only` keeps values of one type (others are no value); `nobody` lists
values that mean "nobody"; `map` translates; `else` replaces untranslated values (`<value>` stands for the value; "" is
no value); `when` is a condition on paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.inbound.expressions.conditions import CompiledCondition, compile_condition
from tocsin.inbound.expressions.fields import Value, is_unset_date, line, number_of, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.mapping import substring
from tocsin.inbound.mapping.extraction import Extraction
from tocsin.inbound.mapping.templates import Template, compile_template

MAX_ALTERNATIVES: Final = 100
MAX_MAP: Final = 2000

type FoundValue = object  # a payload value, a text, NOBODY, or None for no value


class _Unassigned:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOBODY"


#: The message explicitly says "nobody": no further alternative is tried.
NOBODY: Final = _Unassigned()


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


@dataclass(frozen=True, slots=True)
class Alternative:
    """`find(slots, payload, values)` → the value before cleaning, NOBODY, or None.

    `slot` is the slot that it reads, or -1; `is_plain` means that `find` returns just that slot.
    """

    place: str
    said: str  # the source in a trace: the path, the template, the literal
    slot: int
    is_plain: bool
    find: Callable[[list[object], object, dict[str, Value]], FoundValue]
    fields: frozenset[str] = frozenset()
    terms: str = ""  # the transformations in words: "only guid"


_KEYS: Final = (
    "path", "paths", "template", "literal", "between", "pattern", "group", "only", "nobody", "map", "else", "when",
)  # fmt: skip
_SOURCES: Final = ("path", "paths", "template", "literal")
_NOTHING: Final = MappedFields({}, {}, {})


class EntryCompiler:
    """Compiles the alternatives of all fields of a mapping, sharing one extraction."""

    def __init__(self, extraction: Extraction, settings: Mapping[str, object], fields: frozenset[str]) -> None:
        self.extraction = extraction
        self.settings = settings
        self.fields = fields

    def alternatives(self, definition: object, place: str) -> list[Alternative]:
        found = list(self._alternatives(definition, place))
        if not found:
            raise rejection(place, "give at least one path")
        if len(found) > MAX_ALTERNATIVES:
            raise rejection(place, f"at most {MAX_ALTERNATIVES} alternatives")
        return found

    def _alternatives(self, definition: object, place: str) -> Iterator[Alternative]:
        if isinstance(definition, list | tuple):
            for i, one in enumerate(definition):
                if isinstance(one, list | tuple):
                    raise rejection(f"{place}[{i}]", "a list in a list; give a path or an object")
                yield from self._alternatives(one, f"{place}[{i}]")
        elif isinstance(definition, str):
            slot = self.extraction.slot(definition, place)
            yield Alternative(place, definition, slot, True, _slot_reader(slot))
        elif isinstance(definition, Mapping):
            yield from self._entry(definition, place)
        else:
            raise rejection(place, "give a path, a list of paths, or {path, paths, template or literal: …}")

    def _entry(self, definition: Mapping[str, object], place: str) -> Iterator[Alternative]:
        for key in definition:
            if key not in _KEYS:
                raise rejection(f"{place}.{key}", f"unknown key; one of {', '.join(_KEYS)}")
        sources = [key for key in _SOURCES if key in definition]
        if len(sources) != 1:
            raise rejection(place, f"give exactly one of {', '.join(_SOURCES)}")
        finish = self._finisher(definition, place)
        when = self._when(definition, place)
        terms = _terms(definition)
        for one in self._sourced(definition, sources[0], place, finish, when):
            yield replace(one, terms=terms)

    def _sourced(
        self,
        definition: Mapping[str, object],
        source: str,
        place: str,
        finish: Callable[[object], FoundValue] | None,
        when: CompiledCondition | None,
    ) -> Iterator[Alternative]:
        match source:
            case "path":
                yield self._path(definition["path"], f"{place}.path", finish, when)
            case "paths":
                paths = definition["paths"]
                if not isinstance(paths, list | tuple) or not paths:
                    raise rejection(f"{place}.paths", "must be a list of paths")
                for i, path in enumerate(paths):
                    yield self._path(path, f"{place}.paths[{i}]", finish, when)
            case "template":
                yield self._template(definition["template"], f"{place}.template", finish, when)
            case _:
                yield _literal(definition["literal"], f"{place}.literal", finish, when)

    def _path(
        self, path: object, place: str, finish: Callable[[object], FoundValue] | None, when: CompiledCondition | None
    ) -> Alternative:
        if not isinstance(path, str):
            raise rejection(place, "a path is text such as ticket^status^name")
        slot = self.extraction.slot(path, place)
        if finish is None and when is None:
            return Alternative(place, path, slot, True, _slot_reader(slot))
        done = finish or _unchanged

        def find(slots: list[object], payload: object, values: dict[str, Value]) -> FoundValue:
            value = slots[slot]
            if value is None or (when is not None and not when.holds(payload, _NOTHING)):
                return None
            return done(value)

        return Alternative(place, path, slot, False, find)

    def _template(
        self, text: object, place: str, finish: Callable[[object], FoundValue] | None, when: CompiledCondition | None
    ) -> Alternative:
        template: Template = compile_template(text, self.extraction, self.settings, place, self.fields)
        done = finish or _unchanged

        def find(slots: list[object], payload: object, values: dict[str, Value]) -> FoundValue:
            if when is not None and not when.holds(payload, _NOTHING):
                return None
            value = template.render(slots, values)
            return None if value is None else done(value)

        return Alternative(place, template.text, -1, False, find, template.fields)

    def _when(self, definition: Mapping[str, object], place: str) -> CompiledCondition | None:
        return compile_condition(definition["when"], f"{place}.when") if "when" in definition else None

    def _finisher(self, definition: Mapping[str, object], place: str) -> Callable[[object], FoundValue] | None:
        steps: list[Callable[[object], FoundValue]] = []
        if (part := substring.compile_part(definition, place)) is not None:
            steps.append(part)
        if (only := definition.get("only")) is not None:
            steps.append(_only(only, f"{place}.only"))
        if (nobody := definition.get("nobody")) is not None:
            steps.append(_nobody(nobody, f"{place}.nobody"))
        if (table := definition.get("map")) is not None or "else" in definition:
            steps.append(_translation(self._table(table, f"{place}.map"), definition.get("else"), f"{place}.else"))
        if len(steps) < 2:
            return steps[0] if steps else None

        def finish(value: object) -> FoundValue:
            for step in steps:
                value = step(value)
                if value is None or value is NOBODY:
                    return value
            return value

        return finish

    def _table(self, table: object, place: str) -> dict[str, str]:
        """Returns a value map, given literally or as the name of a setting that contains one."""
        if isinstance(table, str):
            table = self.settings.get(table) or {}
        if table is None:
            return {}
        if not isinstance(table, Mapping):
            raise rejection(place, "a value map is {from: to}, or the name of a setting that holds one")
        if len(table) > MAX_MAP:
            raise rejection(place, f"a value map has at most {MAX_MAP} rows")
        translated: dict[str, str] = {}
        for key, value in table.items():
            source, target = text_of(key), text_of(value)
            if source is None or target is None or isinstance(value, list | dict):
                raise rejection(f"{place}.{str(key)[:40]}", "translates a text or number into a text that is not empty")
            translated[source.strip().casefold()] = target
        return translated


def _terms(definition: Mapping[str, object]) -> str:
    said = [part] if (part := substring.describe(definition)) else []
    if "only" in definition:
        said.append(f"only {definition['only']}")
    if "map" in definition:
        said.append(f"translated by {definition['map']}" if isinstance(definition["map"], str) else "translated")
    if definition.get("else"):
        said.append(f"else {definition['else']}")
    if "when" in definition:
        said.append("on a condition")
    return ", ".join(said)


def _slot_reader(slot: int) -> Callable[[list[object], object, dict[str, Value]], FoundValue]:
    return lambda slots, payload, values: slots[slot]


def _unchanged(value: object) -> FoundValue:
    return value


def _literal(
    value: object, place: str, finish: Callable[[object], FoundValue] | None, when: CompiledCondition | None
) -> Alternative:
    if not isinstance(value, str | int | float | list) or value in ("", []):
        raise rejection(place, "a literal is a text, a number, true, false, or a list of those")
    done = (finish or _unchanged)(value)

    def find(slots: list[object], payload: object, values: dict[str, Value]) -> FoundValue:
        return done if when is None or when.holds(payload, _NOTHING) else None

    return Alternative(place, f'"{text_of(value)}"', -1, False, find)


_GUID: Final = re.compile(r"\{?[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?")


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value
    if type(value) is str and len(value) <= 40 and value.isascii() and (digits := value.strip()).isdigit():
        return int(digits)
    number = number_of(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 1e16 else None


def _scalar(value: object) -> FoundValue:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


_ONLY: Final[Mapping[ValueType, Callable[[object], FoundValue]]] = {
    ValueType.TEXT: _scalar,
    ValueType.WORDS: lambda value: (
        value if type(value) is str and (value[:1].isalpha() or number_of(value) is None) else None
    ),
    ValueType.NUMBER: lambda value: value if number_of(value) is not None else None,
    ValueType.INTEGER: _whole,
    ValueType.POSITIVE: lambda value: whole if (whole := _whole(value)) is not None and int(whole) > 0 else None,
    ValueType.GUID: lambda value: value if type(value) is str and _GUID.fullmatch(value) else None,
    ValueType.DATE: lambda value: value if (said := line(value, 100)) and not is_unset_date(said) else None,
    ValueType.EMAIL: lambda value: (
        value if type(value) is str and re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,250}", value) else None
    ),
}


def _only(value: object, place: str) -> Callable[[object], FoundValue]:
    try:
        return _ONLY[ValueType(str(value))]
    except ValueError:
        raise rejection(place, f"unknown sort '{str(value)[:40]}'; one of {', '.join(ValueType)}") from None


def _nobody(value: object, place: str) -> Callable[[object], FoundValue]:
    items = value if isinstance(value, list | tuple) else [value]
    texts = frozenset(said.strip().casefold() for item in items if (said := _said(item)) is not None)
    if not texts:
        raise rejection(place, 'give the values that mean "nobody"')

    def find(value: object) -> FoundValue:
        said = _said(value)
        return NOBODY if said is not None and len(said) < 200 and said.strip().casefold() in texts else value

    return find


def _said(value: object) -> str | None:
    """Like `text_of`, except that an empty text, which templates make of an empty field, is a value too."""
    return value if type(value) is str else text_of(value)


def _translation(table: Mapping[str, str], otherwise: object, place: str) -> Callable[[object], FoundValue]:
    if otherwise is not None and not isinstance(otherwise, str):
        raise rejection(place, 'must be text; "" for no value, <value> stands for the value')

    def translate(value: object) -> FoundValue:
        said = text_of(value)
        if said is None:
            return None
        found = table.get(said.strip().casefold()) if len(said) < 500 else None
        if found is not None or otherwise == "":
            return found
        return value if otherwise is None else otherwise.replace("<value>", said.strip()[:500])

    return translate


def rejection(place: str, problem: str) -> Rejected:
    return Rejected("invalid_mapping", f"{place}: {problem}", place)
