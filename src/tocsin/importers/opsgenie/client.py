"""Reads an Opsgenie account through its REST API: documents as in the API, with nested objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tocsin.importers.api_reader import (
    MAX_LIST_PAGES,
    AccessDenied,
    ApiReader,
    ProgressCallback,
    checked_base,
    checked_key,
)
from tocsin.importers.json_access import object_of, objects_of

BASE = "https://api.opsgenie.com"
_PAGE = 100

#: Objects that are read only to report that they cannot be converted.
_ONLY_COUNTED = {
    "alert_policies": "v2/policies/alert",
    "services": "v1/services",
}


def reader(key: str, base: str, progress: ProgressCallback) -> ApiReader:
    """The API reader for that key. Raises Permanent for an invalid address or key."""
    return ApiReader(
        "Opsgenie",
        checked_base(base, BASE),
        {"Authorization": f"GenieKey {checked_key(key)}", "Accept": "application/json"},
        key_help=(
            "Make one under Settings → API key management, with Read and Configuration access. "
            "An account in the EU is at https://api.eu.opsgenie.com."
        ),
        progress=progress,
    )


def fetch(source: ApiReader, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """All documents that are converted. Users, teams and schedules must be readable.

    `not_shown` lists what else the key may not read.
    """
    del now  # overrides are always read completely
    not_shown: list[dict[str, Any]] = []

    def optional(path: str) -> list[dict[str, Any]]:
        try:
            return list(_all(source, path))
        except AccessDenied as problem:
            not_shown.append({"path": path, "why": problem.detail})
            return []

    users = list(_all(source, "v2/users"))
    documents: dict[str, list[dict[str, Any]]] = {
        "users": [_user(source, user, f"{n} of {len(users)} users") for n, user in enumerate(users, 1)],
        "teams": [_team(source, team) for team in _told(source, "teams", _all(source, "v2/teams"))],
        "schedules": [
            {**schedule, "overrides": _data(source, f"v2/schedules/{_id(schedule)}/overrides")}
            for schedule in _told(source, "schedules", _all(source, "v2/schedules?expand=rotation"))
        ],
        "escalations": optional("v2/escalations"),
        "integrations": [
            {**one, **object_of(object_of(source.get_or_none(f"v2/integrations/{_id(one)}")).get("data"))}
            for one in _told(source, "integrations", iter(optional("v2/integrations")))
        ],
        "heartbeats": optional("v2/heartbeats"),
        "forwardings": optional("v2/forwarding-rules"),
        # Without past ones; the affected entities are in the object itself.
        "maintenances": [
            {**one, **object_of(object_of(source.get_or_none(f"v1/maintenance/{_id(one)}")).get("data"))}
            for one in _told(source, "maintenances", iter(_data(source, "v1/maintenance?type=non-expired")))
        ],
    }
    for name, path in _ONLY_COUNTED.items():
        # Reported only if there are any; no finding if the key may not read them.
        documents[name] = objects_of(object_of(source.get_or_none(path)).get("data"))
    return documents | {"not_shown": not_shown}


def _user(source: ApiReader, user: dict[str, Any], how_far: str) -> dict[str, Any]:
    source.progress(f"Read {how_far}")
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
    whole = object_of(object_of(source.get(f"v2/teams/{_id(team)}")).get("data"))
    return {**team, **whole, "routing_rules": _data(source, f"v2/teams/{_id(team)}/routing-rules")}


def _data(source: ApiReader, path: str) -> list[dict[str, Any]]:
    """The list at a path; empty if the key may not read it."""
    return objects_of(object_of(source.get_or_none(path)).get("data"))


def _all(source: ApiReader, path: str) -> Iterator[dict[str, Any]]:
    """All objects of a list, page by page; `paging.next` is the next page's URL."""
    answer = object_of(source.get(path, **({"limit": _PAGE} if path == "v2/users" else {})))
    for _ in range(MAX_LIST_PAGES):
        data = answer.get("data")
        if isinstance(data, dict):
            # Heartbeats are nested one level deeper.
            data = next((held for held in data.values() if isinstance(held, list)), [])
        yield from objects_of(data)
        following = object_of(answer.get("paging")).get("next")
        if not isinstance(following, str) or not following or not data:
            return
        answer = object_of(source.get(following))


def _told(source: ApiReader, what: str, found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    tell: Callable[[str], None] = source.progress
    for number, one in enumerate(found, 1):
        tell(f"Read {number} {what}")
        yield one


def _id(one: dict[str, Any]) -> str:
    return quote(str(one.get("id", "")), safe="")
