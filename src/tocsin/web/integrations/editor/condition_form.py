"""Converts conditions to form rows and back: "all of" and "any of" groups of comparisons. Pure.

The conversion is lossless; a constant inside a group becomes a YAML row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext as _

from tocsin.core.errors import Rejected
from tocsin.core.locale_format import local_term
from tocsin.core.reasons import ReasonType, translatable
from tocsin.inbound.expressions.comparisons import Operator
from tocsin.inbound.expressions.conditions import MAX_DEPTH
from tocsin.inbound.expressions.fields import text_of
from tocsin.web.integrations.editor import yaml_text

_TOO_MANY_ROWS = ReasonType("condition.too_many_rows", "More than {limit} rows: edit the condition as YAML.")

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
    """Return (form key, label) of every comparison."""
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


def read(post: Mapping[str, Any], prefix: str) -> ConditionGroup:
    """Return the rows posted under `prefix`. Raises Rejected for more than MAX_CONDITION_ROWS rows."""
    node = _read(post, prefix, 0, [0])
    return node if isinstance(node, ConditionGroup) else ConditionGroup()


def change(group: ConditionGroup, path: Iterable[int], action: str) -> ConditionGroup:
    """Apply a button to the rows: `add` or `group` within the group at `path`, `remove` or `copy` of a row."""
    steps = tuple(path)
    if not steps:
        if action == "add" and _count(group) < MAX_CONDITION_ROWS:
            return replace(group, parts=(*group.parts, ComparisonRow()))
        if action == "group" and _count(group) < MAX_CONDITION_ROWS:
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
    elif _count(group) < MAX_CONDITION_ROWS:
        number = next((n for n, part in enumerate(group.parts) if _has_no_value(part)), len(group.parts))
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


def comparison_paths(node: ConditionNode, row: str) -> list[str]:
    """Return the paths of the rows that are not groups."""
    if not isinstance(node, ConditionGroup):
        return [row]
    return [path for number, part in enumerate(node.parts) for path in comparison_paths(part, f"{row}.{number}")]


def describe_rows(group: ConditionGroup, labels: Mapping[str, str]) -> str:
    """Describe the condition of the form rows in a sentence."""
    return _describe_node(group, labels, is_inside=False)


def describe_condition(condition: object, labels: Mapping[str, str]) -> str:
    """Describe a condition in a sentence, such as "status contains New, and type does not equal Project"."""
    if condition in (None, True, {}):
        return "always"
    if condition is False:
        return "never"
    return _describe_node(_node(condition, is_not=False), labels, is_inside=False)


def _describe_node(node: ConditionNode, labels: Mapping[str, str], *, is_inside: bool) -> str:
    match node:
        case YamlCondition(text):
            return text.strip()
        case ComparisonRow():
            label = OPERATOR_LABELS[node.operator][2] if node.operator in OPERATOR_LABELS else None
            if node.words:
                label = _WORD_LABELS.get(node.operator, label)
            operator_label = node.operator if label is None else local_term(label)
            values = [line for line in node.values.split("\n") if line]
            value_text = (
                f" {_('or')} ".join((", ".join(values[:-1]), values[-1])) if len(values) > 1 else "".join(values)
            )
            case_suffix = f" ({_('match case')})" if node.match_case else ""
            if not value_text and not node.operator.endswith("exists"):
                value_text = "…"
            return f"{labels.get(node.field, node.field) or '…'} {operator_label} {value_text}".rstrip() + case_suffix
        case ConditionGroup():
            if not node.parts:
                return "never" if node.is_not is (node.join == "all") else "always"
            inner = f", {_('and') if node.join == 'all' else _('or')} ".join(
                _describe_node(part, labels, is_inside=True) for part in node.parts
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
    return YamlCondition(yaml_text.write({"not": condition} if is_not else condition) or "true\n")


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
            return yaml_text.read(text, place)
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


def _has_no_value(node: ConditionNode) -> bool:
    return isinstance(node, ComparisonRow) and not node.values.strip() and not node.operator.endswith("exists")


def _count(node: ConditionNode) -> int:
    return 1 + sum(map(_count, node.parts)) if isinstance(node, ConditionGroup) else 1
