"""Checks answers of the API against its OpenAPI document."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any
from urllib.parse import quote

import jsonschema_rs

#: The name by which validators find the document.
_ADDRESS = "urn:tocsin"


def check_answer(method: str, path: str, status: int, body: Any) -> None:
    """Raises AssertionError if an answer with a JSON body is not one that the document describes."""
    operation = _operation(method.lower(), path.partition("?")[0])
    if operation is None:
        return
    template, described = operation
    code = str(status) if str(status) in described["responses"] else "default"
    errors = [
        f"{'.'.join(map(str, error.instance_path))}: {error.message[:300]}"
        for error in _validator(method.lower(), template, code).iter_errors(body)
    ]
    assert not errors, f"{method} {path} answered {status}, and the OpenAPI document says otherwise: {errors}"


@cache
def _document() -> Any:
    from tocsin.api.application import api  # Django must be set up

    return json.loads(json.dumps(api.get_openapi_schema(), default=str))


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    paths = sorted(_document()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in paths]


def _operation(method: str, path: str) -> tuple[str, Any] | None:
    for pattern, template in _patterns():
        if pattern.fullmatch(path) and (described := _document()["paths"][template].get(method)):
            return template, described
    return None


@cache
def _validator(method: str, template: str, code: str) -> Any:
    if not _document()["paths"][template][method]["responses"][code].get("content"):
        return jsonschema_rs.Draft202012Validator(False)
    keys = ("paths", template, method, "responses", code, "content", "application/json", "schema")
    pointer = "/".join(quote(key.replace("~", "~0").replace("/", "~1")) for key in keys)
    return jsonschema_rs.Draft202012Validator({"$ref": f"{_ADDRESS}#/{pointer}"}, registry=_registry())


@cache
def _registry() -> Any:
    """The document, prepared once for all validators: preparing it takes much longer than checking an answer."""
    return jsonschema_rs.Registry([(_ADDRESS, _document())])
