"""Takes values out of another product's documents, whatever stands in their place. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

type JsonObject = dict[str, Any]

_FIRST_YEAR, _LAST_YEAR = 1971, 2200


def objects_of(value: object) -> list[JsonObject]:
    """The objects in a list of a document; anything else is not there."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def each_once(documents: Iterable[JsonObject]) -> list[JsonObject]:
    """The documents without those whose id came before: what is added to a list while its pages are read pushes others
    onto the next page.
    """
    found: dict[object, JsonObject] = {}
    for number, document in enumerate(documents):
        identity = document.get("id")
        found.setdefault(identity if isinstance(identity, str | int) and identity != "" else (number,), document)
    return list(found.values())


def object_of(value: object) -> JsonObject:
    """The object that a document has somewhere; an empty one where it has something else."""
    return value if isinstance(value, dict) else {}


def text_of(document: JsonObject, *names: str) -> str:
    """The first of these that is a text or a number, as text; "" where none is."""
    for name in names:
        value = document.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def whole_of(document: JsonObject, name: str, default: int = 0) -> int:
    """A number that is not negative; `default` for anything else."""
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**8 else default


def moment(value: object) -> datetime | None:
    """A moment, in UTC: ISO as the API has it, or milliseconds or `2026-01-05 09:00` (UTC) as a backup tool does. None
    for one that is none, or in no year that anybody plans for: `9999-12-31` is an end that never comes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC) if 0 < value < 7_258_118_400_000 else None
    at = local_moment(value)
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def local_moment(value: object) -> datetime | None:
    """The same as it is written, with the zone that is written or none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return at if _FIRST_YEAR <= at.year < _LAST_YEAR else None
