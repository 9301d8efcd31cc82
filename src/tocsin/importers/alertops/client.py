"""Reads an AlertOps account through its API v2: documents as in the API, with shifts nested in their group."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

from tocsin.importers import reasons
from tocsin.importers.alertops import reasons as product_reasons
from tocsin.importers.api_reader import (
    MAX_LIST_PAGES,
    AccessDenied,
    ApiReader,
    ProgressCallback,
    validate_base_url,
    validate_key,
)
from tocsin.importers.json_access import JsonObject, object_of, objects_of, text_of

BASE = "https://api.alertops.com"
_API = "/api/v2"
_PAGE = 100


def reader(key: str, base: str, progress: ProgressCallback) -> ApiReader:
    """The API reader for that key. Raises Permanent for an invalid address or key."""
    address = validate_base_url(base, BASE)
    return ApiReader(
        "AlertOps",
        address if address.endswith(_API) else f"{address}{_API}",
        {"api-key": validate_key(key), "Accept": "application/json"},
        key_help=product_reasons.CREATE_KEY(),
        progress=progress,
    )


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """All documents that are converted. Users and groups must be readable."""
    del now  # shifts are always read completely
    unreadable: list[JsonObject] = []

    def read_optional(path: str) -> list[JsonObject]:
        try:
            return list(_all(source, path))
        except AccessDenied as problem:
            unreadable.append({"path": path, "why": problem.reason})
            return []

    groups = list(_all(source, "groups"))
    return {
        "users": list(_all(source, "users")),
        "groups": [{**group, "schedules": read_optional(f"schedules/{_id(group)}")} for group in groups],
        "escalation_policies": read_optional("escalation_policies"),
        "integrations": read_optional("integrations/inbound"),
        "workflows": read_optional("workflows"),
        "not_shown": unreadable,
    }


def _all(source: ApiReader, path: str) -> Iterator[JsonObject]:
    """All objects of a list, page by page. Some lists are bare arrays without pages."""
    offset = 0
    for _ in range(MAX_LIST_PAGES):
        page = source.get(path, limit=_PAGE, offset=offset)
        values = object_of(page).values()
        objects = objects_of(page) or next((objects_of(value) for value in values if isinstance(value, list)), [])
        yield from objects
        offset += len(objects)
        source.progress(reasons.READ_OBJECTS(total=offset, kind=path.split("/")[0].replace("_", " ")))
        if isinstance(page, list) or len(objects) < _PAGE:
            return


def _id(group: JsonObject) -> str:
    return quote(text_of(group, "group_id", "id", "group_name"), safe="")
