"""Reads an Opsgenie account through its REST API: documents as in the API, with nested objects."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text
from tocsin.importers import reasons
from tocsin.importers.api_reader import MAX_LIST_PAGES, ApiReader
from tocsin.importers.config_builder import object_of, objects_of

EXPORT_UNREADABLE = Text("This export cannot be read: {problem}")
EXPORT_EMPTY = Text(
    "it has no users, teams or schedules. Provide a ZIP of the folder OpsGenieBackups, or JSON with the keys users, "
    "teams and schedules."
)
TOO_MANY_FILES = Text("it contains more than {limit} files.")
NOT_AN_OBJECT = Text("it is JSON, but not an object with users, teams and schedules.")
ZIP_UNREADABLE = Text("it is a ZIP file that cannot be opened.")
EXPORT_TOO_LARGE = Text("it contains more than {size} MiB.")
FILE_NOT_UTF8 = Text("{file}: is not UTF-8.")
FILE_TOO_DEEP = Text("{file}: is nested too deeply.")
FILE_NOT_JSON = Text("{file}: is not JSON: {problem}.")
FILE_NOT_UNPACKED = Text("{file}: cannot be unpacked.")

_PAGE = 100

#: Objects that are read only to report that they cannot be converted.
_REPORT_ONLY = {
    "alert_policies": "v2/policies/alert",
    "services": "v1/services",
}


def fetch(source: ApiReader, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """All documents that are converted. Users, teams and schedules must be readable."""
    del now  # overrides are always read completely

    def read_optional(path: str) -> list[dict[str, Any]]:
        return source.optional(path, _all(source, path))

    def with_details(path: str, label: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**item, **_object(source, f"{path}/{_id(item)}")} for item in _with_progress(source, label, items)]

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
        "integrations": with_details("v2/integrations", "integrations", read_optional("v2/integrations")),
        "heartbeats": read_optional("v2/heartbeats"),
        "forwardings": read_optional("v2/forwarding-rules"),
        # Without past ones; the affected entities are in the object itself.
        "maintenances": with_details(
            "v1/maintenance", "maintenances", _data(source, "v1/maintenance?type=non-expired")
        ),
    }
    for name, path in _REPORT_ONLY.items():
        # Reported only if there are any; no finding if the key may not read them.
        documents[name] = _data(source, path)
    return documents


def _user(source: ApiReader, user: dict[str, Any], progress: Reason) -> dict[str, Any]:
    source.progress(progress)
    rules = _data(source, f"v2/users/{_id(user)}/notification-rules")
    return {
        **user,
        "contacts": _data(source, f"v2/users/{_id(user)}/contacts"),
        "notification_rules": [
            _object(source, f"v2/users/{_id(user)}/notification-rules/{_id(rule)}") or rule
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


def _object(source: ApiReader, path: str) -> dict[str, Any]:
    """The object at a path; empty if the key may not read it."""
    return object_of(object_of(source.get_or_none(path)).get("data"))


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


def _with_progress(source: ApiReader, label: str, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for count, item in enumerate(items, 1):
        source.progress(reasons.READ_OBJECTS(total=count, kind=label))
        yield item


def _id(document: dict[str, Any]) -> str:
    return quote(str(document.get("id", "")), safe="")


# ---------- export
# Reads the output of Opsgenie's configuration backup tool: a ZIP of the folder `OpsGenieBackups`, or one JSON file.
#
# See https://github.com/opsgenie/opsgenie-configuration-backup. The tool writes each object to its own file, in
# folders by kind. A single JSON file has the same kinds as keys: `{"users": […], "teams": […], "schedules": […], …}`.


#: Limits: total unpacked size, and number of files.
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
MAX_FILES = 20_000

#: The kind of document, by folder of the backup or key of the JSON file.
_KINDS = {
    "users": "users",
    "teams": "teams",
    "schedules": "schedules",
    "escalations": "escalations",
    "integrations": "integrations",
    "forwardings": "forwardings",
    "forwarding-rules": "forwardings",
    "heartbeats": "heartbeats",
    "maintenance": "maintenances",
    "maintenances": "maintenances",
    "policies": "alert_policies",
    "policiesv2": "alert_policies",
    "services": "services",
}


def read(content: bytes) -> dict[str, list[dict[str, Any]]]:
    """The documents of an export. Raises Rejected("invalid_export") with the file within it."""
    documents: dict[str, list[dict[str, Any]]] = {}
    for kind, document in _in_zip(content) if content[:2] == b"PK" else _in_json(content):
        documents.setdefault(kind, []).append(_unwrap(kind, document))
    if not documents.get("users") and not documents.get("teams") and not documents.get("schedules"):
        raise _refused(EXPORT_EMPTY())
    return documents


def _in_zip(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise _refused(ZIP_UNREADABLE()) from None
    entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".json")]
    if len(entries) > MAX_FILES:
        raise _refused(TOO_MANY_FILES(limit=MAX_FILES))
    remaining_bytes = MAX_UNPACKED_BYTES
    for entry in entries:
        path = PurePosixPath(entry.filename)
        kind = next((_KINDS[part.lower()] for part in reversed(path.parts[:-1]) if part.lower() in _KINDS), None)
        if kind is None or "__MACOSX" in path.parts:
            continue
        try:
            with archive.open(entry) as file:
                # The declared size may be wrong, so the read itself is limited.
                text = file.read(remaining_bytes + 1)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError, ValueError, zlib.error):
            raise _refused(FILE_NOT_UNPACKED(file=path.name)) from None
        remaining_bytes -= len(text)
        if remaining_bytes < 0:
            raise _refused(EXPORT_TOO_LARGE(size=MAX_UNPACKED_BYTES // 1024 // 1024))
        value = _parsed(text, path.name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield kind, item


def _in_json(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    value = _parsed(content, "the file")
    if not isinstance(value, dict):
        raise _refused(NOT_AN_OBJECT())
    for key, section in value.items():
        kind = _KINDS.get(str(key).lower())
        if kind is not None:
            entries = section.get("data", list(section.values())) if isinstance(section, dict) else section
            yield from ((kind, item) for item in objects_of(entries))


def _unwrap(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """The document as in the API: the tool wraps an object together with its related objects."""
    match kind:
        case "users" if "user" in document:
            user = object_of(document["user"])
            contacts = user.get("userContacts") or user.get("contacts")
            rules = document.get("notificationRuleList")
            return {**user, "contacts": objects_of(contacts), "notification_rules": objects_of(rules)}
        case "users" if "userContacts" in document:
            return {**document, "contacts": objects_of(document["userContacts"])}
        case "teams" if "team" in document:
            return {**object_of(document["team"]), "routing_rules": objects_of(document.get("teamRoutingRules"))}
        case "schedules" if "schedule" in document:
            overrides = objects_of(document.get("scheduleOverrideList"))
            return {**object_of(document["schedule"]), "overrides": overrides}
        case "integrations" if isinstance(document.get("integration"), dict):
            return object_of(document["integration"])
    return document


def _parsed(text: bytes, name: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _refused(FILE_NOT_UTF8(file=name)) from None
    except RecursionError:
        raise _refused(FILE_TOO_DEEP(file=name)) from None
    except ValueError as error:
        raise _refused(FILE_NOT_JSON(file=name, problem=str(error))) from None


def _refused(problem: Reason) -> Rejected:
    return Rejected("invalid_export", EXPORT_UNREADABLE(problem=problem), "file")
