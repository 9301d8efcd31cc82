"""All API errors in one format, `ERROR_SCHEMA`, with a matching HTTP status.

The text of an internal error is never sent; it is logged under an id that the response contains.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import msgspec
import psycopg
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja.errors import HttpError, ValidationError
from pydantic import BaseModel, Field, TypeAdapter, WithJsonSchema

from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import Reason, Text, as_reason, joined, render, sentence, show_fields
from tocsin.core.validation.inputs import (
    AT_PATH,
    NESTED_TOO_DEEPLY,
    NOT_A_LIST,
    NOT_A_WHOLE_NUMBER,
    NOT_BOOLEAN,
    NOT_TEXT,
    REQUIRED,
    rejected_at,
)
from tocsin.core.validation.spec import InvalidValue

# ---------- components
# References to named schemas of the OpenAPI document that are not made from a pydantic model.


COMPONENTS = "#/components/schemas/"
_LIST = "PaginatedList_"

#: Marks a schema that stands for a component, until `spec_schemas.resolve` replaces it.
MARK = "x-component"


@dataclass(frozen=True, slots=True)
class Component:
    """A named schema of the document, for a body or an answer."""

    name: str

    @property
    def is_list(self) -> bool:
        """Whether it is a page of a list."""
        return self.name.startswith(_LIST)

    @property
    def reference(self) -> dict[str, str]:
        """The reference to it."""
        return {"$ref": COMPONENTS + self.name}

    @property
    def listed(self) -> Component:
        """A page of a list of it."""
        return Component(f"{_LIST}{self.name}_")

    @property
    def mark(self) -> dict[str, str]:
        """The schema that stands for it in an operation."""
        return {MARK: self.name}

    @property
    def annotation(self) -> WithJsonSchema:
        """Annotates a field of another schema that contains the object."""
        return WithJsonSchema(self.mark)


# ---------- reasons
# Reasons in responses: the sentence in the reader's language, its code and its parameters.


class _Parameter(BaseModel, extra="forbid"):
    """An object that stands for a parameter which is neither a text nor a number."""


class MomentParameter(_Parameter):
    at: datetime


class DayParameter(_Parameter):
    day: date


class DurationParameter(_Parameter):
    seconds: float


class AgoParameter(_Parameter):
    seconds_ago: float


class TermParameter(_Parameter):
    term: str = Field(description="A fixed English word.")


class PersonParameter(_Parameter):
    name: str
    user: int | None = Field(description="The user's ID.")


class AlertParameter(_Parameter):
    alert: int


class NestedReason(_Parameter):
    code: str
    data: ReasonData


#: One parameter, and all of a reason by name.
_PARAMETER, DATA = Component("ReasonParameter"), Component("ReasonParameters")
_SINGLE = (
    str
    | int
    | MomentParameter
    | DayParameter
    | DurationParameter
    | AgoParameter
    | TermParameter
    | PersonParameter
    | AlertParameter
    | NestedReason
)

ReasonData = Annotated[dict[str, Any], DATA.annotation, Field(description="Its parameters, by name.")]


class ReasonSchema(BaseModel):
    """Why something is as it is, or what happened: for people, and for programs."""

    text: str = Field(description="The sentence, in the language of Accept-Language, else in English.")
    code: str = Field(description="Its stable code; see the reference of reason codes. Empty: it has none.")
    data: ReasonData


def show(schema: type[BaseModel], row: object, **others: object) -> dict[str, Any]:
    """Returns an object in the shape of a schema: with its attributes of the same names, and the `others`."""
    return show_fields(row, *(name for name in schema.model_fields if name not in others)) | others


def parameter_schemas() -> dict[str, Any]:
    """Returns the schemas of a reason's parameters, by the name of the component."""
    schema = TypeAdapter(_SINGLE | list[_SINGLE]).json_schema(ref_template=COMPONENTS + "{model}")
    parameters = {"type": "object", "additionalProperties": _PARAMETER.reference, "title": DATA.name}
    return {**schema.pop("$defs"), _PARAMETER.name: schema, DATA.name: parameters}


log = logging.getLogger(__name__)

_STATUSES = {
    "not_authenticated": 401,
    "token_expired": 401,  # nosec B105 # a status
    "forbidden": 403,
    "csrf": 403,
    "needs_person": 403,
    "changed_meanwhile": 412,
    "too_large": 413,
}

#: Codes for valid requests that the object's current state does not allow.
_CONFLICTS = frozenset(
    {"merged", "key_taken", "not_closed", "not_possible", "too_late", "in_use", "last_administrator", "unreadable"}
)

#: Retry-After while the database is unavailable.
RETRY_AFTER = timedelta(seconds=5)

_NOT_UTF8 = Text("The body is not UTF-8: byte {position} cannot be read.")
_UNKNOWN = Text("is not known here")
_NOT_AN_OBJECT = Text("must be an object")

#: The schema of every error, for the OpenAPI document.
ERROR_SCHEMA = {
    "title": "Error",
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {"type": "string", "description": "A coarse code, for programs. It decides the HTTP status."},
        "detail": {
            "type": "string",
            "description": "A sentence, for people: in the language of Accept-Language, else in English.",
        },
        "field": {
            "type": "string",
            "description": "The field, or the path to it, that `detail` is about: the first if there are several.",
        },
        "fields": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "If several fields are wrong: for each what is wrong with it, in the language of `detail`.",
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


def error_response(status: int, code: str, reason: Reason, fields: Mapping[str, Reason] | None = None) -> HttpResponse:
    """Return an error response. `fields` maps each field's name or path to what is wrong with it."""
    body: dict[str, Any] = {"error": code, "detail": render(reason)}
    if fields:
        body["field"] = next(iter(fields))
        if len(fields) > 1:
            body["fields"] = {name: render(problem) for name, problem in fields.items()}
    response = HttpResponse(msgspec.json.encode(body), status=status, content_type="application/json; charset=utf-8")
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="Tocsin"'
    return response


def rejected(_request: HttpRequest, error: Rejected) -> HttpResponse:
    return error_response(http_status(error), error.code, error.reason, error.field_reasons)


def temporary(_request: HttpRequest, error: Temporary) -> HttpResponse:
    response = error_response(503, "temporary", error.reason)
    if error.retry_after is not None:
        response["Retry-After"] = str(max(1, int(error.retry_after.total_seconds())))
    return response


def permanent(_request: HttpRequest, error: Permanent) -> HttpResponse:
    return error_response(502, "needs_attention", error.full_reason)


def invalid(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Handle parameters or a body that do not match the schema, with a reason per field."""
    fields: dict[str, Reason] = {}
    for problem in error.errors:
        fields.setdefault(_field_path(problem["loc"]), _problem(problem))
    reason = joined(*(AT_PATH(path=path, problem=problem) for path, problem in fields.items()))
    return error_response(400, "invalid", reason, fields)


def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Handle Django Ninja's own rejections: invalid JSON, or missing authentication."""
    if isinstance(error.__cause__, Rejected):
        return rejected(request, error.__cause__)
    if error.status_code == 401:
        return error_response(
            401,
            "not_authenticated",
            sentence(
                "Send a token: `Authorization: Bearer TOKEN`. `tocsin token create`, or POST /api/v1/tokens, "
                "creates one."
            ),
        )
    code = "invalid" if error.status_code < 500 else "internal"
    return error_response(error.status_code, code, as_reason(error.message))


def not_found(request: HttpRequest, _error: Http404 | None = None) -> HttpResponse:
    return error_response(
        404,
        "not_found",
        sentence("There is nothing at {path}. The addresses are listed in /api/v1/docs.", path=request.path),
    )


def not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    reason = sentence("{method} is not possible here; use {allowed}.", method=str(request.method), allowed=allowed)
    response = error_response(405, "method_not_allowed", reason)
    response["Allow"] = allowed
    return response


def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """Handle every other exception: log it once, under the id that the response contains."""
    match error:
        case RequestDataTooBig():
            return error_response(413, "too_large", sentence("The body is larger than 5 MiB."))
        case TooManyFieldsSent() | UnreadablePostError():
            return error_response(400, "invalid", sentence("The body could not be read."))
        case OperationalError() | psycopg.OperationalError():
            # The database is down or overloaded, or the statement exceeded its timeout.
            log.error("The database did not answer %s %s.", request.method, request.path, exc_info=error)
            response = error_response(
                503, "temporary", sentence("The database did not answer in time. Try again, or ask for less.")
            )
            response["Retry-After"] = "5"
            return response
    request_id = getattr(request, "id", None) or secrets.token_hex(4)
    if database.is_unavailable(error):
        log.warning("Request %s: the database cannot be used: %s", request_id, error)
        reason = (
            sentence("The database takes no writes now. Try again.")
            if database.is_read_only_error(error)
            else sentence("The database does not answer. Try again.")
        )
        return temporary(request, Temporary(reason, RETRY_AFTER))
    log.error("Request %s failed: %s %s", request_id, request.method, request.path, exc_info=error)
    return error_response(
        500,
        "internal",
        sentence(
            "Something went wrong in Tocsin, and was logged as {request}. Quote that ID when you ask.",
            request=request_id,
        ),
    )


def read_json(body: bytes) -> Any:
    """Parse a JSON body. Raises Rejected with line and column; NUL and lone surrogates are rejected too."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
        if b"\\u" in body or b"\x00" in body:
            _refuse_bad_text(value, "")
    except json.JSONDecodeError as error:
        reason = sentence(
            "{problem}: line {line} column {column}.", problem=error.msg, line=error.lineno, column=error.colno
        )
        raise Rejected("invalid_json", reason) from error
    except UnicodeDecodeError as error:
        raise Rejected("invalid_json", _NOT_UTF8(position=error.start)) from error
    except RecursionError as error:
        raise rejected_at("body", NESTED_TOO_DEEPLY(), "invalid_json") from error
    return value


def _refuse_constant(name: str) -> Any:
    raise Rejected("invalid_json", sentence("{name} is not a JSON number.", name=name))


def _refuse_bad_text(value: Any, path: str) -> None:
    match value:
        case str():
            if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise Rejected(
                    "invalid",
                    sentence("The text contains a NUL character or half of a surrogate pair."),
                    path or "body",
                )
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


def _problem(problem: Mapping[str, Any]) -> Reason:
    match problem["type"]:
        case "missing":
            return REQUIRED()
        case "extra_forbidden":
            return _UNKNOWN()
        case "timezone_aware":
            return sentence("needs a time zone, such as 2026-12-25T03:00:00Z")
        case "model_attributes_type" | "model_type" | "dict_type":
            return _NOT_AN_OBJECT()
        case "list_type":
            return NOT_A_LIST()
        case "string_type":
            return NOT_TEXT()
        case "int_type" | "int_parsing" | "int_from_float":
            return NOT_A_WHOLE_NUMBER()
        case "bool_type" | "bool_parsing":
            return NOT_BOOLEAN()
        case "value_error" if isinstance(error := problem["ctx"]["error"], InvalidValue):
            return error.errors[0].reason
    # Pydantic's own message, which is English.
    return as_reason(str(problem["msg"]).removeprefix("Value error, "))
