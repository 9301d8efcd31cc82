"""Converts conditions to form rows and back: "all of" and "any of" groups of comparisons. Pure.

The conversion is lossless; a constant inside a group becomes a YAML row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from io import StringIO
from typing import Any

from django.utils.translation import gettext as _
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, as_reason, local_term, sentence, translatable
from tocsin.core.validation.inputs import rejected_at
from tocsin.inbound.conditions import MAX_DEPTH, Operator
from tocsin.inbound.fields import text_of

# ---------- yaml text

_TOO_LONG = Text("The text has more than {limit} characters.")
_TOO_DEEP = Text("The text is nested too deeply.")

#: Limits on length, and on nodes after expanding aliases.
MAX_YAML_CHARS = 200_000
MAX_NODES = 50_000


class _PlainConstructor(SafeConstructor):
    """Constructor without merge keys. YAML 1.2 has none, and a few lines of them can expand beyond available memory."""

    def flatten_mapping(self, node: MappingNode) -> None:
        for key, _value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConstructorError(
                    problem="merge keys (<<) are not taken: write it out", problem_mark=key.start_mark
                )
        super().flatten_mapping(node)


def write(value: object) -> str:
    """Return the YAML of a part; "" for an empty part."""
    if value in (None, {}, [], ""):
        return ""
    stream = StringIO()
    yaml = _yaml()
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("...\n")


def read(text: str, field: str) -> Any:
    """Parse the YAML of a part; None for an empty text. Raises Rejected with line and column."""
    if len(text) > MAX_YAML_CHARS:
        raise Rejected("invalid", _TOO_LONG(limit=MAX_YAML_CHARS), field)
    try:
        value = _yaml().load(text)
        _count(value, [0])
    except YAMLError as error:
        raise Rejected("invalid", as_reason(_describe_error(error)), field) from None
    except RecursionError:
        raise Rejected("invalid", _TOO_DEEP(), field) from None
    except ValueError:
        raise Rejected(
            "invalid", sentence("The text contains an invalid number, date or binary value."), field
        ) from None
    return value


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _PlainConstructor
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    return yaml


def _describe_error(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "this is not YAML"
    return f"Line {mark.line + 1}, column {mark.column + 1}: {problem}." if mark else f"{problem}."


def _count(value: object, counter: list[int]) -> None:
    counter[0] += 1
    if counter[0] > MAX_NODES:
        raise Rejected("invalid", sentence("The aliases expand to too much text. Remove them."), None)
    if isinstance(value, Mapping):
        for part in value.values():
            _count(part, counter)
    elif isinstance(value, list):
        for part in value:
            _count(part, counter)


_TOO_MANY_ROWS = Text("More than {limit} rows: edit the condition as YAML.")

#: Larger conditions are edited as YAML.
MAX_CONDITION_ROWS = 300

#: Operators as worded in the form: form key → (operator, inverted, words).
OPERATOR_LABELS: Mapping[str, tuple[Operator, bool, str]] = {
    "contains": (Operator.CONTAINS, False, translatable("contains")),
    "not contains": (Operator.CONTAINS, True, translatable("does not contain")),
    "equals": (Operator.EQUALS, False, translatable("equals")),
    "not equals": (Operator.EQUALS, True, translatable("does not equal")),
    "one of": (Operator.ONE_OF, False, translatable("is one of")),
    "not one of": (Operator.ONE_OF, True, translatable("is not one of")),
    "starts with": (Operator.STARTS_WITH, False, translatable("starts with")),
    "not starts with": (Operator.STARTS_WITH, True, translatable("does not start with")),
    "ends with": (Operator.ENDS_WITH, False, translatable("ends with")),
    "not ends with": (Operator.ENDS_WITH, True, translatable("does not end with")),
    "matches": (Operator.MATCHES, False, translatable("matches regex")),
    "not matches": (Operator.MATCHES, True, translatable("does not match regex")),
    "exists": (Operator.EXISTS, False, translatable("has a value")),
    "not exists": (Operator.EXISTS, True, translatable("has no value")),
    "greater than": (Operator.GREATER_THAN, False, translatable("is greater than")),
    "not greater than": (Operator.GREATER_THAN, True, translatable("is not greater than")),
    "less than": (Operator.LESS_THAN, False, translatable("is less than")),
    "not less than": (Operator.LESS_THAN, True, translatable("is not less than")),
}


#: The words of those that look for words.
_WORD_LABELS: Mapping[str, str] = {
    "contains": translatable("contains the word"),
    "not contains": translatable("does not contain the word"),
}


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One comparison. `values` contains one value per line."""

    field: str = ""
    operator: str = "contains"
    values: str = ""
    match_case: bool = False
    #: Whether `contains` looks for words.
    words: bool = False


@dataclass(frozen=True, slots=True)
class YamlCondition:
    """A condition that no other row can express, as YAML."""

    text: str


@dataclass(frozen=True, slots=True)
class ConditionGroup:
    """A group whose parts must all, or any, be true. `is_not` inverts the result."""

    parts: tuple[ConditionNode, ...] = ()
    join: str = "all"
    is_not: bool = False


type ConditionNode = ComparisonRow | YamlCondition | ConditionGroup


@dataclass(slots=True)
class ErrorPlaces:
    """Maps each path in a condition to its row, so that errors appear beside it: "rules.open.all[1]" → "open.1"."""

    rows: dict[str, str] = field(default_factory=dict)

    def row(self, place: str) -> str | None:
        """Return the row of a path or of its nearest enclosing path, or None."""
        while place:
            if place in self.rows:
                return self.rows[place]
            dot, bracket = place.rfind("."), place.rfind("[")
            place = place[: max(dot, bracket, 0)]
        return None


def operator_choices() -> list[tuple[str, str]]:
    return [(key, local_term(label)) for key, (_operator, _inverted, label) in OPERATOR_LABELS.items()]


def rows_of(condition: object) -> ConditionGroup:
    """Return the rows of a condition, always as a group. None, true and {} give an empty group."""
    if condition in (None, True, {}):
        return ConditionGroup()
    node = _node(condition, is_not=False)
    return node if isinstance(node, ConditionGroup) else ConditionGroup((node,))


def condition_of(group: ConditionGroup, place: str, row: str, places: ErrorPlaces, *, is_final: bool = True) -> object:
    """Return the condition of the form rows, or None without rows. Raises Rejected for invalid YAML.

    Unless `is_final`, incomplete comparisons are skipped.
    """
    if not is_final and is_incomplete(group):
        return None
    return _condition(group, place, row, places, is_final=is_final) if group.parts or group.is_not else None


def is_incomplete(node: ConditionNode) -> bool:
    """Return whether a comparison, or each one in a group, is still empty."""
    match node:
        case ComparisonRow():
            return not node.field.strip() and not node.values.strip()
        case ConditionGroup():
            return bool(node.parts) and all(map(is_incomplete, node.parts))
        case YamlCondition():
            return False


def read_conditions(post: Mapping[str, Any], prefix: str) -> ConditionGroup:
    """Return the rows posted under `prefix`. Raises Rejected for more than MAX_CONDITION_ROWS rows."""
    node = _read(post, prefix, 0, [0])
    return node if isinstance(node, ConditionGroup) else ConditionGroup()


def change(group: ConditionGroup, path: Iterable[int], action: str) -> ConditionGroup:
    """Apply a button to the rows: `add` or `group` within the group at `path`, `remove` or `copy` of a row."""
    steps = tuple(path)
    if not steps:
        if action == "add" and _count_conditions(group) < MAX_CONDITION_ROWS:
            return replace(group, parts=(*group.parts, ComparisonRow()))
        if action == "group" and _count_conditions(group) < MAX_CONDITION_ROWS:
            join = "any" if group.join == "all" else "all"
            return replace(group, parts=(*group.parts, ConditionGroup((ComparisonRow(),), join)))
        return group
    first, *inner_path = steps
    if first >= len(group.parts):
        return group
    if not inner_path and action == "remove":
        return replace(group, parts=group.parts[:first] + group.parts[first + 1 :])
    part = group.parts[first]
    if isinstance(part, ConditionGroup):
        part = change(part, inner_path, action)
    return replace(group, parts=(*group.parts[:first], part, *group.parts[first + 1 :]))


def with_comparison(group: ConditionGroup, path: Iterable[int], comparison: ComparisonRow) -> ConditionGroup:
    """Return the rows with `comparison` in the group at or around `path`: in place of a row without a value, else
    last."""
    steps = tuple(path)
    added: ConditionNode = comparison
    if steps and steps[0] < len(group.parts) and isinstance(part := group.parts[steps[0]], ConditionGroup):
        number, added = steps[0], with_comparison(part, steps[1:], comparison)
    elif _count_conditions(group) < MAX_CONDITION_ROWS:
        without_value = (
            n
            for n, part in enumerate(group.parts)
            if isinstance(part, ComparisonRow) and not part.values.strip() and not part.operator.endswith("exists")
        )
        number = next(without_value, len(group.parts))
    else:
        return group
    return replace(group, parts=(*group.parts[:number], added, *group.parts[number + 1 :]))


def comparison_with(name: str, value: object) -> ComparisonRow:
    """Return the comparison that is true for `value`: equals it, or has no value."""
    text = (text_of(value) or "").strip()
    if not text:
        return ComparisonRow(name, "not exists")
    first_line, *more = text.splitlines()
    return ComparisonRow(name, "starts with" if more else "equals", first_line)


def comparisons(node: ConditionNode, row: str) -> Iterator[tuple[str, ComparisonRow | YamlCondition]]:
    """Yield (path, row) of the rows that are not groups."""
    if not isinstance(node, ConditionGroup):
        yield row, node
        return
    for number, part in enumerate(node.parts):
        yield from comparisons(part, f"{row}.{number}")


def describe_condition(condition: object, labels: Mapping[str, str]) -> str:
    """Describe a condition in a sentence, such as "status contains New, and type does not equal Project"."""
    if condition in (None, True, {}):
        return "always"
    if condition is False:
        return "never"
    return describe_rows(_node(condition, is_not=False), labels)


def describe_rows(node: ConditionNode, labels: Mapping[str, str], *, is_inside: bool = False) -> str:
    """Describe a condition of the form in a sentence; with parentheses if it `is_inside` another."""
    match node:
        case YamlCondition(text):
            return text.strip()
        case ComparisonRow():
            label = OPERATOR_LABELS[node.operator][2] if node.operator in OPERATOR_LABELS else None
            if node.words:
                label = _WORD_LABELS.get(node.operator, label)
            operator_label = node.operator if label is None else local_term(label)
            *first, last = [line for line in node.values.split("\n") if line] or [""]
            value_text = f" {_('or')} ".join((", ".join(first), last)) if first else last
            case_suffix = f" ({_('match case')})" if node.match_case else ""
            if not value_text and not node.operator.endswith("exists"):
                value_text = "…"
            return f"{labels.get(node.field, node.field) or '…'} {operator_label} {value_text}".rstrip() + case_suffix
        case ConditionGroup():
            if not node.parts:
                return "never" if node.is_not is (node.join == "all") else "always"
            inner = f", {_('and') if node.join == 'all' else _('or')} ".join(
                describe_rows(part, labels, is_inside=True) for part in node.parts
            )
            if node.is_not:
                return f"{_('not')} ({inner})"
            return f"({inner})" if is_inside and len(node.parts) > 1 else inner


def _node(condition: Any, *, is_not: bool, depth: int = 0) -> ConditionNode:
    if isinstance(condition, Mapping) and depth <= MAX_DEPTH:
        if "field" in condition:
            comparison = _comparison_row(condition, is_not=is_not)
            if comparison is not None:
                return comparison
        elif set(condition) == {"not"}:
            return _node(condition["not"], is_not=not is_not, depth=depth + 1)
        elif len(condition) == 1 and (join := next(iter(condition))) in ("all", "any"):
            parts = condition[join]
            if isinstance(parts, list | tuple):
                return ConditionGroup(tuple(_node(part, is_not=False, depth=depth + 1) for part in parts), join, is_not)
    return YamlCondition(write({"not": condition} if is_not else condition) or "true\n")


def _comparison_row(condition: Mapping[str, Any], *, is_not: bool) -> ComparisonRow | None:
    if not condition.keys() <= {"field", "operator", "value", "match_case", "words", "not"}:
        return None
    name = " ".join(str(condition.get("operator", "")).replace("_", " ").split()).casefold()
    inverted = is_not is not bool(condition.get("not", False))
    key = f"not {name}" if inverted else name
    value = condition.get("value")
    items = value if isinstance(value, list | tuple) else [] if value is None else [value]
    texts = [text_of(item) for item in items]
    if key not in OPERATOR_LABELS or not isinstance(condition["field"], str) or any(not t or "\n" in t for t in texts):
        return None
    match_case, words = (condition.get(name) is True for name in ("match_case", "words"))
    return ComparisonRow(condition["field"], key, "\n".join(t for t in texts if t), match_case, words)


def _condition(node: ConditionNode, place: str, row: str, places: ErrorPlaces, *, is_final: bool) -> object:
    match node:
        case YamlCondition(text):
            places.rows[place] = row
            return read(text, place)
        case ComparisonRow():
            return _condition_of_comparison(node, place, row, places)
        case ConditionGroup():
            inner_place = f"{place}.not" if node.is_not else place
            parts = [(f"{row}.{n}", part) for n, part in enumerate(node.parts) if is_final or not is_incomplete(part)]
            if len(parts) == 1 and not isinstance(parts[0][1], ConditionGroup):
                condition = _condition(parts[0][1], inner_place, parts[0][0], places, is_final=is_final)
            else:
                condition = {
                    node.join: [
                        _condition(part, f"{inner_place}.{node.join}[{number}]", name, places, is_final=is_final)
                        for number, (name, part) in enumerate(parts)
                    ]
                }
            places.rows.setdefault(place, row)
            return {"not": condition} if node.is_not else condition


def _condition_of_comparison(comparison: ComparisonRow, place: str, row: str, places: ErrorPlaces) -> object:
    operator, inverted, _words = OPERATOR_LABELS.get(comparison.operator, (comparison.operator, False, ""))
    values = [line.strip() if operator is not Operator.MATCHES else line for line in comparison.values.split("\n")]
    values = [line for line in values if line]
    condition: dict[str, Any] = {"field": comparison.field.strip(), "operator": str(operator)}
    if operator is Operator.ONE_OF:
        condition["value"] = values
    elif operator is not Operator.EXISTS:
        condition["value"] = values[0] if len(values) == 1 else values or ""
    if comparison.match_case:
        condition["match_case"] = True
    if comparison.words and operator is Operator.CONTAINS:
        condition["words"] = True
    places.rows[place] = row
    if inverted:
        places.rows[f"{place}.not"] = row
        return {"not": condition}
    return condition


def _read(post: Mapping[str, Any], prefix: str, depth: int, counter: list[int]) -> ConditionNode:
    counter[0] += 1
    if counter[0] > MAX_CONDITION_ROWS * 2 or depth > MAX_DEPTH:
        raise Rejected("invalid", _TOO_MANY_ROWS(limit=MAX_CONDITION_ROWS), None)
    match post.get(f"{prefix}.type", "group"):
        case "comparison":
            return ComparisonRow(
                post.get(f"{prefix}.field", ""),
                post.get(f"{prefix}.op", "contains"),
                post.get(f"{prefix}.values", "").replace("\r\n", "\n"),
                f"{prefix}.case" in post,
                f"{prefix}.words" in post,
            )
        case "yaml":
            return YamlCondition(post.get(f"{prefix}.text", ""))
        case _:
            parts: list[ConditionNode] = []
            while f"{prefix}.{len(parts)}.type" in post:
                parts.append(_read(post, f"{prefix}.{len(parts)}", depth + 1, counter))
            join = "any" if post.get(f"{prefix}.join") == "any" else "all"
            return ConditionGroup(tuple(parts), join, f"{prefix}.not" in post)


def _count_conditions(node: ConditionNode) -> int:
    return 1 + sum(map(_count_conditions, node.parts)) if isinstance(node, ConditionGroup) else 1


# ---------- field form
# Converts mapped fields to form rows and back: value origin, text and value map. Pure.
#
# A definition that a row cannot express (mixed alternatives, conditions) is kept as YAML in its row.

_NO_SOURCE = Text("enter a path or choose Default")
_NOT_A_PAIR = Text("value map, line {line}: use the format from = to")


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
        needs_text = self.origin not in (ValueOrigin.DEFAULT, ValueOrigin.NOTHING)
        return needs_text and not self.text.strip() and not self.table.strip()


def entry_of(definition: object, *, is_set: bool = True) -> FieldEntry:
    """Return the row of a field's mapping. `is_set` is false if the mapping does not contain the field."""
    if not is_set:
        return FieldEntry()
    if definition is None:
        return FieldEntry(ValueOrigin.NOTHING)
    return _simple(definition) or FieldEntry(ValueOrigin.YAML, write(definition))


def definition_of(entry: FieldEntry, place: str) -> object:
    """Return the mapping of a row that is not the type's default. Raises Rejected for `place`."""
    text = entry.text.replace("\r\n", "\n")
    match entry.origin:
        case ValueOrigin.DEFAULT | ValueOrigin.NOTHING:
            return None
        case ValueOrigin.YAML:
            return _require_value(read(text, place), place)
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


def describe_sources(definition: object) -> list[str]:
    """Describe each source of a field's mapping, in the order in which they are tried."""
    items = definition if isinstance(definition, list | tuple) else [definition]
    return [f"{source}{_describe_table(item)}" for item in items for source in _sources(item)]


def write_table(table: Mapping[Any, Any]) -> str:
    """Format a value map as `from = to` lines."""
    return "\n".join(f"{text_of(key) or ''} = {text_of(value) or ''}" for key, value in table.items())


def read_table(text: str, place: str, not_a_pair: Text = _NOT_A_PAIR, code: str = "invalid_mapping") -> dict[str, str]:
    """Parse `from = to` lines. Raises Rejected with the line number."""
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, separator, value = line.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise rejected_at(place, not_a_pair(line=number), code)
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
        entry = _simple(value)
        if entry is None or entry.origin is not ValueOrigin.PATHS:
            return None
        return replace(entry, table=write_table(table))
    if not isinstance(value, str) or "\r" in value:
        return None
    return FieldEntry(ValueOrigin(sources[0]), value, write_table(table))


def _is_line(path: str) -> bool:
    return bool(path) and path == path.strip() and "\n" not in path


def _require_value(value: Any, place: str) -> Any:
    if value in (None, "", [], {}):
        raise rejected_at(place, _NO_SOURCE(), "invalid_mapping")
    return value


def _describe_item(item: object) -> str:
    return _join_alternatives(_sources(item)) + _describe_table(item)


def _sources(item: object) -> list[str]:
    if not isinstance(item, Mapping):
        return [str(item)]
    if "literal" in item:
        return [f'"{item["literal"]}"']
    source = item.get("paths") or item.get("path") or item.get("template") or ""
    return list(map(str, source)) if isinstance(source, list | tuple) else [str(source)]


def _describe_table(item: object) -> str:
    table = item.get("map") if isinstance(item, Mapping) else None
    if isinstance(table, Mapping) and table:
        return " → " + ", ".join(f"{key} {value}" for key, value in list(table.items())[:4])
    return f" → {table}" if table else ""


def _join_alternatives(sources: Iterable[str]) -> str:
    return f", {_('else')} ".join(sources)
