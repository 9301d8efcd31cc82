"""Schemas of configured objects in the OpenAPI document: for bodies and responses alike."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from tocsin.core.validation.spec import Spec

_COMPONENTS = "#/components/schemas/"

#: Operations whose body is a whole spec. A PATCH has some of its keys, which may be null.
_WITH_BODY = ("post", "put")


class SpecSchema:
    """The schema of one kind of object: its spec, with the fields that only responses or only bodies have."""

    def __init__(self, spec_type: type[Spec], *, read_only: Collection[str], write_only: Collection[str]) -> None:
        self.name = spec_type.__name__
        schema = json.loads(json.dumps(spec_type.json_schema()).replace("#/$defs/", _COMPONENTS))
        self._nested = schema.pop("$defs", {})
        schema["properties"] = {
            "id": {"type": "integer", "readOnly": True},
            **schema["properties"],
            **{key: {"readOnly": True} for key in sorted(read_only)},
            **{key: {"type": "string", "writeOnly": True} for key in sorted(write_only)},
        }
        self._schema = schema

    def insert(self, openapi: dict[str, Any], path: str) -> None:
        """Add the schema to an OpenAPI document, and refer to it in the generic operations at `path` and below."""
        list_name = f"PaginatedList_{self.name}_"
        reference, list_reference = {"$ref": _COMPONENTS + self.name}, {"$ref": _COMPONENTS + list_name}
        openapi["components"]["schemas"] |= {
            self.name: self._schema,
            list_name: _list_of(reference),
            **self._nested,
        }
        for address in (path, f"{path}/{{id}}"):
            for method, operation in openapi["paths"][address].items():
                if method in _WITH_BODY:
                    operation["requestBody"]["content"]["application/json"]["schema"] = reference
                for status, response in operation["responses"].items():
                    if str(status).startswith("2") and "content" in response:
                        is_list = method == "get" and address == path
                        response["content"]["application/json"]["schema"] = list_reference if is_list else reference


def _list_of(item: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": item},
            "next": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
    }
