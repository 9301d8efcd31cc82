"""Filters of RFC 7644, section 3.4.2.2: parsed once, then matched against documents. Pure."""

from __future__ import annotations

import copy
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import fold_login
from tocsin.identity.scim import schema as reasons
from tocsin.identity.scim.schema import (
    Attribute,
    ResourceSchema,
    assign,
    invalid,
    read_one,
    read_value,
    require,
    values_at,
)

MAX_FILTER_CHARS = 2000
MAX_DEPTH = 20

_TOKEN = re.compile(r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[()\[\]])|(?P<word>[^\s()\[\]"]+))')
#: No column contains these, and PostgreSQL refuses them in a query.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TEXT_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "co": operator.contains,
    "sw": str.startswith,
    "ew": str.endswith,
}
_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    **_TEXT_OPERATORS,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


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


def parse(text: str, schema: ResourceSchema, attribute: Attribute | None = None) -> Filter:
    """Parses a filter on resources of that kind; with `attribute`, one in the brackets of a path, on its values. Raises
    `Rejected("invalid_filter")`.
    """
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
    leaf, holds = target.leaf, _ORDERED[condition.operator]
    return leaf is not None and any(holds(_comparable(leaf, one), _comparable(leaf, condition.value)) for one in values)


def _has_equal(condition: AttributeComparison, values: list[Any]) -> bool:
    leaf, value = condition.target.leaf, condition.value
    if value is None:
        return not values
    if leaf is None:
        return False
    return any(_comparable(leaf, one) == _comparable(leaf, value) for one in values)


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
        compared = self._word().lower()
        if compared == "pr":
            return AttributeComparison(target, compared)
        if compared not in ("eq", "ne", *_ORDERED):
            raise _unreadable(position)
        return AttributeComparison(target, compared, self._value(name, target, compared))

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


# ---------- patch
# The operations of PATCH (RFC 7644, section 3.5.2), applied to a document. Pure.


MAX_OPERATIONS = 1000

_PATH = re.compile(r"\s*(?P<name>[^\s\[\]\"]+?)\s*(?:\[(?P<filter>.*)\](?:\.(?P<sub>[^\s\[\]\".]+))?)?\s*", re.DOTALL)
#: What a provider may repeat in a value without a path, and what only the server writes.
_REPEATED = frozenset({"schemas", "id", "meta"})


@dataclass(frozen=True, slots=True)
class _Path:
    """The target of an operation. `attribute` None: one that Tocsin does not keep."""

    text: str
    attribute: Attribute | None
    filter: Filter | None = None
    sub: Attribute | None = None


def apply(schema: ResourceSchema, document: Mapping[str, Any], body: object) -> dict[str, Any]:
    """Returns the document after the operations of a PATCH body, all or none.

    Raises Rejected with the code `invalid_syntax`, `invalid_path`, `invalid_filter`, `no_target`, `mutability` or
    `invalid_value`.
    """
    changed = copy.deepcopy(dict(document))
    for operation in _operations(body):
        kind = str(operation.get("op", "")).lower()
        path, value = operation.get("path"), operation.get("value")
        if kind not in ("add", "remove", "replace"):
            raise Rejected("invalid_syntax", reasons.UNKNOWN_OPERATION())
        if path is not None and not isinstance(path, str):
            raise Rejected("invalid_path", reasons.INVALID_PATH(path="path"))
        if path:
            _apply_at(schema, changed, kind, _read_path(schema, path), value)
        elif kind == "remove":
            raise Rejected("no_target", reasons.PATH_REQUIRED())
        elif not isinstance(value, Mapping):
            raise Rejected("invalid_value", reasons.NOT_AN_OBJECT())
        else:
            for name, item in value.items():
                if str(name).lower() not in _REPEATED:
                    # Entra ID sends dotted paths as names.
                    _apply_at(schema, changed, kind, _read_path(schema, str(name)), item)
    require(schema, changed)
    return changed


def _operations(body: object) -> list[Mapping[str, Any]]:
    if not isinstance(body, Mapping):
        raise Rejected("invalid_syntax", reasons.NOT_AN_OBJECT())
    listed = next((value for name, value in body.items() if str(name).lower() == "operations"), None)
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_OPERATIONS:
        raise Rejected("invalid_syntax", reasons.NO_OPERATIONS(maximum=MAX_OPERATIONS))
    operations: list[Mapping[str, Any]] = []
    for operation in listed:
        if not isinstance(operation, Mapping):
            raise Rejected("invalid_syntax", reasons.NOT_AN_OBJECT())
        operations.append({str(name).lower(): value for name, value in operation.items()})
    return operations


def _read_path(schema: ResourceSchema, text: str) -> _Path:
    if schema.is_ignored(text) and not text.lower().startswith(schema.urn.lower()):
        return _Path(text, None)
    parts = _PATH.fullmatch(text)
    if parts is None or len(text) > MAX_FILTER_CHARS:
        raise Rejected("invalid_path", reasons.INVALID_PATH(path=text[:100]))
    target = find_target(parts["name"], schema)
    if target is None:
        raise Rejected("invalid_path", reasons.UNKNOWN_ATTRIBUTE(name=text[:100], resource=schema.name))
    attribute = target.attribute
    if attribute is None or parts["filter"] is None:
        return _Path(text, attribute, sub=target.sub)
    if not attribute.sub or not attribute.is_multi or target.sub is not None:
        raise Rejected("invalid_path", reasons.INVALID_PATH(path=text[:100]))
    sub = None
    if parts["sub"]:
        sub = attribute.find(parts["sub"])
        if sub is None and schema.is_ignored(f"{attribute.name}.{parts['sub']}"):
            return _Path(text, None)
        if sub is None:
            raise Rejected("invalid_path", reasons.UNKNOWN_ATTRIBUTE(name=text[:100], resource=schema.name))
    return _Path(text, attribute, parse(parts["filter"], schema, attribute), sub)


def _apply_at(schema: ResourceSchema, document: dict[str, Any], kind: str, path: _Path, value: object) -> None:
    attribute = path.attribute
    if attribute is None:
        return
    if attribute.is_read_only:
        raise Rejected("mutability", reasons.READ_ONLY(name=attribute.name), attribute.name)
    is_nothing = value is None or value == []
    if kind == "remove" or (is_nothing and kind == "replace"):
        _remove(document, attribute, path, value)
    elif attribute.is_multi and (path.filter is not None or path.sub is not None):
        _change_values(document, attribute, path, value, is_add=kind == "add")
    elif path.sub is not None:
        assign(document.setdefault(attribute.name, {}), path.sub, read_value(path.sub, value, path.text))
        assign(document, attribute, document[attribute.name])
    elif kind == "add" and attribute.is_multi:
        _add_values(document, attribute, read_value(attribute, value, attribute.name) or [])
    elif attribute.sub and not attribute.is_multi:
        given = read_value(attribute, value, attribute.name) or {}
        # Both leave the sub-attributes that the operation does not name (sections 3.5.2.1 and 3.5.2.3).
        assign(document, attribute, {**document.get(attribute.name, {}), **given})
    else:
        assign(document, attribute, read_value(attribute, value, attribute.name))


def _remove(document: dict[str, Any], attribute: Attribute, path: _Path, value: object) -> None:
    if not attribute.is_multi:
        if path.sub is not None:
            document.get(attribute.name, {}).pop(path.sub.name, None)
            assign(document, attribute, document.get(attribute.name))
        else:
            document.pop(attribute.name, None)
    else:
        values = document.get(attribute.name, [])
        if path.filter is None and path.sub is None and value not in (None, []):
            # Entra ID and others list the members to remove in the value.
            removed = {_identity(attribute, one) for one in read_value(attribute, value, attribute.name) or ()}
            kept = [one for one in values if _identity(attribute, one) not in removed]
        else:
            kept = [_without(one, path) for one in values]
        _set_values(document, attribute, kept)
    if attribute.is_required and attribute.name not in document:
        raise Rejected("mutability", reasons.CANNOT_REMOVE(name=attribute.name), attribute.name)


def _without(value: dict[str, Any], path: _Path) -> dict[str, Any]:
    if path.filter is not None and not matches(path.filter, value):
        return value
    return {name: item for name, item in value.items() if name != path.sub.name} if path.sub is not None else {}


def _change_values(document: dict[str, Any], attribute: Attribute, path: _Path, value: object, *, is_add: bool) -> None:
    """Changes those values of a list that match the path, or one of their sub-attributes."""
    values = document.get(attribute.name, [])
    targets = [one for one in values if path.filter is None or matches(path.filter, one)]
    if not targets:
        if not is_add and path.filter is not None:
            raise Rejected("no_target", reasons.NO_TARGET(path=path.text[:100]))
        # Entra ID adds the first address this way: emails[type eq "work"].value.
        targets = [_implied(path.filter) if path.filter is not None else {}]
        values = [*values, *targets]
    for target in targets:
        if path.sub is not None:
            assign(target, path.sub, read_value(path.sub, value, path.text))
        else:
            given = read_one(attribute, value, path.text)
            if not is_add:
                target.clear()
            target.update(given)
    _keep_one_primary(values, targets)
    _set_values(document, attribute, values)


def _add_values(document: dict[str, Any], attribute: Attribute, added: list[Any]) -> None:
    values = document.get(attribute.name, [])
    known = {_identity(attribute, one) for one in values}
    new = [one for one in added if _identity(attribute, one) not in known]
    changed = [*values, *new]
    _keep_one_primary(changed, new)
    _set_values(document, attribute, changed)


def _set_values(document: dict[str, Any], attribute: Attribute, values: list[Any]) -> None:
    if len(values) > attribute.max_values:
        raise invalid(attribute.name, reasons.TOO_MANY_VALUES(maximum=attribute.max_values))
    assign(document, attribute, [one for one in values if one])


def _keep_one_primary(values: list[dict[str, Any]], preferred: list[dict[str, Any]]) -> None:
    """A new primary value takes over from the earlier one (section 3.5.2)."""
    primary = [one for one in preferred if one.get("primary")]
    if primary:
        for one in values:
            if one is not primary[-1] and one.get("primary"):
                one["primary"] = False


def _identity(attribute: Attribute, value: Mapping[str, Any]) -> object:
    """What makes two values the same: of a member its id, of an address the address and its type."""
    is_reference = attribute.find("$ref") is not None
    return value.get("value", "") if is_reference else (value.get("value", ""), value.get("type", ""))


def _implied(condition: Filter) -> dict[str, Any]:
    """Returns the values that a filter of equalities demands of a new value."""
    match condition:
        case AttributeComparison(target, "eq", value) if target.attribute is not None and value is not None:
            return {target.attribute.name: value}
        case Combination(parts, True):
            return {name: value for part in parts for name, value in _implied(part).items()}
        case _:
            return {}
