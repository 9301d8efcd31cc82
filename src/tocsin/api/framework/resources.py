"""Generic endpoints of configured objects: get, create, replace, change, delete. Bodies have the shape of the YAML
specs.

The domain's commands validate, save and record changes. This module authorizes before and after the change, because an
object may neither be taken from another group nor be assigned to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Body

from tocsin.access import audit
from tocsin.access.roles import Permission
from tocsin.api.framework import etags
from tocsin.api.framework.auth import Principal, audit_actor_of, caller, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find
from tocsin.core.config import config_version

type ResourceSpec = Mapping[str, object]


class SaveApiResource[M](Protocol):
    """Creates an object, or updates `existing` to match the spec. Raises Rejected with the path of the problem."""

    def __call__(self, spec: ResourceSpec, /, *, caller: Principal, existing: M | None) -> M: ...


@dataclass(frozen=True, slots=True)
class ApiResource[M: Model]:
    """Everything that the endpoints need to know about one resource."""

    routes: AuthorizedRouter
    #: The singular noun.
    label: str
    #: Permission required to change an object.
    change_permission: Permission
    #: The objects, with every relation that `show` reads.
    rows: Callable[[], QuerySet[M]]
    #: The object in spec form.
    to_spec: Callable[[M], dict[str, Any]]
    #: The object as the caller may see it.
    show: Callable[[M, Principal], dict[str, Any]]
    save: SaveApiResource[M]
    delete: Callable[[M, audit.AuditActor, Principal], None]
    #: The id of the owning group; None if only administrators may change the object.
    owner_group_id: Callable[[M], int | None]
    example: Mapping[str, object]
    #: The name column.
    name_column: str = "name"
    #: Fields shown besides the spec. A body may contain them; they are ignored.
    read_only_keys: frozenset[str] = frozenset({"id"})
    #: Keys that a replacement leaves unchanged if they are missing, and the value that clears each.
    null_values: Mapping[str, object] = field(default_factory=dict)
    #: Permission required to see an object.
    see_permission: Permission = Permission.VIEW_ALERTS
    #: Everything that a change may overwrite, for the ETag, if that is more than `spec_of`.
    to_state: Callable[[M], dict[str, Any]] | None = None
    #: The object type in the audit log, if it differs from `what`.
    audit_object_type: str = ""

    def state(self, row: M) -> dict[str, Any]:
        """Return the object's state, for its ETag."""
        return (self.to_state or self.to_spec)(row)

    def find(self, text: str) -> M:
        """Return the object with that id or name. Raises Rejected("not_found")."""
        return find(self.rows(), text, label=self.label, name_column=self.name_column)

    def find_authorized(self, text: str, principal: Principal, action: Permission) -> M:
        """Return the object if the caller may take `action` on it. Raises Rejected: `not_found`, `forbidden`."""
        row = self.find(text)
        require(principal, action, self.owner_group_id(row))
        return row

    def find_for_change(self, request: HttpRequest, text: str) -> M:
        """Return the object for a change, after checking If-Match. Raises Rejected also with `changed_meanwhile`."""
        row = self.find_authorized(text, caller(request), self.change_permission)
        object_type = self.audit_object_type or self.label.replace(" ", "_")
        etags.check(request, self.state(row), object_type, row.pk)
        return row


def register[M: Model](resource: ApiResource[M]) -> None:
    """Add the endpoints of a resource to its router."""
    _register_reads(resource)
    _register_writes(resource)


def _register_reads[M: Model](resource: ApiResource[M]) -> None:
    @resource.routes.get("/{id}", resource.see_permission, summary=f"One {resource.label}", tagged=True)
    def get(request: HttpRequest, response: HttpResponse, id: str) -> dict[str, Any]:
        return _show_with_etag(resource, resource.find(id), caller(request), response)


def _register_writes[M: Model](resource: ApiResource[M]) -> None:
    routes, action = resource.routes, resource.change_permission
    extra = {"requestBody": {"content": {"application/json": {"example": dict(resource.example)}}}}

    @routes.post("", action, status=201, summary=f"Make a new {resource.label}", extra=extra, tagged=True)
    def create(request: HttpRequest, response: HttpResponse, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        return _show_with_etag(resource, _save(resource, body, None, principal), principal, response)

    @routes.put(
        "/{id}",
        action,
        summary="Make it what the body says: what is left out gets its default",
        extra=extra,
        tagged=True,
    )
    def replace(request: HttpRequest, response: HttpResponse, id: str, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        with config_version.exclusive():
            return _show_with_etag(
                resource, _save(resource, body, resource.find_for_change(request, id), principal), principal, response
            )

    @routes.patch(
        "/{id}", action, summary="Change the keys of the body; the others stay, null takes one away", tagged=True
    )
    def change(request: HttpRequest, response: HttpResponse, id: str, body: Body[dict[str, Any]]) -> dict[str, Any]:
        principal = caller(request)
        with config_version.exclusive():
            existing = resource.find_for_change(request, id)
            changes = {key: resource.null_values.get(key) if value is None else value for key, value in body.items()}
            return _show_with_etag(
                resource,
                _save(resource, {**resource.to_spec(existing), **changes}, existing, principal),
                principal,
                response,
            )

    @routes.delete("/{id}", action, status=204, answers=None, summary="Delete it, if nothing needs it", tagged=True)
    def delete(request: HttpRequest, id: str) -> None:
        principal = caller(request)
        with config_version.exclusive():
            resource.delete(resource.find_for_change(request, id), audit_actor_of(principal), principal)


def _show_with_etag[M: Model](
    resource: ApiResource[M], row: M, principal: Principal, response: HttpResponse
) -> dict[str, Any]:
    etags.tag(response, resource.state(row))
    return resource.show(row, principal)


def _save[M: Model](resource: ApiResource[M], body: ResourceSpec, existing: M | None, principal: Principal) -> M:
    # Load the caller's groups before saving: adding oneself to a group must not grant permission for this very change.
    _ = principal.viewer
    spec = {name: value for name, value in body.items() if name not in resource.read_only_keys}
    with transaction.atomic():
        saved = resource.save(spec, caller=principal, existing=existing)
        require(principal, resource.change_permission, resource.owner_group_id(saved))
    return resource.rows().get(pk=saved.pk)
