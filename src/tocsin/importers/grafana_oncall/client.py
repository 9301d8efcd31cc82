"""Reads a Grafana OnCall instance through its HTTP API: documents as in the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tocsin.core.errors import Permanent
from tocsin.importers import reasons
from tocsin.importers.api_reader import (
    MAX_LIST_PAGES,
    AccessDenied,
    ApiReader,
    ProgressCallback,
    validate_base_url,
    validate_key,
)
from tocsin.importers.grafana_oncall import reasons as product_reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of

_API = "/api/v1"
#: Required and optional lists, by their names in the API.
_REQUIRED = ("users", "schedules", "on_call_shifts", "escalation_chains", "escalation_policies")
_OPTIONAL = ("teams", "integrations", "routes", "personal_notification_rules", "webhooks")


def reader(key: str, base: str, progress: ProgressCallback) -> ApiReader:
    """The API reader for that address. Raises Permanent for an invalid address or key."""
    if not base.strip():
        raise Permanent(
            product_reasons.OWN_ADDRESS(),
            product_reasons.SET_API_BASE(),
        )
    address = validate_base_url(base, "")
    return ApiReader(
        "Grafana OnCall",
        address if address.endswith(_API) else f"{address}{_API}",
        {"Authorization": validate_key(key), "Accept": "application/json"},
        key_help=product_reasons.CREATE_KEY(),
        progress=progress,
    )


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """All documents that are converted."""
    del now  # shifts are always read completely
    documents: dict[str, list[JsonObject]] = {kind: list(_all(source, kind)) for kind in _REQUIRED}
    unreadable: list[JsonObject] = []
    for kind in _OPTIONAL:
        try:
            documents[kind] = list(_all(source, kind))
        except AccessDenied as problem:
            documents[kind] = []
            unreadable.append({"path": kind, "why": problem.reason})
    return documents | {"not_shown": unreadable}


def _all(source: ApiReader, kind: str) -> Iterator[JsonObject]:
    """All objects of a list, by page number, because `next` may use another host name for the server."""
    count = 0
    for page_number in range(1, MAX_LIST_PAGES + 1):
        page = object_of(source.get(f"{kind}/", page=page_number))
        objects = objects_of(page.get("results"))
        yield from objects
        count += len(objects)
        source.progress(reasons.READ_OBJECTS(total=count, kind=kind.replace("_", " ")))
        if not page.get("next") or not objects:
            return
