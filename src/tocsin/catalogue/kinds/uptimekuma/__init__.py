"""Uptime Kuma posts JSON, or that JSON in the field `data` of a form; by GET, monitor and heartbeat are JSON texts."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload, decode_object


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns the payload as Uptime Kuma posts it as JSON."""
    whole = decode_object(payload.get("data"))
    if whole is not None:
        return [whole]
    decoded = {
        name: value for name in ("monitor", "heartbeat") if (value := decode_object(payload.get(name))) is not None
    }
    return [{**payload, **decoded}] if decoded else [payload]
