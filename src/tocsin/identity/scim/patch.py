"""The operations of PATCH (RFC 7644, section 3.5.2), applied to a document. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.identity.scim import filters, reasons
from tocsin.identity.scim.filters import AttributeComparison, Combination, Filter
from tocsin.identity.scim.schema import (
    Attribute,
    ResourceSchema,
    assign,
    invalid,
    read_one,
    read_value,
    require,
)

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
    if parts is None or len(text) > filters.MAX_FILTER_CHARS:
        raise Rejected("invalid_path", reasons.INVALID_PATH(path=text[:100]))
    target = filters.find_target(parts["name"], schema)
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
    return _Path(text, attribute, filters.parse_values(parts["filter"], schema, attribute), sub)


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
        _set_complex(document, attribute, path, value, is_add=kind == "add")
    else:
        assign(document, attribute, read_value(attribute, value, attribute.name))


def _set_complex(document: dict[str, Any], attribute: Attribute, path: _Path, value: object, *, is_add: bool) -> None:
    given = read_value(attribute, value, attribute.name) or {}
    # Both leave the sub-attributes that the operation does not name (sections 3.5.2.1 and 3.5.2.3).
    assign(document, attribute, {**document.get(attribute.name, {}), **given})


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
    if path.filter is not None and not filters.matches(path.filter, value):
        return value
    return {name: item for name, item in value.items() if name != path.sub.name} if path.sub is not None else {}


def _change_values(document: dict[str, Any], attribute: Attribute, path: _Path, value: object, *, is_add: bool) -> None:
    """Changes those values of a list that match the path, or one of their sub-attributes."""
    values = document.get(attribute.name, [])
    targets = [one for one in values if path.filter is None or filters.matches(path.filter, one)]
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
