"""Converts mapped fields to form rows and back: value origin, text and value map. Pure.

A definition that a row cannot express (mixed alternatives, conditions) is kept as YAML in its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _

from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import rejected_at
from tocsin.inbound.expressions.fields import text_of
from tocsin.web.integrations.editor import yaml_text

_NO_SOURCE = ReasonType("mapping.no_source", "enter a path or choose Default")
_NOT_A_PAIR = ReasonType("mapping.not_a_pair", "value map, line {line}: use the format from = to")


class ValueOrigin(StrEnum):
    """Where a field's value comes from."""

    DEFAULT = ""  # the integration type's default
    PATHS = "paths"  # the first of these paths that has a value
    TEMPLATE = "template"
    LITERAL = "literal"
    NOTHING = "nothing"  # never a value, even if the type has a default
    YAML = "yaml"  # any definition, as YAML


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """One row. `text` is one path per line, a template, a literal or YAML; `table` is a value map, one `from = to` per
    line."""

    origin: ValueOrigin = ValueOrigin.DEFAULT
    text: str = ""
    table: str = ""

    @property
    def is_incomplete(self) -> bool:
        """Return whether an origin was chosen but its text is still empty."""
        return (
            self.origin not in (ValueOrigin.DEFAULT, ValueOrigin.NOTHING)
            and not self.text.strip()
            and not self.table.strip()
        )


def entry_of(definition: object, *, is_set: bool = True) -> FieldEntry:
    """Return the row of a field's mapping. `is_set` is false if the mapping does not contain the field."""
    if not is_set:
        return FieldEntry()
    if definition is None:
        return FieldEntry(ValueOrigin.NOTHING)
    return _simple(definition) or FieldEntry(ValueOrigin.YAML, yaml_text.write(definition))


def definition_of(entry: FieldEntry, place: str) -> object:
    """Return the mapping of a row that is not the type's default. Raises Rejected for `place`."""
    text = entry.text.replace("\r\n", "\n")
    match entry.origin:
        case ValueOrigin.DEFAULT | ValueOrigin.NOTHING:
            return None
        case ValueOrigin.YAML:
            return _require_value(yaml_text.read(text, place), place)
        case ValueOrigin.PATHS:
            paths = [line.strip() for line in text.split("\n") if line.strip()]
            _require_value(paths, place)
            table = read_table(entry.table, place)
            if table:
                return {"path": paths[0], "map": table} if len(paths) == 1 else {"paths": paths, "map": table}
            return paths[0] if len(paths) == 1 else paths
        case ValueOrigin.TEMPLATE | ValueOrigin.LITERAL:
            _require_value(text, place)
            table = read_table(entry.table, place)
            return {entry.origin.value: text, **({"map": table} if table else {})}


def with_table(default: object, entry: FieldEntry, place: str) -> object:
    """Return the type's default mapping of a field with the row's value map in place of its own.

    Raises Rejected for `place` if neither the row nor the type defines where the value comes from.
    """
    table = read_table(entry.table, place)
    entry_of_default = _simple(default)
    if entry_of_default is not None:
        return definition_of(replace(entry_of_default, table=entry.table), place)
    if not default:
        raise rejected_at(place, _NO_SOURCE(), "invalid_mapping")
    items = default if isinstance(default, list | tuple) else [default]
    mapped = [{**(item if isinstance(item, Mapping) else {"path": item}), "map": table} for item in items]
    return mapped if len(mapped) > 1 else mapped[0]


def describe_mapping(definition: object, *, max_length: int = 100) -> str:
    """Describe a field's mapping in one line, such as "ticket^status^name, else status"."""
    items = definition if isinstance(definition, list | tuple) else [definition]
    text = _join_alternatives(_describe_item(item) for item in items)
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def write_table(table: Mapping[Any, Any]) -> str:
    """Format a value map as `from = to` lines."""
    return "\n".join(f"{text_of(key) or ''} = {text_of(value) or ''}" for key, value in table.items())


def read_table(text: str, place: str) -> dict[str, str]:
    """Parse `from = to` lines. Raises Rejected with the line number."""
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, separator, value = line.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise rejected_at(place, _NOT_A_PAIR(line=number), "invalid_mapping")
        table[key.strip()] = value.strip()
    return table


def _simple(definition: object) -> FieldEntry | None:
    """Return the row of a definition that a row can express, else None."""
    if isinstance(definition, str):
        return FieldEntry(ValueOrigin.PATHS, definition) if _is_line(definition) else None
    if isinstance(definition, list | tuple):
        lines = [path for path in definition if isinstance(path, str) and _is_line(path)]
        return FieldEntry(ValueOrigin.PATHS, "\n".join(lines)) if lines and len(lines) == len(definition) else None
    if not isinstance(definition, Mapping) or not definition.keys() <= {"path", "paths", "template", "literal", "map"}:
        return None
    table = definition.get("map", {})
    if not isinstance(table, Mapping) or any("=" in str(key) or "\n" in f"{key}{to}" for key, to in table.items()):
        return None
    sources = [key for key in ("path", "paths", "template", "literal") if key in definition]
    if len(sources) != 1:
        return None
    value = definition[sources[0]]
    if sources[0] in ("path", "paths"):
        inner = _simple(value)
        source_entry = inner if inner is not None and inner.origin is ValueOrigin.PATHS else None
    else:
        source_entry = (
            FieldEntry(ValueOrigin(sources[0]), value) if isinstance(value, str) and "\r" not in value else None
        )
    return FieldEntry(source_entry.origin, source_entry.text, write_table(table)) if source_entry is not None else None


def _is_line(path: str) -> bool:
    return bool(path) and path == path.strip() and "\n" not in path


def _require_value(value: Any, place: str) -> Any:
    if value in (None, "", [], {}):
        raise rejected_at(place, _NO_SOURCE(), "invalid_mapping")
    return value


def _describe_item(item: object) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    if "literal" in item:
        text = f'"{item["literal"]}"'
    else:
        source = item.get("paths") or item.get("path") or item.get("template") or ""
        text = _join_alternatives(map(str, source)) if isinstance(source, list | tuple) else str(source)
    table = item.get("map")
    if isinstance(table, Mapping) and table:
        text += " → " + ", ".join(f"{key} {value}" for key, value in list(table.items())[:4])
    elif table:
        text += f" → {table}"
    return text


def _join_alternatives(sources: Iterable[str]) -> str:
    return f", {_('else')} ".join(sources)
