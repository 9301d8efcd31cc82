"""Whatever a monitored sender posts is a beat: what it says is kept beside that, and decides nothing."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload

_KNOWN = ("beat", "start", "finish", "fail", "missed", "overrun")


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """A beat with what was posted; what Tocsin itself wrote about one comes back as it is."""
    if payload.get("heartbeat") in _KNOWN:
        return [payload]
    return [{"heartbeat": "beat", "said": payload}]
