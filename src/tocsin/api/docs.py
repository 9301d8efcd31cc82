"""Renders the API documentation from the OpenAPI document as one static HTML file, without scripts or external
assets."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine, Template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from ninja.openapi.docs import DocsBase

if TYPE_CHECKING:
    from ninja import NinjaAPI

_ASSETS = Path(__file__).parent / "pages"


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation as documented."""

    anchor: str
    method: str
    path: str
    summary: str
    text: str
    needs: str
    parameters: tuple[Parameter, ...]
    body: str
    example: str
    answer: str


@dataclass(frozen=True, slots=True)
class SchemaDoc:
    """A named schema of a request or response body."""

    name: str
    text: str
    fields: tuple[Parameter, ...]


class DocsPage(DocsBase):
    """Django Ninja's hook for `/docs`."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        openapi: dict[str, Any] = api.get_openapi_schema(path_params=kwargs)
        html = _template().render(
            Context({"info": openapi["info"], "nouns": endpoints(openapi), "shapes": schemas(openapi)})
        )
        return HttpResponse(html)


def stylesheet(_request: HttpRequest) -> HttpResponse:
    """Serve the style sheet, because the strict CSP does not allow inline styles."""
    return HttpResponse((_ASSETS / "docs.css").read_bytes(), content_type="text/css; charset=utf-8")


def endpoints(openapi: dict[str, Any]) -> dict[str, list[Endpoint]]:
    """Return every operation of an OpenAPI document by tag, and by path below it."""
    by_tag: dict[str, list[Endpoint]] = defaultdict(list)
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            by_tag[operation["tags"][0]].append(_endpoint(method, path, operation))
    return {tag: sorted(of_tag, key=lambda endpoint: endpoint.path) for tag, of_tag in by_tag.items()}


def schemas(openapi: dict[str, Any]) -> list[SchemaDoc]:
    """Return every named schema, sorted by name. Paginated lists are omitted, because they only wrap their items."""
    return [
        SchemaDoc(name, _with_code(schema.get("description", "")), tuple(_fields(schema)))
        for name, schema in sorted(openapi["components"]["schemas"].items())
        if "properties" in schema and not name.startswith("PaginatedList_")
    ]


def _endpoint(method: str, path: str, operation: dict[str, Any]) -> Endpoint:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    example = body.get("example")
    answer = next(
        (
            content["schema"]
            for status, response in operation["responses"].items()
            if str(status).startswith("2") and (content := response.get("content", {}).get("application/json"))
        ),
        None,
    )
    return Endpoint(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=_with_code(operation["summary"]),
        text=_with_code(operation.get("description", "")),
        needs=operation.get("x-needs", ""),
        parameters=tuple(
            # An optional parameter is omitted rather than sent as null.
            Parameter(p["name"], _kind(p["schema"]).removesuffix(" or null"), _with_code(p.get("description", "")))
            for p in operation["parameters"]
        ),
        body=_kind(body["schema"]) if "schema" in body else "",
        example=json.dumps(example, ensure_ascii=False) if example is not None else "",
        answer=_kind(answer) if answer else "",
    )


def _fields(schema: dict[str, Any]) -> list[Parameter]:
    required = set(schema.get("required", ()))
    return [
        Parameter(
            name,
            _kind(field) + ("" if name in required or "default" not in field else f", default {field['default']!r}"),
            _with_code(field.get("description", "")),
        )
        for name, field in schema["properties"].items()
    ]


def _kind(schema: dict[str, Any]) -> str:
    """Describe a schema in a few words: `text`, `number`, `list of Alert`, `text or null`."""
    match schema:
        case {"$ref": str(reference)}:
            return _schema_name(reference)
        case {"anyOf": list(choices)}:
            return " or ".join(dict.fromkeys(_kind(choice) for choice in choices))
        case {"enum": list(values)}:
            return " | ".join(str(value) for value in values)
        case {"const": value}:
            return str(value)
        case {"type": "array"}:
            return f"list of {_kind(schema.get('items', {}))}"
        case {"type": "string", "format": "date-time"}:
            return "moment"
        case {"type": str(kind)}:
            return {"string": "text", "integer": "number", "boolean": "true or false"}.get(kind, kind)
    return "any"


def _schema_name(reference: str) -> str:
    name = reference.rsplit("/", 1)[-1]
    match = re.fullmatch(r"PaginatedList_(.+)_", name)
    return f"page of {match[1]}" if match else name


def _with_code(text: str) -> SafeString:
    """Escape a trusted text and render backticks as code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split()))))  # noqa: S308 - escaped


@cache
def _template() -> Template:
    return Engine(debug=False).from_string((_ASSETS / "docs.html").read_text(encoding="utf-8"))
