"""Every body and answer in the OpenAPI document has a shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.web.api.conftest import Api

#: What has no shape in advance, by component and property, with the reason.
OPEN = {
    r"AlertEventSchema\.data": "the details of a timeline event depend on its kind",
    r"AuditEntrySchema\.(before|after)": "an entry keeps the object as it was, in the form of its time",
    r"VersionChangeSchema\.(before|after)": "a change is about one part of a definition, each of which has its form",
    r"POST integrations/{id}/test": "the body is the payload of any sender",
}


def _schemas(openapi: Any) -> Iterator[tuple[str, Any]]:
    """Yields each body, answer and component with its name."""
    yield from openapi["components"]["schemas"].items()
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path.removeprefix('/api/v1/')}"
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                for content in part.get("content", {}).values():
                    yield name, content.get("schema", {})


def _open_places(schema: Any, place: str) -> Iterator[str]:
    """Yields each place in a schema where anything is allowed."""
    if schema is True or not schema.keys() - {"description", "title", "default", "readOnly", "writeOnly", "nullable"}:
        yield place
        return
    for key in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(key, ()):
            yield from _open_places(choice, place)
    if "items" in schema:
        yield from _open_places(schema["items"], place)
    elif schema.get("type") == "array":
        yield place
    for name, field in schema.get("properties", {}).items():
        yield from _open_places(field, f"{place}.{name}")
    if schema.get("type") == "object":
        values = schema.get("additionalProperties", "properties" not in schema)
        if values is True:
            yield place
        elif values is not False:
            yield from _open_places(values, place)


def test_every_body_and_answer_has_a_shape() -> None:
    openapi = Api().get("openapi.json").body
    places = {place for name, schema in _schemas(openapi) for place in _open_places(schema, name)}
    unexplained = {place for place in places if not any(re.fullmatch(known, place) for known in OPEN)}
    assert sorted(unexplained) == []
    assert [known for known in OPEN if not any(re.fullmatch(known, place) for place in places)] == []


def test_a_reason_is_one_object_not_fields_side_by_side() -> None:
    openapi = Api().get("openapi.json").body
    beside = [
        (name, field)
        for name, schema in _schemas(openapi)
        for field in schema.get("properties", {})
        if field.endswith("_code") and f"{field.removesuffix('_code')}_data" in schema["properties"]
    ]
    assert beside == []
