"""Generic endpoints of configured objects: list, get, create, replace, change, delete, history.

Bodies have the shape of the YAML specs.

The domain's commands validate, save and record changes. This module authorizes before and after the change, because an
object may neither be taken from another group nor be assigned to one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeAliasType, cast

from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Body, Query
from pydantic import BaseModel, Field, WithJsonSchema, create_model

from tocsin.access import boundary
from tocsin.access.audit_log import entry_fields
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.api.errors import COMPONENTS, MARK, Component, ReasonSchema, parameter_schemas
from tocsin.api.framework import auth
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    PaginatedList,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    page,
    require,
)
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import show_reason
from tocsin.core.validation.spec import Spec
from tocsin.resources import visibility
from tocsin.resources.registry import GROUPS
from tocsin.resources.resource import Resource, ResourceSpec

# ---------- audit entries
# Entries of the audit log in responses.


class AuditEntrySchema(BaseModel):
    """One entry. Secrets are masked in `before` and `after`."""

    id: int
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    object_name: str
    before: Any
    after: Any
    via: str
    address: str | None
    sequence: int | None = Field(description="Its place in the hash chain; null in its first seconds.")
    hash: str | None = Field(description="SHA-256 over its values and the previous hash, in hex.")


def show_entries(entries: Sequence[AuditEntry], *, with_address: bool = True) -> list[dict[str, Any]]:
    """Return the entries as the API shows them, with the IP addresses of the actors if `with_address`."""
    return [entry_fields(entry, with_address=with_address) for entry in entries]


# ---------- spec schemas
# Schemas of configured objects in the OpenAPI document, made of their specs: for bodies and answers alike.
#
# Commands read the specs, so that Django Ninja sees only dictionaries. `SpecSchema` says what they contain.


def written_as(spec_type: type[Spec] | TypeAliasType) -> WithJsonSchema:
    """Annotates a field of another schema that contains an object, which is a part of a configured object."""
    return Component(spec_type.__name__).annotation


class UnreadableObjectSchema(BaseModel):
    """An object that a newer version has written: it can be deleted, or replaced by PUT."""

    id: int
    name: str
    reason: ReasonSchema


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
        unreadable = _localized(UnreadableObjectSchema.model_json_schema(mode="serialization"))
        components |= unreadable.pop("$defs")
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


#: Returns each object as the caller may see it: its spec, with its read-only fields.
type ShowRows[M] = Callable[[Sequence[M], Principal], Iterable[dict[str, Any]]]


class SaveApiResource[M](Protocol):
    """Creates an object, or updates `existing` to match the spec. Raises Rejected with the path of the problem."""

    def __call__(self, spec: ResourceSpec, /, *, caller: Principal, existing: M | None) -> M: ...


@dataclass(frozen=True, slots=True)
class ApiResource[M: Model]:
    """A kind of object with what only the API knows about it."""

    resource: Resource[M]
    routes: AuthorizedRouter = field(init=False)
    #: The schemas of bodies and answers.
    schema: SpecSchema = field(init=False)
    #: If omitted, the specs.
    show: ShowRows[M] | None = None
    #: The fields that `show` adds to the spec. A body may contain them; they are ignored.
    read_only: type[BaseModel] | None = None
    #: The keys of a body that are no part of the spec, and are never shown.
    write_only: type[BaseModel] | None = None
    #: Further filters of the list: the type of each value, and the lookup of the column.
    filters: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    #: Query parameters of the list besides the filters, which `narrow` applies.
    query: type[PaginationQuery] = PaginationQuery
    narrow: Callable[[QuerySet[M], Any, Principal], QuerySet[M]] = lambda rows, query, principal: rows
    list_summary: str = ""
    #: Replaces the resource's command, for further checks.
    save: SaveApiResource[M] | None = None
    #: The spec that the keys of a PATCH change, if it is not the object's spec.
    patched_spec: Callable[[M], dict[str, Any]] | None = None
    #: Keys that a replacement leaves unchanged if they are missing, and the value that clears each.
    null_values: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        schema = SpecSchema(
            self.resource.spec_type,
            kinds=self.resource.kind_specs,
            read_only=self.read_only,
            write_only=self.write_only,
        )
        object.__setattr__(self, "routes", AuthorizedRouter(self.resource.path))
        object.__setattr__(self, "schema", schema)

    def find(self, text: str) -> M:
        """Return the object with that id or name. Raises Rejected("not_found")."""
        return self.resource.find(text)

    def find_authorized(self, text: str, principal: Principal, action: Permission) -> M:
        """Return the object if the caller may take `action` on it. Raises Rejected: `not_found`, `forbidden`."""
        row = self.find(text)
        require(principal, action, self.resource.owner_group_id(row))
        return row

    def find_for_change(self, request: HttpRequest, text: str) -> M:
        """Return the object for a change, after checking If-Match. Raises Rejected also with `changed_meanwhile`."""
        row = self.find_authorized(text, caller(request), self.resource.change_permission)
        auth.check(request, self.resource.state_of(row), self.resource.object_type, row.pk)
        return row

    def spec_of(self, body: ResourceSpec) -> ResourceSpec:
        """Return a body without the read-only fields."""
        read_only = {"id", *(self.read_only.model_fields if self.read_only else ())}
        return {name: value for name, value in body.items() if name not in read_only}

    def show_all(self, rows: Sequence[M], principal: Principal) -> list[dict[str, Any]]:
        """Return the objects as the caller may see them."""
        rows = self.resource.with_references(rows)
        shown = self.resource.specs(rows) if self.show is None else self.show(rows, principal)
        return [{"id": row.pk, **fields} for row, fields in zip(rows, shown, strict=True)]

    def show_one(self, row: M, principal: Principal) -> dict[str, Any]:
        """Return the object as the caller may see it. Raises Rejected("unreadable") for one of a newer version."""
        self.require_readable(row)
        return self.show_all([row], principal)[0]

    def require_readable(self, row: M) -> None:
        """Raises Rejected("unreadable") if a newer version has written the object."""
        if reason := self.resource.unreadable(row):
            raise Rejected("unreadable", reason)

    def show_tagged(self, row: M, principal: Principal, response: HttpResponse) -> dict[str, Any]:
        """Return the object as the caller may see it, and set its ETag."""
        auth.tag(response, self.resource.state_of(row))
        return self.show_one(row, principal)


def register[M: Model](resource: ApiResource[M]) -> ApiResource[M]:
    """Add the generic endpoints of a resource to its router, after those that its module has added."""
    _register_reads(resource)
    _register_writes(resource)
    return resource


def _register_reads[M: Model](api: ApiResource[M]) -> None:
    resource, routes = api.resource, api.routes

    def list_objects(request: HttpRequest, query: Any) -> dict[str, Any]:
        principal = caller(request)
        rows = api.narrow(_filter(api, resource.rows(), query), query, principal)
        unreadable: list[dict[str, Any]] = []

        def show(page_rows: Sequence[M]) -> list[dict[str, Any]]:
            reasons = {row.pk: reason for row in page_rows if (reason := resource.unreadable(row))}
            unreadable.extend(
                {"id": row.pk, "name": resource.name(row), "reason": show_reason(reasons[row.pk])}
                for row in page_rows
                if row.pk in reasons
            )
            return api.show_all([row for row in page_rows if row.pk not in reasons], principal)

        return page(rows, query, show) | ({"unreadable": unreadable} if unreadable else {})

    # Django Ninja reads the parameters from the annotation.
    list_objects.__annotations__["query"] = cast(Any, Query)[_list_query(api)]
    routes.get(
        "",
        resource.see_permission,
        answers=api.schema.listed,
        summary=api.list_summary or resource.plural,
    )(list_objects)

    @routes.get(
        "/{id}", resource.see_permission, answers=api.schema.whole, summary=f"One {resource.label}", tagged=True
    )
    def get(request: HttpRequest, response: HttpResponse, id: str) -> dict[str, Any]:
        return api.show_tagged(api.find(id), caller(request), response)

    # The values of the past may be ones that only those see who may change the object.
    @routes.get(
        "/{id}/history",
        resource.change_permission,
        answers=PaginatedList[AuditEntrySchema],
        summary="Its changes in the audit log, newest first",
    )
    def history(request: HttpRequest, id: str, query: Query[PaginationQuery]) -> dict[str, Any]:
        principal = caller(request)
        row = api.find_authorized(id, principal, resource.change_permission)
        return page(
            AuditEntry.objects.filter(object_type=resource.object_type, object_id=str(row.pk)),
            query,
            lambda entries: show_entries(entries, with_address=principal.sees_addresses_of_actors),
            newest_first=True,
        )


def _list_query[M: Model](api: ApiResource[M]) -> type[PaginationQuery]:
    """Return the query parameters of a list: the common filters, then those of the resource."""
    resource = api.resource
    fields: dict[str, Any] = {
        resource.name_column: (str | None, None),
        "q": (str | None, Field(None, max_length=200, description="A part of the name.")),
    }
    if resource.group_lookup:
        fields["group"] = (str | None, Field(None, description="Of this group: its id or name."))
    fields |= {name: (value_type | None, None) for name, (value_type, _lookup) in api.filters.items()}
    name = "".join(word.capitalize() for word in resource.key.split("_"))
    return create_model(f"{name}Query", __base__=api.query, **fields)


def _filter[M: Model](api: ApiResource[M], rows: QuerySet[M], query: Any) -> QuerySet[M]:
    name_column = api.resource.name_column
    lookups = {
        name_column: f"{name_column}__iexact",
        **{name: lookup for name, (_type, lookup) in api.filters.items()},
    }
    for name, lookup in lookups.items():
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{lookup: value})
    if query.q is not None:
        rows = rows.filter(api.resource.search(query.q))
    if (group_lookup := api.resource.group_lookup) and query.group is not None:
        rows = rows.filter(**{group_lookup: GROUPS.resolve(query.group, "group").pk})
    return rows


def _register_writes[M: Model](api: ApiResource[M]) -> None:
    resource, routes, action, schema = api.resource, api.routes, api.resource.change_permission, api.schema
    extra = {"requestBody": {"content": {"application/json": {"example": dict(resource.example)}}}}

    @routes.post(
        "",
        action,
        status=201,
        answers=schema.whole,
        body=schema.whole,
        summary=f"Make a new {resource.label}",
        extra=extra,
        tagged=True,
    )
    def create(request: HttpRequest, response: HttpResponse, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        # What cannot be answered is not stored.
        with transaction.atomic():
            return api.show_tagged(_save(api, body, None, principal), principal, response)

    @routes.put(
        "/{id}",
        action,
        answers=schema.whole,
        body=schema.whole,
        summary="Make it what the body says: what is left out gets its default",
        extra=extra,
        tagged=True,
    )
    def replace(request: HttpRequest, response: HttpResponse, id: str, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        with settings_store.exclusive():
            saved = _save(api, body, api.find_for_change(request, id), principal)
            return api.show_tagged(saved, principal, response)

    @routes.patch(
        "/{id}",
        action,
        answers=schema.whole,
        body=schema.changes,
        summary="Change the keys of the body; the others stay, null takes one away",
        tagged=True,
    )
    def change(request: HttpRequest, response: HttpResponse, id: str, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        with settings_store.exclusive():
            existing = api.find_for_change(request, id)
            api.require_readable(existing)
            changes = {key: api.null_values.get(key) if value is None else value for key, value in body.items()}
            spec = (api.patched_spec or resource.spec)(existing)
            return api.show_tagged(_save(api, {**spec, **changes}, existing, principal), principal, response)

    @routes.delete("/{id}", action, status=204, answers=None, summary="Delete it, if nothing needs it", tagged=True)
    def delete(request: HttpRequest, id: str) -> None:
        principal = caller(request)
        with settings_store.exclusive():
            row = api.find_for_change(request, id)
            resource.delete(row, actor=audit_actor_of(principal), now=principal.now)


def _save[M: Model](api: ApiResource[M], body: ResourceSpec, existing: M | None, principal: Principal) -> M:
    # Load the caller's groups before saving: adding oneself to a group must not grant permission for this very change.
    _ = principal.viewer
    resource = api.resource
    spec = api.spec_of(body)
    with transaction.atomic():
        if api.save is not None:
            saved = api.save(spec, caller=principal, existing=existing)
        else:
            saved = resource.save(spec, existing=existing, actor=audit_actor_of(principal), now=principal.now)
        require(principal, resource.change_permission, resource.owner_group_id(saved))
    if boundary.current() is not None:
        # What the caller's groups own was loaded before the object existed.
        boundary.enter(visibility.boundary_of(principal.viewer))
    return resource.rows().get(pk=saved.pk)
