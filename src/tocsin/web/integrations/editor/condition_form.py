"""Converts conditions to form rows and back: "all of" and "any of" groups of comparisons. Pure.

The conversion is lossless; a constant inside a group becomes a YAML row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext as _

from tocsin.core.errors import Rejected
from tocsin.inbound.expressions.comparisons import Operator
from tocsin.inbound.expressions.conditions import MAX_DEPTH
from tocsin.inbound.expressions.fields import text_of
from tocsin.web.integrations.editor import yaml_text
from tocsin.web.told import told

#: Larger conditions are edited as YAML.
MAX_CONDITION_ROWS = 300

#: Operators as worded in the form: form key → (operator, inverted, words).
WORDS: Mapping[str, tuple[Operator, bool, str]] = {
    "contains": (Operator.CONTAINS, False, "contains"),
    "not contains": (Operator.CONTAINS, True, "does not contain"),
    "equals": (Operator.EQUALS, False, "equals"),
    "not equals": (Operator.EQUALS, True, "does not equal"),
    "one of": (Operator.ONE_OF, False, "is one of"),
    "not one of": (Operator.ONE_OF, True, "is none of"),
    "starts with": (Operator.STARTS_WITH, False, "starts with"),
    "not starts with": (Operator.STARTS_WITH, True, "does not start with"),
    "ends with": (Operator.ENDS_WITH, False, "ends with"),
    "not ends with": (Operator.ENDS_WITH, True, "does not end with"),
    "matches": (Operator.MATCHES, False, "matches"),
    "not matches": (Operator.MATCHES, True, "does not match"),
    "exists": (Operator.EXISTS, False, "has a value"),
    "not exists": (Operator.EXISTS, True, "has no value"),
    "greater than": (Operator.GREATER_THAN, False, "is greater than"),
    "not greater than": (Operator.GREATER_THAN, True, "is not greater than"),
    "less than": (Operator.LESS_THAN, False, "is less than"),
    "not less than": (Operator.LESS_THAN, True, "is not less than"),
}


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One comparison. `values` contains one value per line."""

    field: str = ""
    operator: str = "contains"
    values: str = ""
    match_case: bool = False


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


def words() -> list[tuple[str, str]]:
    """Return (form key, label) of every comparison."""
    return [(key, told(said)) for key, (_operator, _inverted, said) in WORDS.items()]


def rows_of(condition: object) -> ConditionGroup:
    """Return the rows of a condition, always as a group. None, true and {} give an empty group."""
    if condition in (None, True, {}):
        return ConditionGroup()
    node = _node(condition, is_not=False)
    return node if isinstance(node, ConditionGroup) else ConditionGroup((node,))


def condition_of(group: ConditionGroup, where: str, row: str, places: ErrorPlaces, *, is_final: bool = True) -> object:
    """Return the condition of the form rows, or None without rows. Raises Rejected for invalid YAML.

    Unless `is_final`, incomplete comparisons are skipped.
    """
    if not is_final and is_begun(group):
        return None
    return _condition(group, where, row, places, is_final=is_final) if group.parts or group.is_not else None


def is_begun(node: ConditionNode) -> bool:
    """Return whether a comparison, or each one in a group, is still empty."""
    match node:
        case ComparisonRow():
            return not node.field.strip() and not node.values.strip()
        case ConditionGroup():
            return bool(node.parts) and all(map(is_begun, node.parts))
        case YamlCondition():
            return False


def read(post: Mapping[str, Any], prefix: str) -> ConditionGroup:
    """Return the rows posted under `prefix`. Raises Rejected for more than MAX_CONDITION_ROWS rows."""
    found = _read(post, prefix, 0, [0])
    return found if isinstance(found, ConditionGroup) else ConditionGroup()


def change(group: ConditionGroup, path: Iterable[int], what: str) -> ConditionGroup:
    """Apply a button to the rows: `add` or `group` within the group at `path`, `remove` or `copy` of a row."""
    steps = tuple(path)
    if not steps:
        if what == "add" and _count(group) < MAX_CONDITION_ROWS:
            return replace(group, parts=(*group.parts, ComparisonRow()))
        if what == "group" and _count(group) < MAX_CONDITION_ROWS:
            join = "any" if group.join == "all" else "all"
            return replace(group, parts=(*group.parts, ConditionGroup((ComparisonRow(),), join)))
        return group
    first, *rest = steps
    if first >= len(group.parts):
        return group
    if not rest and what == "remove":
        return replace(group, parts=group.parts[:first] + group.parts[first + 1 :])
    part = group.parts[first]
    if isinstance(part, ConditionGroup):
        part = change(part, rest, what)
    return replace(group, parts=(*group.parts[:first], part, *group.parts[first + 1 :]))


def leaves(node: ConditionNode, row: str) -> list[str]:
    """Return the paths of the rows that are not groups."""
    if not isinstance(node, ConditionGroup):
        return [row]
    return [leaf for number, part in enumerate(node.parts) for leaf in leaves(part, f"{row}.{number}")]


def say_rows(group: ConditionGroup, labels: Mapping[str, str]) -> str:
    """Describe the condition of the form rows in a sentence."""
    return _say(group, labels, is_inside=False)


def say(condition: object, labels: Mapping[str, str]) -> str:
    """Describe a condition in a sentence, such as "status contains New, and type does not equal Project"."""
    if condition in (None, True, {}):
        return "always"
    if condition is False:
        return "never"
    return _say(_node(condition, is_not=False), labels, is_inside=False)


def _say(node: ConditionNode, labels: Mapping[str, str], *, is_inside: bool) -> str:
    match node:
        case YamlCondition(text):
            return text.strip()
        case ComparisonRow():
            words = told(WORDS[node.operator][2]) if node.operator in WORDS else node.operator
            values = [line for line in node.values.split("\n") if line]
            shown = f" {_('or')} ".join((", ".join(values[:-1]), values[-1])) if len(values) > 1 else "".join(values)
            case = f" ({_('match case')})" if node.match_case else ""
            if not shown and not node.operator.endswith("exists"):
                shown = "…"
            return f"{labels.get(node.field, node.field) or '…'} {words} {shown}".rstrip() + case
        case ConditionGroup():
            if not node.parts:
                return "never" if node.is_not is (node.join == "all") else "always"
            inner = f", {_('and') if node.join == 'all' else _('or')} ".join(
                _say(part, labels, is_inside=True) for part in node.parts
            )
            if node.is_not:
                return f"{_('not')} ({inner})"
            return f"({inner})" if is_inside and len(node.parts) > 1 else inner


def _node(condition: Any, *, is_not: bool, depth: int = 0) -> ConditionNode:
    if isinstance(condition, Mapping) and depth <= MAX_DEPTH:
        if "field" in condition:
            leaf = _leaf(condition, is_not=is_not)
            if leaf is not None:
                return leaf
        elif set(condition) == {"not"}:
            return _node(condition["not"], is_not=not is_not, depth=depth + 1)
        elif len(condition) == 1 and (join := next(iter(condition))) in ("all", "any"):
            parts = condition[join]
            if isinstance(parts, list | tuple):
                return ConditionGroup(tuple(_node(one, is_not=False, depth=depth + 1) for one in parts), join, is_not)
    return YamlCondition(yaml_text.write({"not": condition} if is_not else condition) or "true\n")


def _leaf(condition: Mapping[str, Any], *, is_not: bool) -> ComparisonRow | None:
    if not condition.keys() <= {"field", "operator", "value", "match_case", "not"}:
        return None
    name = " ".join(str(condition.get("operator", "")).replace("_", " ").split()).casefold()
    inverted = is_not is not bool(condition.get("not", False))
    key = f"not {name}" if inverted else name
    value = condition.get("value")
    items = value if isinstance(value, list | tuple) else [] if value is None else [value]
    texts = [text_of(item) for item in items]
    if key not in WORDS or not isinstance(condition["field"], str) or any(not t or "\n" in t for t in texts):
        return None
    return ComparisonRow(condition["field"], key, "\n".join(t for t in texts if t), condition.get("match_case") is True)


def _condition(node: ConditionNode, where: str, row: str, places: ErrorPlaces, *, is_final: bool) -> object:
    match node:
        case YamlCondition(text):
            places.rows[where] = row
            return yaml_text.read(text, where)
        case ComparisonRow():
            return _condition_of_leaf(node, where, row, places)
        case ConditionGroup():
            inside = f"{where}.not" if node.is_not else where
            parts = [(f"{row}.{n}", part) for n, part in enumerate(node.parts) if is_final or not is_begun(part)]
            if len(parts) == 1 and not isinstance(parts[0][1], ConditionGroup):
                found = _condition(parts[0][1], inside, parts[0][0], places, is_final=is_final)
            else:
                found = {
                    node.join: [
                        _condition(part, f"{inside}.{node.join}[{number}]", name, places, is_final=is_final)
                        for number, (name, part) in enumerate(parts)
                    ]
                }
            places.rows.setdefault(where, row)
            return {"not": found} if node.is_not else found


def _condition_of_leaf(leaf: ComparisonRow, where: str, row: str, places: ErrorPlaces) -> object:
    operator, inverted, _words = WORDS.get(leaf.operator, (leaf.operator, False, ""))
    values = [line.strip() if operator is not Operator.MATCHES else line for line in leaf.values.split("\n")]
    values = [line for line in values if line]
    condition: dict[str, Any] = {"field": leaf.field.strip(), "operator": str(operator)}
    if operator is Operator.ONE_OF:
        condition["value"] = values
    elif operator is not Operator.EXISTS:
        condition["value"] = values[0] if len(values) == 1 else values or ""
    if leaf.match_case:
        condition["match_case"] = True
    places.rows[where] = row
    if inverted:
        places.rows[f"{where}.not"] = row
        return {"not": condition}
    return condition


def _read(post: Mapping[str, Any], prefix: str, depth: int, seen: list[int]) -> ConditionNode:
    seen[0] += 1
    if seen[0] > MAX_CONDITION_ROWS * 2 or depth > MAX_DEPTH:
        raise Rejected("invalid", f"These are more than {MAX_CONDITION_ROWS} rows: write them as YAML.", None)
    match post.get(f"{prefix}.type", "group"):
        case "leaf":
            return ComparisonRow(
                post.get(f"{prefix}.field", ""),
                post.get(f"{prefix}.op", "contains"),
                post.get(f"{prefix}.values", "").replace("\r\n", "\n"),
                f"{prefix}.case" in post,
            )
        case "yaml":
            return YamlCondition(post.get(f"{prefix}.text", ""))
        case _:
            parts: list[ConditionNode] = []
            while f"{prefix}.{len(parts)}.type" in post:
                parts.append(_read(post, f"{prefix}.{len(parts)}", depth + 1, seen))
            join = "any" if post.get(f"{prefix}.join") == "any" else "all"
            return ConditionGroup(tuple(parts), join, f"{prefix}.not" in post)


def _count(node: ConditionNode) -> int:
    return 1 + sum(map(_count, node.parts)) if isinstance(node, ConditionGroup) else 1
