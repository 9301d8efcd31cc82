"""ConnectWise's callbacks carry the record as JSON inside a text."""

from __future__ import annotations

import json

from tocsin.catalogue.hooks import Headers, Payload


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """The callback with its `Entity` as an object. One that has it already, or none that can be read, is as it is."""
    entity = payload.get("Entity")
    if not isinstance(entity, str):
        return [payload]
    try:
        record = json.loads(entity)
    except (ValueError, RecursionError):
        return [payload]
    return [{**payload, "Entity": record}] if isinstance(record, dict) else [payload]
