"""A wrapper around Django Ninja's router on which every operation must declare the permission that it requires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_origin

from ninja import Router

from tocsin.access.roles import Permission, PermissionScope, Role, permission_scope
from tocsin.api.components import Component
from tocsin.api.framework import etags
from tocsin.api.framework.auth import ApiAuth
from tocsin.api.framework.pagination import PaginatedList

#: Methods that change an existing object, and therefore accept If-Match.
_CHANGING = frozenset({"PUT", "PATCH", "DELETE"})
#: The path of the list, to which new objects are posted; they have no state to match yet.
_NEW = ""
#: The operations on one object.
_OPERATIONS = {"GET": "get", "PUT": "replace", "PATCH": "change", "DELETE": "delete"}

_ERROR = {
    "description": "What went wrong.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


class AuthorizedRouter:
    """The endpoints of one resource.

    Each of the five methods declares an operation: its path, permission, success `status` (200), `answers` (the
    response type, or the component of a configured object; None for no body), the component of its `body` if that is
    one, whether the object is `tagged` (see `api.framework.etags`), whether it is `public` (for client observers too),
    and further Ninja options.
    """

    def __init__(self, resource_name: str) -> None:
        self.resource_name = resource_name
        self.router = Router(tags=[resource_name])

    def get[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("GET", path, action, **options)

    def post[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("POST", path, action, **options)

    def put[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("PUT", path, action, **options)

    def patch[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("PATCH", path, action, **options)

    def delete[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("DELETE", path, action, **options)

    def _add[View: Callable[..., Any]](
        self,
        method: str,
        path: str,
        action: Permission,
        *,
        answers: Any,
        status: int = 200,
        body: Component | None = None,
        tagged: bool = False,
        public: bool = False,
        extra: dict[str, Any] | None = None,
        **options: Any,
    ) -> Callable[[View], View]:
        def add(view: View) -> View:
            accepts_if_match = tagged and (method in _CHANGING or (method == "POST" and path != _NEW))
            auth = ApiAuth(action, accepts_if_match=accepts_if_match, is_public=public)
            success = dict((extra or {}).get("responses", {}).get(status, {}))
            if tagged and answers is not None:
                success["headers"] = dict(etags.ETAG)
            if isinstance(answers, Component):
                success |= _content(answers)
            responses: dict[int | str, Any] = {"default": _ERROR, status: success}
            if accepts_if_match:
                responses[412] = {**_ERROR, "description": "Someone has changed it since."}
            operation = _operation(method, path, answers) or view.__name__
            options.setdefault("operation_id", f"{self.resource_name.replace('-', '_')}_{operation}")
            self.router.api_operation(
                [method],
                path,
                auth=auth,
                response={status: dict[str, Any] if isinstance(answers, Component) else answers},
                openapi_extra={
                    **_with_body(extra or {}, body),
                    "x-needs": _required_roles(action),
                    "responses": responses,
                    **({"parameters": [dict(etags.IF_MATCH)]} if accepts_if_match else {}),
                },
                **options,
            )(view)
            auth.register_parameters(self.router.path_operations[path].operations[-1])
            return view

        return add


def _operation(method: str, path: str, answers: Any) -> str | None:
    """Returns what an operation on the list, or on an object itself, is called for every resource."""
    if path == _NEW and method == "POST":
        return "create"
    if path == _NEW and method == "GET" and _is_list(answers):
        return "list"
    return _OPERATIONS.get(method) if path in (_NEW, "/{id}", "/{int:id}") else None


def _is_list(answers: Any) -> bool:
    if isinstance(answers, Component):
        return answers.is_list
    return get_origin(answers) is list or (isinstance(answers, type) and issubclass(answers, PaginatedList))


def _content(component: Component) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": component.mark}}}


def _with_body(extra: dict[str, Any], body: Component | None) -> dict[str, Any]:
    """Returns further keys of an operation, such as an example of its body, with the schema of its body."""
    if body is None:
        return extra
    content = extra.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {**extra, "requestBody": {"content": {"application/json": {**content, "schema": body.mark}}}}


def _required_roles(action: Permission) -> str:
    """Return the roles that may call an operation, for the documentation: "manager (of own groups), admin"."""
    scopes = {role: permission_scope(role, action) for role in Role}
    return ", ".join(
        f"{role} (of own groups)" if scope is PermissionScope.OWN_GROUPS else str(role)
        for role, scope in scopes.items()
        if scope is not PermissionScope.NONE
    )
