"""Reads a Grafana OnCall by its HTTP API: the documents as the API has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tocsin.core.errors import Permanent
from tocsin.importers.api_reader import (
    MAX_LIST_PAGES,
    AccessDenied,
    ApiReader,
    ProgressCallback,
    checked_base,
    checked_key,
)
from tocsin.importers.json_access import JsonObject, object_of, objects_of

_API = "/api/v1"
#: What must be readable, and what need not be; all by their names in the API.
_NEEDED = ("users", "schedules", "on_call_shifts", "escalation_chains", "escalation_policies")
_OPTIONAL = ("teams", "integrations", "routes", "personal_notification_rules", "webhooks")


def reader(key: str, base: str, progress: ProgressCallback) -> ApiReader:
    """What reads the OnCall at an address. Raises Permanent for an address or a key that can be none."""
    if not base.strip():
        raise Permanent(
            "Each Grafana OnCall has an address of its own.",
            "Give it with --api-base: it is under Settings, such as https://oncall.example.org.",
        )
    address = checked_base(base, "")
    return ApiReader(
        "Grafana OnCall",
        address if address.endswith(_API) else f"{address}{_API}",
        {"Authorization": checked_key(key), "Accept": "application/json"},
        key_help="Make one in OnCall under Settings → API tokens; the address of the API is there too.",
        progress=progress,
    )


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """Everything that is translated."""
    del now  # shifts are read whole
    documents: dict[str, list[JsonObject]] = {kind: list(_all(source, kind)) for kind in _NEEDED}
    not_shown: list[JsonObject] = []
    for kind in _OPTIONAL:
        try:
            documents[kind] = list(_all(source, kind))
        except AccessDenied as problem:
            documents[kind] = []
            not_shown.append({"path": kind, "why": problem.detail})
    return documents | {"not_shown": not_shown}


def _all(source: ApiReader, kind: str) -> Iterator[JsonObject]:
    """Every object of a list, page by page: counted, because `next` may call the server by another name."""
    count = 0
    for number in range(1, MAX_LIST_PAGES + 1):
        answer = object_of(source.get(f"{kind}/", page=number))
        found = objects_of(answer.get("results"))
        yield from found
        count += len(found)
        source.progress(f"Read {count} {kind.replace('_', ' ')}")
        if not answer.get("next") or not found:
            return
