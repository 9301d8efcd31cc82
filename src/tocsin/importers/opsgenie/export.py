"""Reads the output of Opsgenie's configuration backup tool: a ZIP of the folder `OpsGenieBackups`, or one JSON file.

See https://github.com/opsgenie/opsgenie-configuration-backup. The tool writes each object to its own file, in folders
by kind. A single JSON file has the same kinds as keys: `{"users": […], "teams": […], "schedules": […], …}`.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.importers.json_access import object_of, objects_of
from tocsin.importers.opsgenie import reasons as product_reasons

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
        raise _refused(product_reasons.EXPORT_EMPTY())
    return documents


def _in_zip(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise _refused(product_reasons.ZIP_UNREADABLE()) from None
    entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".json")]
    if len(entries) > MAX_FILES:
        raise _refused(product_reasons.TOO_MANY_FILES(limit=MAX_FILES))
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
            raise _refused(product_reasons.FILE_NOT_UNPACKED(file=path.name)) from None
        remaining_bytes -= len(text)
        if remaining_bytes < 0:
            raise _refused(product_reasons.EXPORT_TOO_LARGE(size=MAX_UNPACKED_BYTES // 1024 // 1024))
        value = _parsed(text, path.name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield kind, item


def _in_json(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    value = _parsed(content, "the file")
    if not isinstance(value, dict):
        raise _refused(product_reasons.NOT_AN_OBJECT())
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
        raise _refused(product_reasons.FILE_NOT_UTF8(file=name)) from None
    except RecursionError:
        raise _refused(product_reasons.FILE_TOO_DEEP(file=name)) from None
    except ValueError as error:
        raise _refused(product_reasons.FILE_NOT_JSON(file=name, problem=str(error))) from None


def _refused(problem: Reason) -> Rejected:
    return Rejected("invalid_export", product_reasons.EXPORT_UNREADABLE(problem=problem), "file")
