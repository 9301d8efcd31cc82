"""Heartbeat pings: any request to `/in/{token}` is a heartbeat; `/start`, `/finish` and `/fail` report more.

GET and HEAD count as well, so that plain `curl` and `wget` suffice. A heartbeat by itself opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec

from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, send_response
from tocsin.core.runtime import clock
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.heartbeats import monitor
from tocsin.inbound.heartbeats.schedule import PingKind
from tocsin.inbound.http import reasons
from tocsin.inbound.http.ingest_service import HttpError, IngestResult, IngestService, headers_of
from tocsin.inbound.http.responses import message_response
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.inbound.processing.committer import is_pending

#: The maximum number of characters kept of what a sender posts with a ping.
_MAX_REPORT_CHARS = 10_000

_MAX_QUERY_FIELDS = 50


async def handle(
    service: IngestService,
    integration: CompiledIntegration,
    action: str,
    scope: AsgiScope,
    receive: Receive,
    send: Send,
) -> None:
    """Handles one ping. Raises HttpError."""
    try:
        ping = PingKind(action.strip("/") or "beat")
    except ValueError:
        paths = ", ".join(f"/{item}" for item in PingKind if item is not PingKind.BEAT)
        raise HttpError(404, "unknown_ping", reasons.UNKNOWN_PING(paths=paths)) from None
    body = await service.read_body(scope, receive)
    try:
        headers = headers_of(scope)
        credential_results = service.check_credentials(integration, scope, headers, body)
        content_type = headers.get("content-type", "")
        report = _parse_report(scope, body, content_type)
        if len(body) > _MAX_REPORT_CHARS and b"heartbeat" in body:
            # Only a part is kept: the ping's name may be in the rest, or cut in the middle.
            ping = _ping_in(await asyncio.to_thread(_parse_object, body, content_type)) or ping
        else:
            ping = _ping_in(report) or ping
        result = await record_ping(service, integration, ping, report, stored_headers(headers, credential_results))
    finally:
        service.body_reader.release(len(body))
    (item,), (message_result,) = result.incoming, result.results
    response = message_response(item, message_result)
    await send_response(send, 202 if is_pending(result.results) else 200, msgspec.json.encode(response))


async def record_ping(
    service: IngestService, integration: CompiledIntegration, ping: PingKind, report: object, headers: Mapping[str, str]
) -> IngestResult:
    """Records a ping, then has its message decided. Raises HttpError."""
    payload = await asyncio.to_thread(monitor.record, integration, ping, report, clock.now())
    raw = msgspec.json.encode(payload)
    return await service.ingest(integration, [Element(payload, raw)], raw, headers)


def _ping_in(report: object) -> PingKind | None:
    """Returns the ping that a body names: `{"heartbeat": "fail"}`."""
    name = report.get("heartbeat") if isinstance(report, dict) else None
    return PingKind(name) if name in tuple(PingKind) else None


def _parse_report(scope: AsgiScope, body: bytes, content_type: str) -> object:
    """Returns what the sender posted, as an object or as text; None for nothing."""
    if body.strip():
        parsed = _parse_object(body[:_MAX_REPORT_CHARS], content_type)
        if parsed is not None:
            return parsed
        return sanitize(body[:_MAX_REPORT_CHARS].decode("utf-8", "replace"))
    query = scope["query_string"].decode("latin-1")[:_MAX_REPORT_CHARS]
    return dict(parse_qsl(query)[:_MAX_QUERY_FIELDS]) or None


def _parse_object(body: bytes, content_type: str) -> object:
    """Parses a body that is a single object; None for anything else."""
    try:
        elements = decode(body, content_type, lenient=True).elements
    except Rejected:
        return None
    return elements[0].payload if len(elements) == 1 else None
