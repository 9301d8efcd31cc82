"""Conditions: `{field, operator, value, match_case, not}`, nested in `{all: […]}`, `{any: […]}`, `{not: …}`.

Compiled once. `matches` returns only the result, `evaluate` also the reason: a sentence with the deciding values.
Every operator, `exists` included, is false for a field without a value; `not` inverts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from tocsin.core.reasons import Reason
from tocsin.inbound.expressions.comparisons import Comparison, compile_comparison, parse_operator, rejection, texts_of
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.paths import compile_path
from tocsin.inbound.expressions.text_format import cut_bytes, quote

MAX_DEPTH: Final = 20
MAX_LEAVES: Final = 500
MAX_REASON: Final = 260  # bytes of UTF-8, so that a stored verdict stays under 300


class RuleMatch(msgspec.Struct, frozen=True):
    """Whether a condition matched, and a sentence with the deciding values."""

    is_true: bool
    reason: Reason | str


class _ConditionNode(Protocol):
    def matches(self, payload: object, mapped: MappedFields) -> bool: ...

    def reason(self, payload: object, mapped: MappedFields) -> str: ...


class CompiledCondition:
    """A compiled condition."""

    __slots__ = ("_node", "definition", "matches")

    def __init__(self, definition: object, node: _ConditionNode) -> None:
        self.definition = definition
        self._node = node
        #: (payload, mapped) → bool, without computing the reason.
        self.matches: Callable[[object, MappedFields], bool] = node.matches

    def evaluate(self, payload: object, mapped: MappedFields) -> RuleMatch:
        return RuleMatch(self.matches(payload, mapped), self.reason(payload, mapped))

    def reason(self, payload: object, mapped: MappedFields) -> str:
        """Returns the deciding facts, such as `status "New" contains New`; at most 260 bytes."""
        return cut_bytes(self._node.reason(payload, mapped), MAX_REASON)


def compile_condition(
    definition: object, field_path: str = "condition", fields: Iterable[str] = ()
) -> CompiledCondition:
    """Compiles a condition; None, {} and true always match, false never does.

    `fields` are the mapped, tag and custom fields of the integration: such a name refers to the mapped value, any
    other name is a path, and `^name` forces a path. Raises Rejected("invalid_condition") with the field.
    """
    return CompiledCondition(definition, _Compiler(frozenset(fields)).node(definition, field_path, 0))


class _Compiler:
    def __init__(self, fields: frozenset[str]) -> None:
        self.fields = fields
        self.leaves = 0

    def node(self, definition: object, field_path: str, depth: int) -> _ConditionNode:
        if definition is None or definition is True or definition == {}:
            return _Constant(True)
        if definition is False:
            return _Constant(False)
        if not isinstance(definition, Mapping):
            raise rejection(field_path, "a condition is {field, operator, value}, {all: […]}, {any: […]} or {not: …}")
        if depth > MAX_DEPTH:
            raise rejection(field_path, f"conditions nest at most {MAX_DEPTH} deep")
        if "field" in definition:
            return self.leaf(definition, field_path)
        keys = list(definition)
        match keys:
            case ["all"]:
                return _All(self.group(definition["all"], f"{field_path}.all", depth))
            case ["any"]:
                nodes = self.group(definition["any"], f"{field_path}.any", depth)
                if not nodes:
                    raise rejection(f"{field_path}.any", "give at least one condition")
                return _Any(nodes)
            case ["not"]:
                return _Not(self.node(definition["not"], f"{field_path}.not", depth + 1))
        unknown = [str(key) for key in keys if key not in ("all", "any", "not")]
        if unknown:
            raise rejection(
                f"{field_path}.{unknown[0]}", "unknown key; a condition has field, operator, value, match_case, not"
            )
        raise rejection(
            field_path, f"{' and '.join(map(str, keys))} do not stand beside each other; nest one in the other"
        )

    def group(self, definition: object, field_path: str, depth: int) -> tuple[_ConditionNode, ...]:
        if not isinstance(definition, Sequence) or isinstance(definition, str | bytes):
            raise rejection(field_path, "must be a list of conditions")
        return tuple(self.node(child, f"{field_path}[{i}]", depth + 1) for i, child in enumerate(definition))

    def leaf(self, definition: Mapping[str, object], field_path: str) -> _ConditionNode:
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise rejection(field_path, f"a condition has at most {MAX_LEAVES} comparisons")
        for key in definition:
            if key not in ("field", "operator", "value", "match_case", "not"):
                raise rejection(
                    f"{field_path}.{key}", "unknown key; a condition has field, operator, value, match_case, not"
                )
        match_case = _flag(definition, "match_case", field_path)
        is_inverted = _flag(definition, "not", field_path)
        label, field, read = self.field_reader(definition["field"], f"{field_path}.field")
        operator = parse_operator(definition.get("operator"), f"{field_path}.operator")
        comparison = compile_comparison(operator, definition, field_path, match_case)
        return _Leaf(label, field, read, comparison, is_inverted)

    def field_reader(
        self, field: object, field_path: str
    ) -> tuple[str, str | None, Callable[[object, MappedFields], object]]:
        """Returns the field's label, its name if it is a known field, and the function that reads it."""
        if not isinstance(field, str) or not field.strip():
            raise rejection(field_path, "give the name of a mapped field, or a path such as ticket^status^name")
        if field in self.fields:
            known_field = FIELDS.get(field)
            return (
                (known_field.label, field, _known_reader(field))
                if known_field
                else (field, None, _custom_reader(field))
            )
        path = compile_path(field[1:] if _is_forced(field) else field, field_path)
        read = path.read
        return path.text, None, lambda payload, mapped: read(payload)


def _is_forced(field: str) -> bool:
    """Returns whether `^x` forces a path; `^^x` is the path of a key that starts with ^."""
    return (len(field) - len(field.lstrip("^"))) % 2 == 1


def _known_reader(field: str) -> Callable[[object, MappedFields], object]:
    return lambda payload, mapped: mapped.values.get(field)


def _custom_reader(field: str) -> Callable[[object, MappedFields], object]:
    return lambda payload, mapped: mapped.custom.get(field) or mapped.tags.get(field)


def _flag(definition: Mapping[str, object], key: str, field_path: str) -> bool:
    value = definition.get(key, False)
    if not isinstance(value, bool):
        raise rejection(f"{field_path}.{key}", "must be true or false")
    return value


class _Leaf:
    __slots__ = ("comparison", "label", "matches", "read")

    def __init__(
        self,
        label: str,
        field: str | None,
        read: Callable[[object, MappedFields], object],
        comparison: Comparison,
        is_inverted: bool,
    ) -> None:
        self.label = label
        self.read = read
        self.comparison = comparison
        self.matches = _compile_match(field, read, comparison.matches, is_inverted)

    def reason(self, payload: object, mapped: MappedFields) -> str:
        texts = texts_of(self.read(payload, mapped))
        if not texts:
            return f"no value at {self.label}"
        deciding = next((text for text in texts if self.comparison.matches(text)), None)
        if deciding is not None:
            return f"{self.label} {quote(deciding)} {self.comparison.describe_match(deciding)}"
        return f"{self.label} {quote(', '.join(texts[:10]))} {self.comparison.mismatch_text}"


def _compile_match(
    field: str | None, read: Callable[[object, MappedFields], object], matches: Callable[[str], bool], is_inverted: bool
) -> Callable[[object, MappedFields], bool]:
    """Returns the test function of a comparison. Known fields take a fast path: their text is clean already."""

    def match_value(payload: object, mapped: MappedFields) -> bool:
        return any(map(matches, texts_of(read(payload, mapped)))) is not is_inverted

    def match_field(payload: object, mapped: MappedFields) -> bool:
        value = mapped.values.get(field)  # type: ignore[arg-type]
        if type(value) is str:
            return matches(value) is not is_inverted
        return any(map(matches, texts_of(value))) is not is_inverted

    return match_value if field is None else match_field


class _Constant:
    def __init__(self, result: bool) -> None:
        self.result = result

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        return self.result

    def reason(self, payload: object, mapped: MappedFields) -> str:
        return "always" if self.result else "never"


class _All:
    def __init__(self, nodes: tuple[_ConditionNode, ...]) -> None:
        self.nodes = nodes

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        return all(node.matches(payload, mapped) for node in self.nodes)

    def reason(self, payload: object, mapped: MappedFields) -> str:
        failing = next((node for node in self.nodes if not node.matches(payload, mapped)), None)
        return failing.reason(payload, mapped) if failing is not None else _join_reasons(self.nodes, payload, mapped)


class _Any:
    def __init__(self, nodes: tuple[_ConditionNode, ...]) -> None:
        self.nodes = nodes

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        return any(node.matches(payload, mapped) for node in self.nodes)

    def reason(self, payload: object, mapped: MappedFields) -> str:
        deciding = next((node for node in self.nodes if node.matches(payload, mapped)), None)
        return deciding.reason(payload, mapped) if deciding is not None else _join_reasons(self.nodes, payload, mapped)


class _Not:
    def __init__(self, node: _ConditionNode) -> None:
        self.node = node

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        return not self.node.matches(payload, mapped)

    def reason(self, payload: object, mapped: MappedFields) -> str:
        return self.node.reason(payload, mapped)


def _join_reasons(nodes: tuple[_ConditionNode, ...], payload: object, mapped: MappedFields) -> str:
    if not nodes:
        return "always"
    reasons: list[str] = []
    for node in nodes:
        reasons.append(node.reason(payload, mapped))
        if sum(map(len, reasons)) > MAX_REASON:
            break
    return " and ".join(dict.fromkeys(reasons))
