"""Filters of RFC 7644, section 3.4.2.2: parsed once, then matched against documents. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.validation.text_sanitizing import fold_login
from tocsin.identity.scim import reasons
from tocsin.identity.scim.schema import Attribute, ResourceSchema, values_at

MAX_FILTER_CHARS = 2000
MAX_DEPTH = 20

_TOKEN = re.compile(r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[()\[\]])|(?P<word>[^\s()\[\]"]+))')
#: No column contains these, and PostgreSQL refuses them in a query.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TEXT_OPERATORS = frozenset({"co", "sw", "ew"})
_ORDER_OPERATORS = frozenset({"gt", "ge", "lt", "le"})
_OPERATORS = frozenset({"eq", "ne"}) | _TEXT_OPERATORS | _ORDER_OPERATORS


@dataclass(frozen=True, slots=True)
class Target:
    """An attribute, and one of its sub-attributes. `attribute` None: one that Tocsin does not keep, without a value."""

    attribute: Attribute | None
    sub: Attribute | None = None

    @property
    def leaf(self) -> Attribute | None:
        """The attribute whose values are compared: of a complex one without a sub-attribute, its `value`."""
        if self.sub is not None or self.attribute is None:
            return self.sub
        return self.attribute.find("value") if self.attribute.sub else self.attribute


@dataclass(frozen=True, slots=True)
class AttributeComparison:
    """`operator` is that of the RFC; `pr` has no value."""

    target: Target
    operator: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class ValueFilter:
    """A filter on the values of one attribute, such as `emails[type eq "work"]`: one value must match all of it."""

    attribute: Attribute | None
    filter: Filter


@dataclass(frozen=True, slots=True)
class Negation:
    filter: Filter


@dataclass(frozen=True, slots=True)
class Combination:
    """`is_all`: every part must match, else one of them."""

    parts: tuple[Filter, ...]
    is_all: bool


type Filter = AttributeComparison | ValueFilter | Negation | Combination


def parse(text: str, schema: ResourceSchema) -> Filter:
    """Parses a filter on resources of that kind. Raises `Rejected("invalid_filter")`."""
    parser = _Parser(text, schema, None)
    parsed = parser.expression(0)
    parser.expect_end()
    return parsed


def parse_values(text: str, schema: ResourceSchema, attribute: Attribute) -> Filter:
    """Parses the filter in the brackets of a path, on values of `attribute`. Raises `Rejected("invalid_filter")`."""
    parser = _Parser(text, schema, attribute)
    parsed = parser.expression(0)
    parser.expect_end()
    return parsed


def find_target(name: str, schema: ResourceSchema) -> Target | None:
    """Returns the attribute of a path such as `name.givenName`, which may begin with the schema's URN.

    An attribute that is known and not kept has no `attribute`; None: there is no such attribute.
    """
    prefix = schema.urn.lower() + ":"
    path = name[len(prefix) :] if name.lower().startswith(prefix) else name
    if schema.is_ignored(path):
        return Target(None)
    first, dot, second = path.partition(".")
    attribute = schema.find(first)
    if attribute is None:
        return Target(None) if schema.is_ignored(first) else None
    if not dot:
        return Target(attribute)
    sub = attribute.find(second)
    return Target(attribute, sub) if sub is not None else None


def matches(condition: Filter, document: Mapping[str, Any]) -> bool:
    """Returns whether a document matches the filter."""
    match condition:
        case Combination(parts, is_all):
            return all(matches(one, document) for one in parts) if is_all else any(matches(o, document) for o in parts)
        case Negation(negated):
            return not matches(negated, document)
        case ValueFilter(attribute, inner):
            return attribute is not None and any(
                isinstance(value, Mapping) and matches(inner, value) for value in _list(document.get(attribute.name))
            )
        case AttributeComparison():
            return _compares(condition, document)


def conjuncts(condition: Filter) -> Iterator[AttributeComparison]:
    """Yields the comparisons all of which a document must match, of values in brackets too."""
    match condition:
        case AttributeComparison():
            yield condition
        case Combination(parts, True):
            for part in parts:
                yield from conjuncts(part)
        case ValueFilter(attribute, inner) if attribute is not None:
            for one in conjuncts(inner):
                yield AttributeComparison(Target(attribute, one.target.attribute), one.operator, one.value)


def equal_values(condition: Filter, *paths: tuple[str, str]) -> list[str]:
    """Returns the texts to which a matching document's attribute must be equal: `("emails", "value")` is one path."""
    return [
        one.value
        for one in conjuncts(condition)
        if one.operator == "eq"
        and one.target.attribute is not None
        and one.target.leaf is not None
        and (one.target.attribute.name, one.target.leaf.name) in paths
        and isinstance(one.value, str)
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _compares(condition: AttributeComparison, document: Mapping[str, Any]) -> bool:
    target = condition.target
    values = list(values_at(document, target.attribute, target.sub)) if target.attribute is not None else []
    if condition.operator == "pr":
        return bool(values)
    if condition.operator == "ne":
        return not _has_equal(condition, values)
    if condition.operator == "eq":
        return _has_equal(condition, values)
    leaf = target.leaf
    return leaf is not None and any(_is_ordered(condition.operator, leaf, one, condition.value) for one in values)


def _has_equal(condition: AttributeComparison, values: list[Any]) -> bool:
    leaf, value = condition.target.leaf, condition.value
    if value is None:
        return not values
    if leaf is None:
        return False
    return any(_comparable(leaf, one) == _comparable(leaf, value) for one in values)


def _is_ordered(operator: str, leaf: Attribute, one: Any, value: Any) -> bool:
    first, second = _comparable(leaf, one), _comparable(leaf, value)
    match operator:
        case "co":
            return second in first
        case "sw":
            return bool(first.startswith(second))
        case "ew":
            return bool(first.endswith(second))
        case "gt":
            return bool(first > second)
        case "ge":
            return bool(first >= second)
        case "lt":
            return bool(first < second)
        case _:
            return bool(first <= second)


def _comparable(leaf: Attribute, value: Any) -> Any:
    if leaf.type == "dateTime":
        return datetime.fromisoformat(value)
    if isinstance(value, str) and not leaf.is_case_exact:
        return fold_login(value)
    return value


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str, schema: ResourceSchema, attribute: Attribute | None) -> None:
        if len(text) > MAX_FILTER_CHARS:
            raise Rejected("invalid_filter", reasons.FILTER_TOO_LONG())
        self._schema = schema
        self._attribute = attribute
        self._tokens: list[tuple[str, str, int]] = []
        self._next = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            token = _TOKEN.match(text, position)
            if token is None or token.lastgroup is None:
                raise _unreadable(position)
            self._tokens.append((token.lastgroup, token[token.lastgroup], token.start(token.lastgroup)))
            position = token.end()
        self._end = end

    def expression(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise Rejected("invalid_filter", reasons.FILTER_TOO_LONG())
        parts = [self._conjunction(depth)]
        while self._accept_word("or"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Combination(tuple(parts), is_all=False)

    def expect_end(self) -> None:
        if self._next < len(self._tokens):
            raise _unreadable(self._position())

    def _conjunction(self, depth: int) -> Filter:
        parts = [self._term(depth)]
        while self._accept_word("and"):
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else Combination(tuple(parts), is_all=True)

    def _term(self, depth: int) -> Filter:
        if self._accept_word("not"):
            self._expect("(")
            negated = self.expression(depth + 1)
            self._expect(")")
            return Negation(negated)
        if self._accept("("):
            inner = self.expression(depth + 1)
            self._expect(")")
            return inner
        return self._comparison(depth)

    def _comparison(self, depth: int) -> Filter:
        name = self._word()
        target = self._target(name)
        if self._attribute is None and self._accept("["):
            outer, self._attribute = self._attribute, target.attribute or Attribute(name)
            inner = self.expression(depth + 1)
            self._attribute = outer
            self._expect("]")
            return ValueFilter(target.attribute, inner)
        position = self._position()
        operator = self._word().lower()
        if operator == "pr":
            return AttributeComparison(target, operator)
        if operator not in _OPERATORS:
            raise _unreadable(position)
        return AttributeComparison(target, operator, self._value(name, target, operator))

    def _target(self, name: str) -> Target:
        if self._attribute is not None:
            # A value in brackets: a sub-attribute is what the comparison is about.
            sub = self._attribute.find(name)
            if sub is None and self._attribute.sub and not self._schema.is_ignored(f"{self._attribute.name}.{name}"):
                raise Rejected("invalid_filter", self._unknown(f"{self._attribute.name}.{name}"))
            return Target(sub)
        target = find_target(name, self._schema)
        if target is None:
            raise Rejected("invalid_filter", self._unknown(name))
        return target

    def _unknown(self, name: str) -> Any:
        return reasons.UNKNOWN_ATTRIBUTE(name=name[:100], resource=self._schema.name)

    def _value(self, name: str, target: Target, operator: str) -> Any:
        position = self._position()
        kind, text, _ = self._take()
        if kind == "mark":
            raise _unreadable(position)
        try:
            value = json.loads(text)
        except ValueError:
            raise _unreadable(position) from None
        leaf = target.leaf
        is_unstorable = isinstance(value, str) and _UNSTORABLE.search(value) is not None
        if is_unstorable or (leaf is None and target.attribute is not None):
            raise self._wrong_type(name, operator)
        is_boolean = leaf is not None and leaf.type == "boolean"
        if is_boolean and isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if value is None and operator in ("eq", "ne"):
            return None
        if leaf is None:
            return value
        if is_boolean != isinstance(value, bool) or not isinstance(value, bool | str):
            raise self._wrong_type(name, operator)
        if is_boolean and operator not in ("eq", "ne"):
            raise self._wrong_type(name, operator)
        if leaf.type == "dateTime":
            self._require_moment(name, operator, value)
        return value

    def _require_moment(self, name: str, operator: str, value: object) -> None:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise self._wrong_type(name, operator) from None
        if moment.tzinfo is None or operator in _TEXT_OPERATORS:
            raise self._wrong_type(name, operator)

    def _wrong_type(self, name: str, operator: str) -> Rejected:
        return Rejected("invalid_filter", reasons.FILTER_TYPE(operator=operator, attribute=name[:100]))

    def _position(self) -> int:
        return self._tokens[self._next][2] if self._next < len(self._tokens) else self._end

    def _take(self) -> tuple[str, str, int]:
        if self._next >= len(self._tokens):
            raise _unreadable(self._end)
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _word(self) -> str:
        kind, text, position = self._take()
        if kind != "word":
            raise _unreadable(position)
        return text

    def _accept(self, mark: str) -> bool:
        is_next = self._next < len(self._tokens) and self._tokens[self._next][:2] == ("mark", mark)
        self._next += is_next
        return is_next

    def _accept_word(self, word: str) -> bool:
        token = self._tokens[self._next] if self._next < len(self._tokens) else None
        is_next = token is not None and token[0] == "word" and token[1].lower() == word
        self._next += is_next
        return is_next

    def _expect(self, mark: str) -> None:
        if not self._accept(mark):
            raise _unreadable(self._position())


def _unreadable(position: int) -> Rejected:
    return Rejected("invalid_filter", reasons.INVALID_FILTER(position=position + 1))
