"""Reads a PagerDuty account through its REST API v2: documents as in the API, with nested objects."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from tocsin.importers import reasons
from tocsin.importers.api_reader import (
    MAX_LIST_PAGES,
    AccessDenied,
    ApiReader,
    ProgressCallback,
    validate_base_url,
    validate_key,
)
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.pagerduty import reasons as product_reasons

BASE = "https://api.pagerduty.com"
_PAGE = 100
#: How far ahead overrides are read, in ranges that the API answers completely.
_AHEAD = timedelta(days=360)
_RANGE = timedelta(days=90)

#: Objects that are read only to report that they cannot be converted: their path, which is also the response's key.
_REPORT_ONLY = {
    "orchestrations": "event_orchestrations",
    "rulesets": "rulesets",
    "business_services": "business_services",
}


def reader(key: str, base: str, progress: ProgressCallback) -> ApiReader:
    """The API reader for that key. Raises Permanent for an invalid address or key."""
    return ApiReader(
        "PagerDuty",
        validate_base_url(base, BASE),
        {
            "Authorization": f"Token token={validate_key(key)}",
            "Accept": "application/vnd.pagerduty+json;version=2",
        },
        key_help=(product_reasons.CREATE_KEY()),
        progress=progress,
    )


def fetch(source: ApiReader, now: datetime) -> dict[str, list[JsonObject]]:
    """All documents that are converted. Users, schedules and policies must be readable."""
    users = list(_all(source, "users", [("include[]", "contact_methods"), ("include[]", "notification_rules")]))
    unreadable: list[JsonObject] = []

    def read_optional(path: str, query: list[tuple[str, str]] | None = None) -> list[JsonObject]:
        try:
            return list(_all(source, path, query))
        except AccessDenied as problem:
            unreadable.append({"path": path, "why": problem.reason})
            return []

    documents: dict[str, list[JsonObject]] = {
        "users": users,
        "teams": [{**team, "members": read_optional(f"teams/{_id(team)}/members")} for team in read_optional("teams")],
        "schedules": [_schedule(source, item, now) for item in _all(source, "schedules")],
        "escalation_policies": list(_all(source, "escalation_policies")),
        "services": read_optional("services", [("include[]", "integrations")]),
        # Ongoing or future.
        "maintenance_windows": read_optional("maintenance_windows", [("filter", "open")]),
    }
    for name, path in _REPORT_ONLY.items():
        page = object_of(source.get_or_none(path))
        documents[name] = next((objects_of(value) for value in page.values() if isinstance(value, list)), [])
    return documents | {"not_shown": unreadable}


def _schedule(source: ApiReader, schedule: JsonObject, now: datetime) -> JsonObject:
    source.progress(product_reasons.READ_SCHEDULE(schedule=str(schedule.get("name"))))
    details = object_of(object_of(source.get(f"schedules/{_id(schedule)}")).get("schedule"))
    overrides: dict[Any, JsonObject] = {}
    since = now
    while since < now + _AHEAD:
        query = {"since": since.isoformat(timespec="seconds"), "until": (since + _RANGE).isoformat(timespec="seconds")}
        page = object_of(source.get_or_none(f"schedules/{_id(schedule)}/overrides", **query))
        for override in objects_of(page.get("overrides")):
            overrides.setdefault(override.get("id") or str(override), override)
        since += _RANGE
    return {**schedule, **details, "overrides": list(overrides.values())}


def _all(source: ApiReader, path: str, query: list[tuple[str, str]] | None = None) -> Iterator[JsonObject]:
    """All objects of a list, page by page; `more` tells whether there is another page."""
    key = path.rsplit("/", 1)[-1]
    offset = 0
    for _ in range(MAX_LIST_PAGES):
        parameters = urlencode([*(query or []), ("limit", str(_PAGE)), ("offset", str(offset))])
        page = object_of(source.get(f"{path}?{parameters}"))
        objects = objects_of(page.get(key))
        yield from objects
        offset += len(objects)
        source.progress(reasons.READ_OBJECTS(total=offset, kind=key.replace("_", " ")))
        if not page.get("more") or not objects:
            return


def _id(document: JsonObject) -> str:
    return quote(str(document.get("id", "")), safe="")
