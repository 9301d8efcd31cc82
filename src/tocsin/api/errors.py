"""All API errors in one format: `{"error": code, "detail": text, "fields": {…}}`, with a matching HTTP status.

The text of an internal error is never sent; it is logged under an id that the response contains.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja.errors import HttpError, ValidationError

from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary

log = logging.getLogger(__name__)

_STATUSES = {
    "not_authenticated": 401,
    "forbidden": 403,
    "csrf": 403,
    "needs_person": 403,
    "changed_meanwhile": 412,
    "too_large": 413,
}

#: Codes for valid requests that the object's current state does not allow.
_CONFLICTS = frozenset(
    {"merged", "key_taken", "not_closed", "not_possible", "too_late", "in_use", "last_administrator"}
)

#: Retry-After while the database is unavailable.
RETRY_AFTER = timedelta(seconds=5)

_NOT_FOUND = "There is nothing at {path}. The addresses are listed in /api/v1/docs."


#: The schema of every error, for the OpenAPI document.
ERROR_SCHEMA = {
    "title": "Error",
    "type": "object",
    "required": ["error", "detail", "fields"],
    "properties": {
        "error": {"type": "string", "description": "A code, for programs."},
        "detail": {"type": "string", "description": "A sentence, for people."},
        "fields": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "For each field, or the path to it, what is wrong with it.",
        },
    },
}


def http_status(error: Rejected) -> int:
    """Return the HTTP status of a rejection: 400 unless its code has another one."""
    if error.code in _CONFLICTS or error.code.startswith("already_"):
        return 409
    if error.code == "not_found":
        # With a field, a name in the body refers to nothing; the requested URL itself exists.
        return 404 if error.field is None else 400
    return _STATUSES.get(error.code, 400)


def error_response(status: int, code: str, detail: str, fields: Mapping[str, str] | None = None) -> HttpResponse:
    """Return an error response. `fields` maps each field's name or path to a sentence."""
    body = {"error": code, "detail": detail, "fields": dict(fields or {})}
    response = HttpResponse(msgspec.json.encode(body), status=status, content_type="application/json; charset=utf-8")
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="Tocsin"'
    return response


def rejected(_request: HttpRequest, error: Rejected) -> HttpResponse:
    return error_response(http_status(error), error.code, error.detail, error.fields)


def temporary(_request: HttpRequest, error: Temporary) -> HttpResponse:
    response = error_response(503, "temporary", error.detail)
    if error.retry_after is not None:
        response["Retry-After"] = str(max(1, int(error.retry_after.total_seconds())))
    return response


def permanent(_request: HttpRequest, error: Permanent) -> HttpResponse:
    return error_response(502, "needs_attention", str(error))


def invalid(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Handle parameters or a body that do not match the schema, with a sentence per field."""
    fields: dict[str, str] = {}
    for problem in error.errors:
        fields.setdefault(_field_path(problem["loc"]), _sentence(problem))
    detail = "; ".join(f"{path}: {sentence}" for path, sentence in fields.items())
    return error_response(400, "invalid", detail, fields)


def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Handle Django Ninja's own rejections: invalid JSON, or missing authentication."""
    if isinstance(error.__cause__, Rejected):
        return rejected(request, error.__cause__)
    if error.status_code == 401:
        return error_response(
            401,
            "not_authenticated",
            "Send a token: `Authorization: Bearer TOKEN`. `tocsin token create`, or POST /api/v1/tokens, makes one.",
        )
    return error_response(error.status_code, "invalid" if error.status_code < 500 else "internal", error.message)


def not_found(request: HttpRequest, _error: Http404 | None = None) -> HttpResponse:
    return error_response(404, "not_found", _NOT_FOUND.format(path=request.path))


def not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    use = " or ".join(allowed.split(", "))
    response = error_response(405, "method_not_allowed", f"{request.method} is not possible here; use {use}.")
    response["Allow"] = allowed
    return response


def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """Handle every other exception: log it once, under the id that the response contains."""
    match error:
        case RequestDataTooBig():
            return error_response(413, "too_large", "The body is larger than 5 MiB.")
        case TooManyFieldsSent() | UnreadablePostError():
            return error_response(400, "invalid", "The body could not be read.")
        case OperationalError() | psycopg.OperationalError():
            # The database is down or overloaded, or the statement exceeded its timeout.
            log.error("The database did not answer %s %s.", request.method, request.path, exc_info=error)
            response = error_response(
                503, "temporary", "The database did not answer in time. Try again, or ask for less."
            )
            response["Retry-After"] = "5"
            return response
    request_id = getattr(request, "id", None) or secrets.token_hex(4)
    if database.is_unavailable(error):
        log.warning("Request %s: the database cannot be used: %s", request_id, error)
        state = "takes no writes now" if database.is_read_only_error(error) else "does not answer"
        return temporary(request, Temporary(f"The database {state}. Try again.", RETRY_AFTER))
    log.error("Request %s failed: %s %s", request_id, request.method, request.path, exc_info=error)
    return error_response(
        500,
        "internal",
        f"Something went wrong in Tocsin, and was logged as {request_id}. Quote that number when you ask.",
    )


def read_json(body: bytes) -> Any:
    """Parse a JSON body. Raises Rejected with line and column; NUL and lone surrogates are rejected too."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Rejected("invalid_json", f"{error.msg}: line {error.lineno} column {error.colno}.") from error
    except UnicodeDecodeError as error:
        raise Rejected("invalid_json", f"The body is not UTF-8: byte {error.start} cannot be read.") from error
    except RecursionError as error:
        raise Rejected("invalid_json", "The body is nested too deeply.") from error
    if b"\\u" in body or b"\x00" in body:
        _refuse_bad_text(value, "")
    return value


def _refuse_constant(name: str) -> Any:
    raise Rejected("invalid_json", f"{name} is not a JSON number.")


def _refuse_bad_text(value: Any, path: str) -> None:
    match value:
        case str():
            if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise Rejected("invalid", "The text holds a NUL character or half of a surrogate pair.", path or "body")
        case dict():
            for name, item in value.items():
                _refuse_bad_text(name, path)
                _refuse_bad_text(item, f"{path}.{name}" if path else name)
        case list():
            for index, item in enumerate(value):
                _refuse_bad_text(item, f"{path}[{index}]")


def _field_path(location: tuple[str | int, ...]) -> str:
    """Return the field's path as the sender wrote it: without the source (`query`, `body`) and Ninja's
    parameter name."""
    _source, *parts = location
    if parts[0] in ("body", "query") and len(parts) > 1:
        parts = parts[1:]
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "body"


def _sentence(problem: Mapping[str, Any]) -> str:
    match problem["type"]:
        case "missing":
            return "is needed"
        case "extra_forbidden":
            return "is not known here"
        case "timezone_aware":
            return "needs a time zone, such as 2026-12-25T03:00:00Z"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "must be an object"
        case "list_type":
            return "must be a list"
        case "string_type":
            return "must be text"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
    return str(problem["msg"]).removeprefix("Value error, ")
