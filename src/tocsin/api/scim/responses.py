"""SCIM's own answers: resources with their ETag, and errors with `scimType`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse

from tocsin.api import errors
from tocsin.core.errors import Rejected
from tocsin.core.reasons import TEXT, Reason
from tocsin.identity.scim import documents, reasons

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
    response = _json(documents.error(401, reasons.UNAUTHORIZED()), 401)
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
