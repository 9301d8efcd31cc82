"""Conditions: `{field, operator, value, match_case, words, not}`, nested in `{all: […]}`, `{any: […]}`, `{not: …}`.

Compiled once. `matches` returns only the result, `evaluate` also the reason: the facts with the deciding values.
Every operator, `exists` included, is false for a field without a value; `not` inverts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

import msgspec
from pydantic import Field, PlainValidator, ValidationInfo

from tocsin.core.errors import Rejected
from tocsin.core.reasons import MORE, Reason, ReasonType, Term
from tocsin.core.validation.field_errors import require_storable, unknown_key
from tocsin.core.validation.payload_paths import MAX_PATH, compile_path
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors, reading_context
from tocsin.core.validation.spec_types import ListOf, Parsed
from tocsin.inbound.expressions import reasons
from tocsin.inbound.expressions.comparisons import (
    Comparison,
    FieldLabel,
    Operator,
    compile_comparison,
    parse_operator,
    rejection,
    texts_of,
)
from tocsin.inbound.expressions.fields import FIELDS
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.text_format import cut_bytes

_NOT_A_CONDITION = ReasonType(
    "condition.malformed", "a condition is {field, operator, value}, {all: […]}, {any: […]} or {not: …}"
)
_TOO_DEEP = ReasonType("condition.too_deep", "conditions nest at most {maximum} deep")
_EMPTY_ANY = ReasonType("condition.empty_any", "give at least one condition")
_KEYS_CONFLICT = ReasonType("condition.keys_conflict", "{keys} cannot be combined; nest one in the other")
_NOT_A_LIST = ReasonType("condition.not_a_list", "must be a list of conditions")
_TOO_MANY_COMPARISONS = ReasonType("condition.too_many_comparisons", "a condition has at most {maximum} comparisons")
_FIELD_REQUIRED = ReasonType(
    "condition.field_required", "give the name of a mapped field, or a path such as ticket^status^name"
)

MAX_DEPTH: Final = 20
MAX_LEAVES: Final = 500
#: Limits in bytes for a field's name in a reason, and for the facts that one reason lists.
_MAX_LABEL_BYTES: Final = 60
_MAX_FACTS_BYTES: Final = 240


class RuleMatch(msgspec.Struct, frozen=True):
    """Whether a condition matched, and the facts with the deciding values. `is_decisive` is false for what remains when
    no condition matched."""

    is_true: bool
    reason: Reason
    is_decisive: bool = True


class _ConditionNode(Protocol):
    def matches(self, payload: object, mapped: MappedFields) -> bool: ...

    def reason(self, payload: object, mapped: MappedFields) -> Reason: ...


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

    def reason(self, payload: object, mapped: MappedFields) -> Reason:
        """Returns the deciding facts, such as `status "New" contains New`; under 300 bytes in English."""
        return self._node.reason(payload, mapped)


def compile_condition(
    definition: object, field_path: str = "condition", fields: Iterable[str] = ()
) -> CompiledCondition:
    """Compiles a condition; None, {} and true always match, false never does.

    `fields` are the mapped, tag and custom fields of the integration: such a name refers to the mapped value, any
    other name is a path, and `^name` forces a path. Raises Rejected("invalid_condition") with the field.
    """
    return CompiledCondition(definition, _Compiler(frozenset(fields)).node(definition, field_path, 0))


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(_FIELD_REQUIRED())
    return value


_SCALAR = {"type": ["string", "number", "boolean"]}


class ComparisonSpec(Spec):
    """A condition that compares one field of a message."""

    field: Annotated[str, Parsed(_field_name, {"type": "string", "minLength": 1, "maxLength": MAX_PATH})] = Field(
        description="Name of a mapped field, or a path such as `ticket^status^name`; `^name` is always a path."
    )
    operator: Annotated[Operator, Parsed(parse_operator, {"type": "string", "enum": list(Operator)})] = Field(
        description="How it is compared."
    )
    value: Annotated[Any, Parsed(lambda value: value, {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]})] = (
        Field(default=None, description="Value that it is compared with, or a list of alternatives.")
    )
    match_case: bool = Field(default=False, description="Whether upper and lower case differ.")
    words: bool = Field(
        default=False,
        description="Whether `contains` looks for words: one that is the value, also with an ending, and is not "
        'negated. "New - 1st line" contains the word `New`; "Renewal" and "Not New" do not.',
    )
    is_inverted: bool = Field(default=False, alias="not", description="Whether the condition is inverted.")


class AllConditionsSpec(Spec):
    """A condition that is true if all of its conditions are."""

    all: ListOf[ConditionSpec] = Field(description="Conditions.")


class AnyConditionSpec(Spec):
    """A condition that is true if one of its conditions is."""

    any: ListOf[ConditionSpec] = Field(description="Conditions.")


class NotConditionSpec(Spec):
    """A condition that is true if another is not."""

    condition: ConditionSpec = Field(alias="not", description="Condition.")


type ConditionSpec = ComparisonSpec | AllConditionsSpec | AnyConditionSpec | NotConditionSpec | bool


def _compile(definition: object, info: ValidationInfo) -> CompiledCondition:
    try:
        compiled = compile_condition(definition, "condition", reading_context(info).get("fields", ()))
        require_storable(definition, "condition")
    except Rejected as problem:
        errors = SpecErrors()
        errors.add_rejection(problem, "condition")
        raise InvalidValue(errors) from None
    return compiled


def _read(definition: object, info: ValidationInfo) -> object:
    return None if definition in ({}, "", True) else _compile(definition, info).definition


#: A condition of a spec, compiled with the field names in `context["fields"]`.
Condition = Annotated[CompiledCondition, PlainValidator(_compile, json_schema_input_type=ConditionSpec)]

#: A condition of a spec as written, after validation; None if it always matches.
OptionalCondition = Annotated[Any, PlainValidator(_read, json_schema_input_type=ConditionSpec)]

_KEYS: Final = frozenset({"field", "all", "any", "not"})


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
            raise rejection(field_path, _NOT_A_CONDITION())
        if depth > MAX_DEPTH:
            raise rejection(field_path, _TOO_DEEP(maximum=MAX_DEPTH))
        if "field" in definition:
            return self.leaf(definition, field_path)
        keys = list(definition)
        match keys:
            case ["all"]:
                return _All(self.group(definition["all"], f"{field_path}.all", depth))
            case ["any"]:
                nodes = self.group(definition["any"], f"{field_path}.any", depth)
                if not nodes:
                    raise rejection(f"{field_path}.any", _EMPTY_ANY())
                return _Any(nodes)
            case ["not"]:
                return _Not(self.node(definition["not"], f"{field_path}.not", depth + 1))
        unknown = [str(key) for key in keys if key not in _KEYS]
        if unknown:
            raise rejection(f"{field_path}.{unknown[0]}", unknown_key(unknown[0], _KEYS))
        raise rejection(field_path, _KEYS_CONFLICT(keys=tuple(map(str, keys))))

    def group(self, definition: object, field_path: str, depth: int) -> tuple[_ConditionNode, ...]:
        if not isinstance(definition, Sequence) or isinstance(definition, str | bytes):
            raise rejection(field_path, _NOT_A_LIST())
        return tuple(self.node(child, f"{field_path}[{i}]", depth + 1) for i, child in enumerate(definition))

    def leaf(self, definition: Mapping[str, object], field_path: str) -> _ConditionNode:
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise rejection(field_path, _TOO_MANY_COMPARISONS(maximum=MAX_LEAVES))
        spec = ComparisonSpec.read(definition, field_path)
        label, field, read = self.field_reader(spec.field, f"{field_path}.field")
        comparison = compile_comparison(
            spec.operator, spec.value, f"{field_path}.value", spec.match_case, by_words=spec.words
        )
        return _Leaf(label, field, read, comparison, spec.is_inverted)

    def field_reader(
        self, field: str, field_path: str
    ) -> tuple[FieldLabel, str | None, Callable[[object, MappedFields], object]]:
        """Returns the field's label, its name if it is a known field, and the function that reads it."""
        if field in self.fields:
            known_field = FIELDS.get(field)
            return (
                (Term(known_field.label), field, _known_reader(field))
                if known_field
                else (cut_bytes(field, _MAX_LABEL_BYTES), None, _custom_reader(field))
            )
        path = compile_path(field[1:] if _is_forced(field) else field, field_path)
        read = path.read
        return cut_bytes(path.text, _MAX_LABEL_BYTES), None, lambda payload, mapped: read(payload)


def _is_forced(field: str) -> bool:
    """Returns whether `^x` forces a path; `^^x` is the path of a key that starts with ^."""
    return (len(field) - len(field.lstrip("^"))) % 2 == 1


def _known_reader(field: str) -> Callable[[object, MappedFields], object]:
    return lambda payload, mapped: mapped.values.get(field)


def _custom_reader(field: str) -> Callable[[object, MappedFields], object]:
    return lambda payload, mapped: mapped.custom.get(field) or mapped.tags.get(field)


class _Leaf:
    __slots__ = ("comparison", "label", "matches", "read")

    def __init__(
        self,
        label: FieldLabel,
        field: str | None,
        read: Callable[[object, MappedFields], object],
        comparison: Comparison,
        is_inverted: bool,
    ) -> None:
        self.label = label
        self.read = read
        self.comparison = comparison
        self.matches = _compile_match(field, read, comparison.matches, is_inverted)

    def reason(self, payload: object, mapped: MappedFields) -> Reason:
        texts = texts_of(self.read(payload, mapped))
        if not texts:
            return reasons.NO_VALUE(field=self.label)
        for text in texts:
            if self.comparison.matches(text):
                return self.comparison.describe_match(self.label, text)
        return self.comparison.describe_mismatch(self.label, ", ".join(texts[:10]))


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

    def reason(self, payload: object, mapped: MappedFields) -> Reason:
        return reasons.ALWAYS() if self.result else reasons.NEVER()


class _All:
    def __init__(self, nodes: tuple[_ConditionNode, ...]) -> None:
        self.nodes = nodes

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        for node in self.nodes:  # noqa: SIM110 - each message comes here, and a generator costs a frame for each node
            if not node.matches(payload, mapped):
                return False
        return True

    def reason(self, payload: object, mapped: MappedFields) -> Reason:
        failing = next((node for node in self.nodes if not node.matches(payload, mapped)), None)
        return failing.reason(payload, mapped) if failing is not None else _join_reasons(self.nodes, payload, mapped)


class _Any:
    def __init__(self, nodes: tuple[_ConditionNode, ...]) -> None:
        self.nodes = nodes

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        for node in self.nodes:  # noqa: SIM110 - as above
            if node.matches(payload, mapped):
                return True
        return False

    def reason(self, payload: object, mapped: MappedFields) -> Reason:
        deciding = next((node for node in self.nodes if node.matches(payload, mapped)), None)
        return deciding.reason(payload, mapped) if deciding is not None else _join_reasons(self.nodes, payload, mapped)


class _Not:
    def __init__(self, node: _ConditionNode) -> None:
        self.node = node

    def matches(self, payload: object, mapped: MappedFields) -> bool:
        return not self.node.matches(payload, mapped)

    def reason(self, payload: object, mapped: MappedFields) -> Reason:
        return self.node.reason(payload, mapped)


def _join_reasons(nodes: tuple[_ConditionNode, ...], payload: object, mapped: MappedFields) -> Reason:
    """Returns the facts of all nodes, without repetitions; if they are too long, how many more nodes there are."""
    facts: dict[Reason, None] = {}
    length = 0
    for number, node in enumerate(nodes):
        new_facts = [fact for fact in _facts_of(node.reason(payload, mapped)) if fact not in facts]
        length += sum(len(str(fact).encode()) + len(" and ") for fact in new_facts)
        if facts and length > _MAX_FACTS_BYTES:
            facts[MORE(count=len(nodes) - number)] = None
            break
        facts.update(dict.fromkeys(new_facts))
    if len(facts) < 2:
        return next(iter(facts), reasons.ALWAYS())
    return reasons.FACTS(facts=tuple(facts))


def _facts_of(reason: Reason) -> tuple[Reason, ...]:
    facts = reason["facts"] if reason.code == reasons.FACTS.code else reason
    return tuple(fact for fact in facts if isinstance(fact, Reason)) if isinstance(facts, tuple) else (reason,)
