"""Reads an Opsgenie account through its REST API: documents as in the API, with nested objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tocsin.core.reasons import Reason
from tocsin.importers import reasons
from tocsin.importers.api_reader import (
    MAX_LIST_PAGES,
    AccessDenied,
    ApiReader,
    ProgressCallback,
    validate_base_url,
    validate_key,
)
from tocsin.importers.json_access import object_of, objects_of
from tocsin.importers.opsgenie import reasons as product_reasons

BASE = "https://api.opsgenie.com"
_PAGE = 100

#: Objects that are read only to report that they cannot be converted.
_REPORT_ONLY = {
    "alert_policies": "v2/policies/alert",
    "services": "v1/services",
}


def reader(key: str, base: str, progress: ProgressCallback) -> ApiReader:
    """The API reader for that key. Raises Permanent for an invalid address or key."""
    return ApiReader(
        "Opsgenie",
        validate_base_url(base, BASE),
        {"Authorization": f"GenieKey {validate_key(key)}", "Accept": "application/json"},
        key_help=(product_reasons.CREATE_KEY()),
        progress=progress,
    )


def fetch(source: ApiReader, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """All documents that are converted. Users, teams and schedules must be readable.

    `unreadable` lists what else the key may not read.
    """
    del now  # overrides are always read completely
    unreadable: list[dict[str, Any]] = []

    def read_optional(path: str) -> list[dict[str, Any]]:
        try:
            return list(_all(source, path))
        except AccessDenied as problem:
            unreadable.append({"path": path, "why": problem.reason})
            return []

    users = list(_all(source, "v2/users"))
    documents: dict[str, list[dict[str, Any]]] = {
        "users": [
            _user(source, user, reasons.READ_USERS(position=n, total=len(users))) for n, user in enumerate(users, 1)
        ],
        "teams": [_team(source, team) for team in _with_progress(source, "teams", _all(source, "v2/teams"))],
        "schedules": [
            {**schedule, "overrides": _data(source, f"v2/schedules/{_id(schedule)}/overrides")}
            for schedule in _with_progress(source, "schedules", _all(source, "v2/schedules?expand=rotation"))
        ],
        "escalations": read_optional("v2/escalations"),
        "integrations": [
            {**item, **object_of(object_of(source.get_or_none(f"v2/integrations/{_id(item)}")).get("data"))}
            for item in _with_progress(source, "integrations", iter(read_optional("v2/integrations")))
        ],
        "heartbeats": read_optional("v2/heartbeats"),
        "forwardings": read_optional("v2/forwarding-rules"),
        # Without past ones; the affected entities are in the object itself.
        "maintenances": [
            {**item, **object_of(object_of(source.get_or_none(f"v1/maintenance/{_id(item)}")).get("data"))}
            for item in _with_progress(source, "maintenances", iter(_data(source, "v1/maintenance?type=non-expired")))
        ],
    }
    for name, path in _REPORT_ONLY.items():
        # Reported only if there are any; no finding if the key may not read them.
        documents[name] = objects_of(object_of(source.get_or_none(path)).get("data"))
    return documents | {"not_shown": unreadable}


def _user(source: ApiReader, user: dict[str, Any], progress: Reason) -> dict[str, Any]:
    source.progress(progress)
    rules = _data(source, f"v2/users/{_id(user)}/notification-rules")
    return {
        **user,
        "contacts": _data(source, f"v2/users/{_id(user)}/contacts"),
        "notification_rules": [
            object_of(object_of(source.get_or_none(f"v2/users/{_id(user)}/notification-rules/{_id(rule)}")).get("data"))
            or rule
            for rule in rules
            if rule.get("actionType") == "create-alert" and rule.get("enabled", True)
        ],
    }


def _team(source: ApiReader, team: dict[str, Any]) -> dict[str, Any]:
    details = object_of(object_of(source.get(f"v2/teams/{_id(team)}")).get("data"))
    return {**team, **details, "routing_rules": _data(source, f"v2/teams/{_id(team)}/routing-rules")}


def _data(source: ApiReader, path: str) -> list[dict[str, Any]]:
    """The list at a path; empty if the key may not read it."""
    return objects_of(object_of(source.get_or_none(path)).get("data"))


def _all(source: ApiReader, path: str) -> Iterator[dict[str, Any]]:
    """All objects of a list, page by page; `paging.next` is the next page's URL."""
    page = object_of(source.get(path, **({"limit": _PAGE} if path == "v2/users" else {})))
    for _ in range(MAX_LIST_PAGES):
        data = page.get("data")
        if isinstance(data, dict):
            # Heartbeats are nested one level deeper.
            data = next((value for value in data.values() if isinstance(value, list)), [])
        yield from objects_of(data)
        next_url = object_of(page.get("paging")).get("next")
        if not isinstance(next_url, str) or not next_url or not data:
            return
        page = object_of(source.get(next_url))


def _with_progress(source: ApiReader, label: str, items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    report: Callable[[Reason], None] = source.progress
    for count, item in enumerate(items, 1):
        report(reasons.READ_OBJECTS(total=count, kind=label))
        yield item


def _id(document: dict[str, Any]) -> str:
    return quote(str(document.get("id", "")), safe="")
