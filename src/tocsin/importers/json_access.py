"""Reads values from another product's documents, whatever their type. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

type JsonObject = dict[str, Any]

_FIRST_YEAR, _LAST_YEAR = 1971, 2200


def objects_of(value: object) -> list[JsonObject]:
    """The objects in a list; other values are ignored."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def without_duplicates(documents: Iterable[JsonObject]) -> list[JsonObject]:
    """The documents without duplicate ids: objects added during pagination push others onto the next page."""
    unique: dict[object, JsonObject] = {}
    for index, document in enumerate(documents):
        identity = document.get("id")
        unique.setdefault(identity if isinstance(identity, str | int) and identity != "" else (index,), document)
    return list(unique.values())


def object_of(value: object) -> JsonObject:
    """The value if it is an object, or else an empty one."""
    return value if isinstance(value, dict) else {}


def text_of(document: JsonObject, *names: str) -> str:
    """The first of these values that is a text or a number, as text; "" if there is none."""
    for name in names:
        value = document.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def int_of(document: JsonObject, name: str, default: int = 0) -> int:
    """A non-negative integer; `default` for anything else."""
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**8 else default


def parse_time(value: object) -> datetime | None:
    """A time in UTC: ISO 8601 as in APIs, or milliseconds or `2026-01-05 09:00` (UTC) as in backups.

    None if it is invalid or in an implausible year: `9999-12-31` means no end.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC) if 0 < value < 7_258_118_400_000 else None
    at = parse_local_time(value)
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def parse_local_time(value: object) -> datetime | None:
    """Like `parse_time`, with the zone as written, or none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return at if _FIRST_YEAR <= at.year < _LAST_YEAR else None
