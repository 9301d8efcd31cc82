"""Every post of a monitored sender is a heartbeat. The posted payload is kept for reference and decides nothing."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload

_KNOWN = ("beat", "start", "finish", "fail", "missed", "overrun")


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Wraps a posted payload as a heartbeat; heartbeat messages that Tocsin created itself are returned unchanged."""
    if payload.get("heartbeat") in _KNOWN:
        return [payload]
    return [{"heartbeat": "beat", "said": payload}]
