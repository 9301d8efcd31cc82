"""PagerDuty's webhooks of versions 1 and 2 hold several messages, each an event and its incident."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns each message in the form of version 3; any other payload as it is."""
    found = payload.get("messages")
    if not isinstance(found, list):
        return [payload]
    return [_in_version_3(message) for message in found if isinstance(message, dict)] or [payload]


def _in_version_3(message: Payload) -> Payload:
    data = message.get("data")
    incident = message.get("incident", data.get("incident") if isinstance(data, dict) else None)
    return {**message, "event": {"event_type": message.get("event", message.get("type")), "data": incident}}
