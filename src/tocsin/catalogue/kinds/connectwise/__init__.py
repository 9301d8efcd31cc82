"""ConnectWise callbacks carry the record as a JSON string."""

from __future__ import annotations

import json

from tocsin.catalogue.hooks import Headers, Payload


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns the callback with its `Entity` parsed to an object. An object or invalid JSON is left unchanged."""
    entity = payload.get("Entity")
    if not isinstance(entity, str):
        return [payload]
    try:
        record = json.loads(entity)
    except (ValueError, RecursionError):
        return [payload]
    return [{**payload, "Entity": record}] if isinstance(record, dict) else [payload]
