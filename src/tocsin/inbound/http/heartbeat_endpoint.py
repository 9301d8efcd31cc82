"""Heartbeat pings: any request to `/in/{token}` is a heartbeat; `/start`, `/finish` and `/fail` report more.

GET and HEAD count as well, so that plain `curl` and `wget` suffice. A heartbeat by itself opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, answer
from tocsin.core.runtime import clock
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.heartbeats import monitor
from tocsin.inbound.heartbeats.schedule import PingKind
from tocsin.inbound.http.ingest_service import HttpError, IngestResult, IngestService, headers_of
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.inbound.processing.committer import is_pending

#: The maximum number of characters kept of what a sender posts with a ping.
_SAID = 10_000

_QUERY_FIELDS = 50


async def handle(
    reception: IngestService, door: CompiledIntegration, word: str, scope: AsgiScope, receive: Receive, send: Send
) -> None:
    """Handles one ping. Raises HttpError."""
    try:
        ping = PingKind(word.strip("/") or "beat")
    except ValueError:
        known = ", ".join(f"/{one}" for one in PingKind if one is not PingKind.BEAT)
        raise HttpError(
            404, "unknown_ping", f"A heartbeat has the address of its integration, or {known} after it."
        ) from None
    body = await reception.body(scope, receive)
    try:
        headers = headers_of(scope)
        proofs = reception.proofs(door, scope, headers, body)
        content_type = headers.get("content-type", "")
        said = _said(scope, body, content_type)
        if len(body) > _SAID and b"heartbeat" in body:
            # Only a part is kept: the ping's name may be in the rest, or cut in the middle.
            ping = _ping_in(await asyncio.to_thread(_object, body, content_type)) or ping
        else:
            ping = _ping_in(said) or ping
        taken = await record_ping(reception, door, ping, said, stored_headers(headers, proofs))
    finally:
        reception.bodies.done(len(body))
    (one,), (what,) = taken.incoming, taken.stored
    told = {"status": what.status.value, "message_id": str(one.id), "reason": what.reason}
    if what.alert_id is not None:
        told["alert_id"] = what.alert_id  # type: ignore[assignment]
    await answer(send, 202 if is_pending(taken.stored) else 200, msgspec.json.encode(told))


async def record_ping(
    reception: IngestService, door: CompiledIntegration, ping: PingKind, said: object, headers: Mapping[str, str]
) -> IngestResult:
    """Records a ping, then has its message decided. Raises HttpError."""
    payload = await asyncio.to_thread(monitor.record, door, ping, said, clock.now())
    raw = msgspec.json.encode(payload)
    return await reception.take(door, [Element(payload, raw)], raw, headers)


def _ping_in(said: object) -> PingKind | None:
    """Returns the ping that a body names: `{"heartbeat": "fail"}`."""
    word = said.get("heartbeat") if isinstance(said, dict) else None
    return PingKind(word) if word in tuple(PingKind) else None


def _said(scope: AsgiScope, body: bytes, content_type: str) -> object:
    """Returns what the sender posted, as an object or as text; None for nothing."""
    if body.strip():
        found = _object(body[:_SAID], content_type)
        if found is not None:
            return found
        return sanitize(body[:_SAID].decode("utf-8", "replace"))
    query = scope["query_string"].decode("latin-1")[:_SAID]
    return dict(parse_qsl(query)[:_QUERY_FIELDS]) or None


def _object(body: bytes, content_type: str) -> object:
    """Parses a body that is a single object; None for anything else."""
    try:
        elements = decode(body, content_type, lenient=True).elements
    except Rejected:
        return None
    return elements[0].payload if len(elements) == 1 else None
