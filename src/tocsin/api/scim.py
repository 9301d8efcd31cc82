"""SCIM 2.0 over HTTP, at /scim/v2/: what `identity.scim` does for the provider whose token a request has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import msgspec
from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from tocsin.access.audit import AuditActor
from tocsin.api import errors
from tocsin.core.errors import Rejected
from tocsin.core.reasons import TEXT, Reason, sentence
from tocsin.core.runtime import clock
from tocsin.identity.models import scim_uri
from tocsin.identity.scim import documents, filters, provisioned_groups, provisioned_users, schema
from tocsin.identity.scim.documents import ListQuery, Projection, ScimRequest, list_query, projection
from tocsin.identity.scim.schema import GROUP, USER, ResourceSchema

# ---------- responses
# SCIM's own answers: resources with their ETag, and errors with `scimType`.


log = logging.getLogger(__name__)

CONTENT_TYPE = "application/scim+json"

#: HTTP status and `scimType` by the code of a rejection.
_ERRORS = {
    "not_found": (404, ""),
    "method_not_allowed": (405, ""),
    "uniqueness": (409, "uniqueness"),
    "name_taken": (409, "uniqueness"),
    "in_use": (409, ""),
    "last_administrator": (409, ""),
    "changed_meanwhile": (412, ""),
    "too_large": (413, ""),
    "not_supported": (501, ""),
    "invalid_syntax": (400, "invalidSyntax"),
    "invalid_json": (400, "invalidSyntax"),
    "invalid_filter": (400, "invalidFilter"),
    "invalid_path": (400, "invalidPath"),
    "no_target": (400, "noTarget"),
    "mutability": (400, "mutability"),
}
_INVALID = (400, "invalidValue")


def resource_response(document: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """Returns a resource, with its version as ETag, and with its address if it is new."""
    response = _json(document, status)
    meta = document.get("meta", {})
    if "version" in meta:
        response["ETag"] = meta["version"]
    if status == 201:
        response["Location"] = meta["location"]
    return response


def not_modified(version: str) -> HttpResponse:
    """Returns 304, for a client that has the version."""
    response = HttpResponse(status=304)
    response["ETag"] = version
    return response


def no_content() -> HttpResponse:
    """Returns 204."""
    return HttpResponse(status=204)


def unauthorized() -> HttpResponse:
    """Returns 401, for a request without the token of an enabled provider."""
    response = _json(documents.error(401, schema.UNAUTHORIZED()), 401)
    response["WWW-Authenticate"] = 'Bearer realm="Tocsin SCIM"'
    return response


def rejected(error: Rejected) -> HttpResponse:
    """Returns the error of a rejection. An unknown name in the body is an invalid value."""
    is_in_body = error.code == "not_found" and error.field is not None
    status, scim_type = _INVALID if is_in_body else _ERRORS.get(error.code, _INVALID)
    return _json(documents.error(status, error.reason, scim_type), status)


def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """Returns any other error as the REST API classifies and logs it, in SCIM's form."""
    found = errors.unexpected(request, error)
    reason: Reason = TEXT(text=msgspec.json.decode(found.content)["detail"])
    response = _json(documents.error(found.status_code, reason), found.status_code)
    if "Retry-After" in found:
        response["Retry-After"] = found["Retry-After"]
    return response


def _json(document: Mapping[str, Any], status: int) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(document), status=status, content_type=CONTENT_TYPE)


# ---------- views
# Routes a request of an identity provider: authenticates it, reads its parameters and body, and answers.


#: Enough for a group of 20,000 members.
MAX_BODY_BYTES = 2 * 1024 * 1024

#: The interface in the audit log.
VIA = "scim"


class _Resource(Protocol):
    """What `provisioned_users` and `provisioned_groups` have in common."""

    def read_document(self, body: object, before: Mapping[str, Any] = ..., /) -> dict[str, Any]: ...
    def create(self, request: ScimRequest, document: dict[str, Any]) -> dict[str, Any]: ...
    def get(self, request: ScimRequest, scim_id: str) -> dict[str, Any]: ...
    def find_all(self, request: ScimRequest, query: ListQuery) -> tuple[list[dict[str, Any]], int]: ...
    def change(
        self, request: ScimRequest, scim_id: str, changed: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]: ...
    def delete(self, request: ScimRequest, scim_id: str) -> None: ...


_RESOURCES: Mapping[str, tuple[ResourceSchema, _Resource]] = {
    "Users": (USER, provisioned_users),
    "Groups": (GROUP, provisioned_groups),
}

#: What the RFC describes and Tocsin does not have.
_NOT_SUPPORTED = frozenset({"Bulk", "Me", ".search"})


@csrf_exempt
def scim(request: HttpRequest, address: str = "") -> HttpResponse:
    """Handles every request below /scim/v2/."""
    try:
        provider = documents.verify_token(_bearer_token(request))
        if provider is None:
            response = unauthorized()
        else:
            scim_request = ScimRequest(
                provider,
                scim_uri(),
                AuditActor(None, provider.name, VIA, request.META.get("REMOTE_ADDR") or None),
                getattr(request, "now", None) or clock.now(),
                request.headers.get("If-Match"),
            )
            response = _route(request, scim_request, [part for part in address.split("/") if part])
    except Rejected as error:
        response = rejected(error)
    except Exception as error:  # noqa: BLE001 - outermost handler: errors keep SCIM's form
        response = unexpected(request, error)
    response["Cache-Control"] = "no-store"
    return response


def _bearer_token(request: HttpRequest) -> str:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _route(request: HttpRequest, scim_request: ScimRequest, parts: list[str]) -> HttpResponse:
    if any("\x00" in part for part in parts):
        raise _no_such_address()
    match parts:
        case ["ServiceProviderConfig"]:
            _require_method(request, "GET")
            return resource_response(documents.service_provider_config(scim_request.base))
        case ["ResourceTypes", *ids]:
            return _description(request, documents.resource_types(scim_request.base), ids)
        case ["Schemas", *ids]:
            return _description(request, documents.schemas(scim_request.base), ids)
        case [name] if name in _RESOURCES:
            _require_method(request, "GET", "POST")
            if request.method == "POST":
                return _create(request, scim_request, name)
            return _list(scim_request, name, {key: str(value) for key, value in request.GET.items()})
        case [name, ".search"] if name in _RESOURCES:
            _require_method(request, "POST")
            return _list(scim_request, name, _search_parameters(_body(request)))
        case [name, scim_id] if name in _RESOURCES:
            _require_method(request, "GET", "PUT", "PATCH", "DELETE")
            return _one(request, scim_request, name, scim_id)
        case [name, *_] if name in _NOT_SUPPORTED:
            raise Rejected("not_supported", sentence("{name} is not supported.", name=name))
        case _:
            raise _no_such_address()


def _no_such_address() -> Rejected:
    return Rejected("not_found", schema.NO_SUCH_ADDRESS())


def _require_method(request: HttpRequest, *methods: str) -> None:
    if request.method not in (*methods, "HEAD" if "GET" in methods else ""):
        raise Rejected("method_not_allowed", schema.WRONG_METHOD(method=str(request.method)[:20]))


def _description(request: HttpRequest, described: list[dict[str, Any]], ids: list[str]) -> HttpResponse:
    _require_method(request, "GET")
    if not ids:
        return resource_response(documents.list_response(described, len(described), 1))
    found = next((one for one in described if [one["id"]] == ids), None)
    if found is None:
        raise _no_such_address()
    return resource_response(found)


def _create(request: HttpRequest, scim_request: ScimRequest, name: str) -> HttpResponse:
    schema, resource = _RESOURCES[name]
    shown = _projection(schema, request.GET)
    created = resource.create(scim_request, resource.read_document(_body(request)))
    return resource_response(_shown(shown, created), 201)


def _list(scim_request: ScimRequest, name: str, parameters: Mapping[str, str]) -> HttpResponse:
    schema, resource = _RESOURCES[name]
    shown = _projection(schema, parameters)
    query = list_query(schema, parameters)
    found, total = resource.find_all(replace(scim_request, has_members=shown.has("members")), query)
    return resource_response(documents.list_response([shown.apply(one) for one in found], total, query.start))


def _one(request: HttpRequest, scim_request: ScimRequest, name: str, scim_id: str) -> HttpResponse:
    schema, resource = _RESOURCES[name]
    shown = _projection(schema, request.GET)
    scim_request = replace(scim_request, has_members=shown.has("members"))
    match request.method:
        case "PUT":
            body = _body(request)
            changed = resource.change(scim_request, scim_id, lambda before: resource.read_document(body, before))
        case "PATCH":
            body = _body(request)
            changed = resource.change(scim_request, scim_id, lambda before: filters.apply(schema, before, body))
        case "DELETE":
            resource.delete(scim_request, scim_id)
            return no_content()
        case _:
            found = resource.get(scim_request, scim_id)
            version = found["meta"]["version"]
            if documents.is_current(version, request.headers.get("If-None-Match")):
                return not_modified(version)
            return resource_response(_shown(shown, found))
    return resource_response(_shown(shown, changed))


def _body(request: HttpRequest) -> Any:
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES or len(request.body) > MAX_BODY_BYTES:
        raise Rejected("too_large", sentence("A body has at most {maximum} KiB.", maximum=MAX_BODY_BYTES // 1024))
    return errors.read_json(request.body)


def _search_parameters(body: object) -> dict[str, str]:
    """Returns the body of a search as the parameters of a list."""
    if not isinstance(body, Mapping):
        raise Rejected("invalid_syntax", schema.NOT_AN_OBJECT())
    return {
        str(name): ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in body.items()
        if value is not None
    }


def _shown(shown: Projection, document: Mapping[str, Any]) -> dict[str, Any]:
    return shown.apply(document) | {"meta": document["meta"]}


def _projection(schema: ResourceSchema, parameters: Mapping[str, str]) -> Projection:
    return projection(schema, str(parameters.get("attributes", "")), str(parameters.get("excludedAttributes", "")))


# ---------- urls
# URLs under /scim/v2/. One view handles them all, so that every answer has SCIM's form.


app_name = "scim"
urlpatterns = [path("", scim), re_path(r"^(?P<address>.+)$", scim, name="resource")]
