"""A webhook request from its bytes to its answer: checks the sender, decodes, has the messages decided."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from urllib.parse import parse_qsl, urlsplit

import msgspec
import psycopg

from tocsin.catalogue import hooks
from tocsin.catalogue.hooks import KindHooks, MessageOutcome, Payload, SenderReply
from tocsin.catalogue.kinds import IntegrationKind
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.ids import token_hash
from tocsin.core.net.asgi import AsgiScope, BodyReader, Receive, Send, SendResponse, client_address, send_response
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import sentence
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import sanitize
from tocsin.inbound import heartbeats, ingest_service
from tocsin.inbound.config.compiled_integration import CompiledIntegration, stored_headers
from tocsin.inbound.config.registry import IntegrationRegistry, UnknownIntegration
from tocsin.inbound.heartbeats import PingKind
from tocsin.inbound.ingest_service import (
    RETRY,
    HttpError,
    IngestResult,
    IngestService,
    WebhookTestToken,
    answer_of,
    build_messages,
    content_type_of,
    headers_of,
    message_response,
    size_of,
)
from tocsin.inbound.parsing.decode import LARGE, URLENCODED, Element, decode, elements_of, is_costly
from tocsin.inbound.processing.committer import Committer, IngestRequest, is_pending
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult

log = logging.getLogger(__name__)

# ---------- senders
# Pins an integration to its sender, for kinds that know it by more than the URL, such as an Amazon SNS topic. The first
# authentic message pins the sender; rotating the URL unpins it; a sender configured in the settings overrides it.

_PIN = """
INSERT INTO inbound_pinnedsender (integration_id, sender, pinned_at)
SELECT id, %(sender)s, clock_timestamp() FROM inbound_integration WHERE id = %(integration)s
ON CONFLICT (integration_id) DO NOTHING
"""


def require_sender(integration: CompiledIntegration, payloads: Sequence[Payload]) -> str:
    """Checks the sender of authentic payloads. Returns its name if the integration is to be pinned to it.

    Raises HttpError (403, "other_sender") for a sender other than the pinned or configured one.
    """
    read_sender = integration.normalizer.kind.kind_hooks.sender
    if read_sender is None:
        return ""
    senders = [read_sender(payload, integration.settings) for payload in payloads]
    pinned = "" if any(sender.expected for sender in senders) else _pinned_sender(integration.id)
    first_name = senders[0].name
    for sender in senders:
        expected = sender.expected or pinned or first_name
        if sender.name != expected:
            name = integration.name
            log.warning("A message of %s to %s is refused: it takes those of %s only.", sender.name, name, expected)
            reason = ingest_service.OTHER_SENDER(expected=expected, sender=sender.name, remedy=sender.remedy)
            raise HttpError(403, "other_sender", reason)
    return senders[0].name if not pinned and not senders[0].expected else ""


def _pinned_sender(integration_id: int) -> str:
    with database.transaction() as connection:
        row = database.row(
            connection, "SELECT sender FROM inbound_pinnedsender WHERE integration_id = %s", (integration_id,)
        )
    return row["sender"] if row else ""


# Hooks that verify the sender or answer its handshake run in a thread, because they may GET a public URL; the request
# passes the same egress guard as all others.

#: Seconds for one request, because the sender waits meanwhile.
_DEADLINE = 5.0


def answer_handshake(
    integration: CompiledIntegration, payloads: Sequence[Payload], headers: Mapping[str, str]
) -> SenderReply | None:
    """Returns the reply to a handshake; None for messages. A handshake is always a single payload.

    Raises HttpError: 403 with the reason for an inauthentic sender, or one other than the pinned sender; 503 if the
    check is impossible now.
    """
    code = integration.normalizer.kind.kind_hooks
    require_genuine(code, payloads, headers)
    try:
        new_sender = require_sender(integration, payloads)
        reply = None
        if code.handshake is not None and len(payloads) == 1:
            with _hook_errors_as_http():
                reply = code.handshake(payloads[0], headers, fetch)
        if new_sender and (reply is None or reply.status < 300):
            with database.transaction() as connection:
                connection.execute(_PIN, {"integration": integration.id, "sender": new_sender})
    except psycopg.Error:
        raise HttpError(503, "not_checked", ingest_service.SENDER_NOT_CHECKED(), RETRY) from None
    return reply


def require_genuine(code: KindHooks, payloads: Sequence[Payload], headers: Mapping[str, str]) -> None:
    """Raises HttpError as `answer_handshake` does, unless every payload is authentic."""
    if code.refusal is None:
        return
    with _hook_errors_as_http():
        for payload in payloads:
            if (reason := code.refusal(payload, headers, fetch)) is not None:
                raise HttpError(403, "not_the_sender", reason)


@contextmanager
def _hook_errors_as_http() -> Iterator[None]:
    """Converts errors of a kind's hooks to HttpError."""
    try:
        yield
    except Temporary as error:
        raise HttpError(503, "not_checked", error.reason, RETRY) from None
    except Permanent as error:
        raise HttpError(403, "not_the_sender", error.reason) from None
    except (ValueError, TypeError, KeyError, AttributeError, LookupError) as error:
        log.exception("The code of a kind cannot read a request.")
        raise HttpError(403, "not_the_sender", ingest_service.UNREADABLE(error=type(error).__name__)) from None


def fetch(url: str) -> bytes:
    """Returns the body at a public https URL. Raises Temporary or Permanent."""
    if urlsplit(url).scheme != "https":
        raise Permanent(sentence("The address is not https."))
    response = _client().request("GET", url, deadline=_DEADLINE)
    host = urlsplit(url).hostname or ""
    answered = sentence("{host} answered {status}.", host=host, status=str(response.status))
    if response.status >= 500 or response.status == 429:
        raise Temporary(answered)
    if response.status != 200:
        raise Permanent(answered)
    return response.body


@cache
def _client() -> HttpClient:
    return HttpClient()


# ---------- webhook endpoint


async def handle(
    service: IngestService,
    integration: CompiledIntegration,
    scope: AsgiScope,
    receive: Receive,
    send: Send,
    test: WebhookTestToken | None,
) -> None:
    """Handles one request; `test` if it is a user's sample. Raises HttpError, or ClientDisconnected."""
    raw_body = body = await service.read_body(scope, receive)
    try:
        headers = headers_of(scope)
        credential_results = service.check_credentials(integration, scope, headers, body)
        content_type = headers.get("content-type", "")
        if scope["method"] == "GET":
            body, content_type = scope["query_string"], URLENCODED
        is_array = False
        elements: Sequence[Element] | Rejected
        try:
            body = await service.decompress_body(headers, body)
            decoded = await service.decode_body(integration, body, content_type, headers)
            elements, is_array = decoded.elements, decoded.is_array
        except Rejected as rejected:
            elements = rejected
        else:
            if not elements:
                await send_response(send, 200, b'{"messages":[]}')
                return
            # A sample is authenticated by its test token: the sender's own signature cannot be produced here.
            if test is None and (reply := await _handshake_reply(service, integration, scope, elements)) is not None:
                await _send_reply(send, reply)
                return
        content_type = content_type_of(elements, body, content_type)
        kept_headers = stored_headers(headers, credential_results)
        result = await service.ingest(integration, elements, body, kept_headers, content_type=content_type, test=test)
        build_reply = integration.normalizer.kind.kind_hooks.reply
        if test is None and build_reply is not None:
            outcomes = [
                MessageOutcome(str(message.id), stored.status.value, stored.reason, stored.alert_id)
                for message, stored in zip(result.incoming, result.results, strict=True)
            ]
            await _send_reply(send, build_reply(outcomes))
            return
        # The client that sends a sample parses Tocsin's own response, not the one of the kind.
        status, response_body = answer_of(integration, result.incoming, result.results, is_array=is_array)
        await send_response(send, status, response_body)
    finally:
        service.body_reader.release(len(raw_body))


async def _handshake_reply(
    service: IngestService, integration: CompiledIntegration, scope: AsgiScope, elements: Sequence[Element]
) -> SenderReply | None:
    """Returns the reply to a handshake of the sender; None for messages. Raises HttpError for an inauthentic sender,
    and counts it."""
    code = integration.normalizer.kind.kind_hooks
    payloads = [element.payload for element in elements if element.payload is not None]
    if not payloads or (code.refusal is None and code.handshake is None):
        return None
    try:
        return await asyncio.to_thread(answer_handshake, integration, payloads, headers_of(scope))
    except HttpError as error:
        if error.status == 403:
            service.refused_requests.count_refused(integration.id, client_address(scope), error.reason, clock.now())
        raise


async def _send_reply(send: Send, reply: SenderReply) -> None:
    await send_response(send, reply.status, reply.body, content_type=reply.content_type.encode())


# ---------- heartbeat endpoint
# Heartbeat pings: any request to `/in/{token}` is a heartbeat; `/start`, `/finish` and `/fail` report more.
# GET and HEAD count as well, so that plain `curl` and `wget` suffice. A heartbeat by itself opens nothing.

#: The maximum number of characters kept of what a sender posts with a ping.
_MAX_REPORT_CHARS = 10_000

_MAX_QUERY_FIELDS = 50


async def handle_heartbeat(
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
        raise HttpError(404, "unknown_ping", ingest_service.UNKNOWN_PING(paths=paths)) from None
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
    payload = await asyncio.to_thread(heartbeats.record, integration, ping, report, clock.now())
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


# ---------- fast path
# Fast path for a POST to `/in/{token}` that arrived in one piece: handled without ASGI, answered after the commit.
# Any request that it declines takes the ordinary path, which does the same with all checks.

#: Other targets are tests, have a query, or use an unusual spelling.
_TARGET = re.compile(rb"/in/([^/?%]{1,200})")

_NOT_STORED = msgspec.json.encode({"error": "not_stored", "detail": str(ingest_service.MAYBE_NOT_STORED())})
_INTEGRATION_DELETED = msgspec.json.encode(
    {"error": "unknown_token", "detail": str(ingest_service.INTEGRATION_DELETED())}
)


class FastPath:
    """Handles complete requests for integrations that require nothing but their token."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, body_reader: BodyReader) -> None:
        self._registry = registry
        self._committer = committer
        self._body_reader = body_reader

    def find_handle(self, target: bytes) -> CompiledIntegration | None:
        """Returns the target's integration if its token is current, it needs no credentials, and its kind no hooks."""
        path_match = _TARGET.fullmatch(target)
        if path_match is None:
            return None
        lookup = self._registry.find(token_hash(path_match[1].decode("latin-1")), clock.now())
        if lookup is None or lookup.is_expired:
            return None
        integration = lookup.integration
        is_plain = _is_plain(integration.normalizer.kind) and not integration.credentials.are_required
        return integration if is_plain else None

    def accept(
        self, handle: object, headers: Sequence[tuple[bytes, bytes]], body: bytes, respond: SendResponse
    ) -> bool:
        """Passes the request's messages to the committer. Declines bodies that are large or compressed."""
        assert isinstance(handle, CompiledIntegration)
        size = len(body)
        try:
            request = None if size > LARGE else _decode_request(handle, headers, body)
        except Exception:  # boundary of one request: the ordinary path meets the error again and reports it
            log.exception("A message to %s cannot be taken the short way.", handle.name)
            return False
        if request is None or not self._body_reader.reserve(size):
            return False
        incoming, is_array = request
        callback = partial(self._respond, handle, incoming, is_array, size, respond)
        loop = asyncio.get_running_loop()
        if self._committer.put(IngestRequest(incoming, size_of(incoming, body), callback, loop)):
            return True
        self._body_reader.release(size)
        return False

    def _respond(
        self,
        integration: CompiledIntegration,
        incoming: Sequence[IncomingMessage],
        is_array: bool,
        size: int,
        respond: SendResponse,
        result: list[MessageResult] | Exception,
    ) -> None:
        self._body_reader.release(size)
        if isinstance(result, UnknownIntegration):
            respond(404, _INTEGRATION_DELETED)
        elif isinstance(result, Exception):
            respond(503, _NOT_STORED, *RETRY)
        else:
            respond(*answer_of(integration, incoming, result, is_array=is_array))


def _is_plain(kind: IntegrationKind) -> bool:
    """Returns whether messages of a kind need only decoding; to split those of any tool costs next to nothing."""
    code = kind.kind_hooks
    return code is hooks.NO_HOOKS or (kind.opens_unknown and replace(code, messages=None) == hooks.NO_HOOKS)


def _decode_request(
    integration: CompiledIntegration, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> tuple[list[IncomingMessage], bool] | None:
    """Returns the request's messages, and whether it is an array; None if only the ordinary path can take it."""
    headers_by_name = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    content_type = headers_by_name.get("content-type", "")
    if "content-encoding" in headers_by_name or is_costly(body, content_type):
        return None
    is_array = False
    elements: Sequence[Element] | Rejected
    try:
        decoded = elements_of(integration.normalizer.kind, body, content_type, headers_by_name)
        elements, is_array = decoded.elements, decoded.is_array
    except Rejected as rejected:
        if rejected.code == "too_many":
            return None
        elements = rejected
    content_type = content_type_of(elements, body, content_type)
    stored = stored_headers(headers_by_name, {})
    return build_messages(integration, elements, body, stored, content_type), is_array
