"""Schemas of configured objects in the OpenAPI document, made of their specs: for bodies and answers alike.

Commands read the specs, so that Django Ninja sees only dictionaries. `SpecSchema` says what they contain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAliasType

from pydantic import BaseModel, WithJsonSchema

from tocsin.api.components import COMPONENTS, MARK, Component
from tocsin.api.reasons import ReasonSchema, parameter_schemas
from tocsin.core.validation.spec import Spec


def written_as(spec_type: type[Spec] | TypeAliasType) -> WithJsonSchema:
    """Annotates a field of another schema that contains an object, which is a part of a configured object."""
    return Component(spec_type.__name__).annotation


class UnreadableObjectSchema(ReasonSchema):
    """An object that a newer version has written: it can be deleted, or replaced by PUT."""

    id: int
    name: str


class SpecSchema:
    """The schemas of one kind of object: its spec, with the fields that only answers (`read_only`), only bodies
    (`write_only`) or both (`also`) have besides.

    An object whose keys depend on its `kind` has a spec for each, in `kinds`. `has_id` is False for an object that is
    a part of another. `name` is that of the component, if it is not the type's.
    """

    _by_component: ClassVar[dict[str, SpecSchema]] = {}

    def __init__(
        self,
        spec_type: type[Spec],
        *,
        kinds: Sequence[type[Spec]] = (),
        read_only: type[BaseModel] | None = None,
        write_only: type[BaseModel] | None = None,
        also: type[BaseModel] | None = None,
        has_id: bool = True,
        name: str = "",
    ) -> None:
        self._name = name or spec_type.__name__
        self._types = [(kind.__name__, kind) for kind in kinds] or [(self._name, spec_type)]
        self._has_kinds = bool(kinds)
        fields: Sequence[tuple[type[BaseModel] | None, dict[str, bool]]]
        fields = ((read_only, {"readOnly": True}), (write_only, {"writeOnly": True}), (also, {}))
        self._fields = [(model, flags) for model, flags in fields if model is not None]
        self._has_id = has_id
        #: A whole object, as body or answer.
        self.whole = Component(self._name)
        #: The body of a PATCH: some keys, of which null takes one away.
        self.changes = Component(f"{self._name}Changes")
        #: A page of a list of objects.
        self.listed = self.whole.listed
        for component in (self.whole, self.changes, self.listed):
            self._by_component[component.name] = self

    def components(self) -> dict[str, Any]:
        """Returns the schemas by name, with those of nested objects."""
        components: dict[str, Any] = {}
        for name, spec_type in self._types:
            schema = _localized(spec_type.json_schema()) | {"title": name}
            components |= schema.pop("$defs", {})
            components[f"{name}Changes"] = _changes(schema)
            for model, flags in self._fields:
                fields = _localized(model.model_json_schema(mode="serialization"))
                components |= fields.pop("$defs", {})
                schema["properties"] |= {name: field | flags for name, field in fields["properties"].items()}
            if self._has_id:
                schema["properties"] = {"id": {"type": "integer", "readOnly": True}, **schema["properties"]}
            components[name] = schema
        if self._has_kinds:
            references = [Component(name).reference for name, _type in self._types]
            kinds = [components[name]["properties"]["kind"]["enum"][0] for name, _type in self._types]
            mapping = {kind: reference["$ref"] for kind, reference in zip(kinds, references, strict=True)}
            components[self._name] = {
                "oneOf": references,
                "discriminator": {"propertyName": "kind", "mapping": mapping},
            }
            changes = [Component(f"{name}Changes").reference for name, _type in self._types]
            components[self.changes.name] = {"anyOf": changes}
        components[self.listed.name] = _list_of(self.whole.reference)
        unreadable = UnreadableObjectSchema.model_json_schema(mode="serialization")
        components[UnreadableObjectSchema.__name__] = unreadable
        return components

    @classmethod
    def defining(cls, component: str) -> dict[str, Any]:
        """Returns the schemas among which is that of a component; nothing for one that another schema contains."""
        schema = cls._by_component.get(component)
        return schema.components() if schema else {}


def resolve(openapi: dict[str, Any]) -> None:
    """Replaces the marks of components by references, adds the components, and leaves out defaults of references: they
    are those of the object's keys, and generators of clients cannot write them."""
    components = openapi["components"]["schemas"]
    components |= parameter_schemas()
    while marked := list(_with_key(MARK, openapi)):
        names: set[str] = set()
        for schema in marked:
            name, description = schema[MARK], schema.get("description")
            names.add(name)
            schema.clear()
            schema |= Component(name).reference | ({"description": description} if description else {})
        for name in sorted(names - components.keys()):
            components |= SpecSchema.defining(name)
    for schema in _with_key("default", openapi):
        if isinstance(schema["default"], dict) and not schema.keys().isdisjoint(("$ref", "allOf")):
            del schema["default"]


def _with_key(key: str, value: Any) -> Iterator[dict[str, Any]]:
    """Yields each object in a document that has the key."""
    if isinstance(value, dict):
        if key in value:
            yield value
        for item in value.values():
            yield from _with_key(key, item)
    elif isinstance(value, list):
        for item in value:
            yield from _with_key(key, item)


def _localized(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a schema with references to components of the document."""
    localized: dict[str, Any] = json.loads(json.dumps(schema).replace("#/$defs/", COMPONENTS))
    return localized


def _changes(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "description": "Keys to change. Null takes one away; those that are left out stay.",
        "properties": {
            name: {"anyOf": [{k: v for k, v in field.items() if k not in ("default", "description")}, {"type": "null"}]}
            | ({"description": field["description"]} if "description" in field else {})
            for name, field in schema["properties"].items()
        },
    }


def _list_of(item: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": item},
            "next": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "unreadable": {
                "type": "array",
                "items": Component(UnreadableObjectSchema.__name__).reference,
                "description": "The objects of this page that a newer version has written. Absent if there is none.",
            },
        },
    }
