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
from tocsin.api.framework.auth import Principal, caller, changer, require
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
    what: str
    #: Permission required to change an object.
    action: Permission
    #: The objects, with every relation that `show` reads.
    rows: Callable[[], QuerySet[M]]
    #: The object in spec form.
    spec_of: Callable[[M], dict[str, Any]]
    #: The object as the caller may see it.
    show: Callable[[M, Principal], dict[str, Any]]
    save: SaveApiResource[M]
    delete: Callable[[M, audit.AuditActor, Principal], None]
    #: The id of the owning group; None if only administrators may change the object.
    owner: Callable[[M], int | None]
    example: Mapping[str, object]
    #: The name column.
    by: str = "name"
    #: Fields shown besides the spec. A body may contain them; they are ignored.
    shown_only: frozenset[str] = frozenset({"id"})
    #: Keys that a replacement leaves unchanged if they are missing, and the value that clears each.
    without: Mapping[str, object] = field(default_factory=dict)
    #: Permission required to see an object.
    see: Permission = Permission.SEE
    #: Everything that a change may overwrite, for the ETag, if that is more than `spec_of`.
    state_of: Callable[[M], dict[str, Any]] | None = None
    #: The object type in the audit log, if it differs from `what`.
    recorded_as: str = ""

    def state(self, row: M) -> dict[str, Any]:
        """Return the object's state, for its ETag."""
        return (self.state_of or self.spec_of)(row)

    def find(self, text: str) -> M:
        """Return the object with that id or name. Raises Rejected("not_found")."""
        return find(self.rows(), text, what=self.what, by=self.by)

    def find_own(self, text: str, who: Principal, action: Permission) -> M:
        """Return the object if the caller may take `action` on it. Raises Rejected: `not_found`, `forbidden`."""
        found = self.find(text)
        require(who, action, self.owner(found))
        return found

    def find_meant(self, request: HttpRequest, text: str) -> M:
        """Return the object for a change, after checking If-Match. Raises Rejected also with `changed_meanwhile`."""
        found = self.find_own(text, caller(request), self.action)
        noun = self.recorded_as or self.what.replace(" ", "_")
        etags.check(request, self.state(found), noun, found.pk)
        return found


def register[M: Model](noun: ApiResource[M]) -> None:
    """Add the endpoints of a resource to its router."""
    _register_reading(noun)
    _register_writing(noun)


def _register_reading[M: Model](noun: ApiResource[M]) -> None:
    @noun.routes.get("/{id}", noun.see, summary=f"One {noun.what}", tagged=True)
    def get(request: HttpRequest, response: HttpResponse, id: str) -> dict[str, Any]:
        return _shown(noun, noun.find(id), caller(request), response)


def _register_writing[M: Model](noun: ApiResource[M]) -> None:
    routes, action = noun.routes, noun.action
    extra = {"requestBody": {"content": {"application/json": {"example": dict(noun.example)}}}}

    @routes.post("", action, status=201, summary=f"Make a new {noun.what}", extra=extra, tagged=True)
    def create(request: HttpRequest, response: HttpResponse, body: Body[dict[str, Any]]) -> dict[str, Any]:
        who = caller(request)
        return _shown(noun, _save(noun, body, None, who), who, response)

    @routes.put(
        "/{id}",
        action,
        summary="Make it what the body says: what is left out gets its default",
        extra=extra,
        tagged=True,
    )
    def replace(request: HttpRequest, response: HttpResponse, id: str, body: Body[dict[str, Any]]) -> dict[str, Any]:
        who = caller(request)
        with config_version.exclusive():
            return _shown(noun, _save(noun, body, noun.find_meant(request, id), who), who, response)

    @routes.patch(
        "/{id}", action, summary="Change the keys of the body; the others stay, null takes one away", tagged=True
    )
    def change(request: HttpRequest, response: HttpResponse, id: str, body: Body[dict[str, Any]]) -> dict[str, Any]:
        who = caller(request)
        with config_version.exclusive():
            existing = noun.find_meant(request, id)
            given = {key: noun.without.get(key) if value is None else value for key, value in body.items()}
            return _shown(noun, _save(noun, {**noun.spec_of(existing), **given}, existing, who), who, response)

    @routes.delete("/{id}", action, status=204, answers=None, summary="Delete it, if nothing needs it", tagged=True)
    def delete(request: HttpRequest, id: str) -> None:
        who = caller(request)
        with config_version.exclusive():
            noun.delete(noun.find_meant(request, id), changer(who), who)


def _shown[M: Model](noun: ApiResource[M], row: M, who: Principal, response: HttpResponse) -> dict[str, Any]:
    etags.tag(response, noun.state(row))
    return noun.show(row, who)


def _save[M: Model](noun: ApiResource[M], body: ResourceSpec, existing: M | None, who: Principal) -> M:
    # Load the caller's groups before saving: adding oneself to a group must not grant permission for this very change.
    _ = who.viewer
    spec = {name: value for name, value in body.items() if name not in noun.shown_only}
    with transaction.atomic():
        saved = noun.save(spec, caller=who, existing=existing)
        require(who, noun.action, noun.owner(saved))
    return noun.rows().get(pk=saved.pk)
