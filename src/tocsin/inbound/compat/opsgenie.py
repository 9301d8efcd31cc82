"""Opsgenie-compatible Alert API v2 and heartbeat pings, authenticated by `Authorization: GenieKey TOKEN` with the token
of an integration of the kind `opsgenie`.

Responses and errors have that API's format; the request id is the message id.
https://docs.opsgenie.com/docs/alert-api
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

from tocsin.alerts.service import FoundAlert
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, send_response
from tocsin.core.reasons import ReasonType
from tocsin.core.runtime import clock
from tocsin.inbound.compat import opsgenie_commands, opsgenie_queries
from tocsin.inbound.compat.opsgenie_commands import OpsgenieAction
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.expressions.fields import text_of
from tocsin.inbound.heartbeats import schedule
from tocsin.inbound.heartbeats.schedule import PingKind
from tocsin.inbound.http import heartbeat_endpoint, reasons
from tocsin.inbound.http.ingest_service import RETRY, HttpError, IngestService, headers_of
from tocsin.inbound.parsing.decode import LARGE, Element, decode
from tocsin.inbound.processing.committer import is_pending

KIND: Final = "opsgenie"

_ALERTS: Final = "/v2/alerts"
_HEARTBEATS: Final = "/v2/heartbeats"
PREFIXES: Final = (_ALERTS, _HEARTBEATS)

_SCHEME: Final = "geniekey"
_MAX_ALIAS: Final = 512

_UNAUTHENTICATED = ReasonType("opsgenie.unauthenticated", "Could not authenticate")
_UNKNOWN_ALERT = ReasonType("opsgenie.unknown_alert", "Alert does not exist")
_UNKNOWN_HEARTBEAT = ReasonType("opsgenie.unknown_heartbeat", "Heartbeat does not exist")
_NO_SUCH_PATH = ReasonType("opsgenie.no_such_path", "No such path: Tocsin speaks the Alert API v2 and heartbeat pings.")
_INVALID_BODY = ReasonType("opsgenie.invalid_body", "Request body is not processable: {problem}")
_NOT_ONE_OBJECT = ReasonType("opsgenie.not_one_object", "send one object.")
_NOT_PROCESSABLE: Final = "Request body is not processable. Please check the errors."


@dataclass(slots=True)
class OpsgenieRequest:
    """One request: its integration, the path segments below `/v2/alerts`, the query, and when it started."""

    scope: AsgiScope
    integration: CompiledIntegration
    path_segments: list[str]
    query: dict[str, str]
    headers: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    #: Opsgenie's request id: the id of the message.
    request_id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])


async def handle(ingest_service: IngestService, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Handles one request. Raises HttpError, which `error_response` renders in Opsgenie's format."""
    headers = headers_of(scope)
    integration = await _authenticate(ingest_service, headers)
    raw_path: str = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    segments = [unquote(part) for part in raw_path.strip("/").split("/")][1:]
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
    request = OpsgenieRequest(scope, integration, segments[1:], query, headers)
    if segments[0] == "heartbeats":
        await _handle_ping(ingest_service, request, send)
        return
    if integration.normalizer.kind.name != KIND:
        raise HttpError(401, "unauthenticated", _UNAUTHENTICATED())
    body = await ingest_service.read_body(scope, receive)
    try:
        if request.method == "GET":
            await _handle_query(request, send)
        else:
            await _handle_command(ingest_service, request, body, send)
    finally:
        ingest_service.body_reader.release(len(body))


async def error_response(send: Send, error: HttpError) -> None:
    """Sends an error in Opsgenie's format. All Opsgenie clients retry 5xx and 429."""
    content: dict[str, object] = {"message": error.detail, "took": 0.0, "requestId": str(uuid.uuid4())}
    await send_response(send, error.status, msgspec.json.encode(content), headers=error.headers)


async def _authenticate(ingest_service: IngestService, headers: dict[str, str]) -> CompiledIntegration:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != _SCHEME or not token.strip():
        raise HttpError(401, "unauthenticated", _UNAUTHENTICATED())
    try:
        return await ingest_service.find_integration(token.strip())
    except HttpError as error:
        if error.status == 404:
            raise HttpError(401, "unauthenticated", _UNAUTHENTICATED()) from None
        raise


# --- Queries


async def _handle_query(request: OpsgenieRequest, send: Send) -> None:
    match request.path_segments:
        case []:
            data: object = await asyncio.to_thread(opsgenie_queries.alerts, request.integration, request.query)
        case ["count"]:
            data = await asyncio.to_thread(opsgenie_queries.count, request.integration, request.query)
        case ["requests", request_id]:
            data = await asyncio.to_thread(opsgenie_queries.request_status, request.integration, request_id)
        case [identifier]:
            alert = await asyncio.to_thread(
                opsgenie_queries.find, request.integration, identifier, _identifier_type(request)
            )
            data = None if alert is None else opsgenie_queries.full_alert(request.integration, alert)
        case [identifier, ("notes" | "logs" | "recipients") as subresource]:
            data = await asyncio.to_thread(
                opsgenie_queries.alert_entries, request.integration, identifier, _identifier_type(request), subresource
            )
        case _:
            raise _no_such_path()
    if data is None:
        raise HttpError(404, "not_found", _UNKNOWN_ALERT())
    await _respond(request, send, 200, {"data": data})


# --- Commands


async def _handle_command(ingest_service: IngestService, request: OpsgenieRequest, body: bytes, send: Send) -> None:
    credential_results = ingest_service.check_credentials(request.integration, request.scope, request.headers, body)
    try:
        body = await ingest_service.decompress_body(request.headers, body)
    except Rejected as rejected:
        raise _not_processable(rejected) from None
    verb, identifier, query_fields = _verb(request)
    try:
        fields = await asyncio.to_thread(_payload, body) if len(body) > LARGE else _payload(body)
    except Rejected as rejected:
        # The message is stored nevertheless and opens an alert about it, because clients do not retry a 422.
        await ingest_service.ingest(
            request.integration, rejected, body, stored_headers(request.headers, credential_results)
        )
        raise _not_processable(rejected) from None
    problem: Rejected | None = None
    try:
        payload = opsgenie_commands.message_payload(verb, {**fields, **query_fields})
    except Rejected as rejected:
        payload, problem = {**fields, **query_fields, "action": verb.value}, rejected
    if verb in opsgenie_commands.MERGED_ACTIONS and identifier is not None and problem is None:
        current_alert = await asyncio.to_thread(
            opsgenie_queries.find, request.integration, identifier, _identifier_type(request)
        )
        if current_alert is not None:
            is_removal = request.method == "DELETE"
            current_values = (opsgenie_queries.labels(current_alert), opsgenie_queries.details(current_alert))
            payload = opsgenie_commands.merge_with_alert(payload, *current_values, is_removal=is_removal)
    alias = payload.get("alias") if identifier is None else await _alias(request, identifier)
    if alias is None and identifier is not None:
        # Like Opsgenie: the request is accepted, and the unknown alert shows in the request's status.
        alias = ""
    alias_text = (text_of(alias) or "").strip()[:_MAX_ALIAS]
    payload["alias"] = alias_text or f"{'' if identifier is None else 'unknown '}{uuid.uuid4()}"
    raw = msgspec.json.encode(payload)
    element = Element(None if problem else payload, raw, problem=problem)
    ingest_result = await ingest_service.ingest(
        request.integration, [element], raw, stored_headers(request.headers, credential_results)
    )
    request.request_id = ingest_result.incoming[0].id
    if problem is not None:
        # The message is stored nevertheless and opens an alert about the problem.
        errors = {problem.field or "body": problem.detail}
        await _respond(request, send, 422, {"message": _NOT_PROCESSABLE, "errors": errors})
        return
    if is_pending(ingest_result.results) and verb in opsgenie_commands.COMMAND_ACTIONS:
        raise HttpError(503, "not_stored", reasons.BEING_CHANGED(), RETRY)
    alert_id = ingest_result.results[0].alert_id
    if alert_id is not None:
        alert = FoundAlert.by_tocsin(alert_id)
        await asyncio.to_thread(opsgenie_commands.apply_verb, request.integration, verb, alert, payload, clock.now())
    await _respond(request, send, 202, {"result": "Request will be processed"})


def _verb(request: OpsgenieRequest) -> tuple[OpsgenieAction, str | None, dict[str, object]]:
    """Returns the action, the alert's identifier (None: a new alert), and the fields given in path and query."""
    query_fields: dict[str, object] = {
        name: request.query[name] for name in ("user", "source", "note", "tags", "keys") if name in request.query
    }
    match request.method, request.path_segments:
        case "POST", []:
            return OpsgenieAction.CREATE, None, {}
        case "DELETE", [identifier]:
            return OpsgenieAction.DELETE, identifier, query_fields
        case "POST", [identifier, "actions", action]:
            return OpsgenieAction.ACTION, identifier, {"name": action}
        case (("POST" | "PUT" | "DELETE"), [identifier, segment]):
            verb = opsgenie_commands.ACTIONS_BY_PATH.get((request.method, segment))
            if verb is not None:
                return verb, identifier, query_fields if request.method == "DELETE" else {}
    raise _no_such_path()


async def _alias(request: OpsgenieRequest, identifier: str) -> str | None:
    if _identifier_type(request) == "alias":
        return identifier
    alert = await asyncio.to_thread(opsgenie_queries.find, request.integration, identifier, _identifier_type(request))
    return None if alert is None else str(alert["source_id"])


def _payload(body: bytes) -> dict[str, object]:
    """Parses the body as one JSON object, ignoring the content type. Raises Rejected."""
    if not body.strip():
        return {}
    elements = decode(body, None, lenient=False).elements
    if len(elements) != 1 or elements[0].payload is None:
        raise Rejected("invalid_json", _NOT_ONE_OBJECT())
    return dict(elements[0].payload)


def _not_processable(rejected: Rejected) -> HttpError:
    return HttpError(422, "invalid_request", _INVALID_BODY(problem=rejected.reason))


# --- Heartbeats


async def _handle_ping(ingest_service: IngestService, request: OpsgenieRequest, send: Send) -> None:
    if len(request.path_segments) == 1 and request.method == "GET":
        await _describe_heartbeat(ingest_service, request, send)
        return
    if (
        len(request.path_segments) != 2
        or request.path_segments[1] != "ping"
        or request.method not in ("GET", "POST", "PUT", "PATCH")
    ):
        raise _no_such_path()
    heartbeat = _heartbeat(ingest_service, request.integration, request.path_segments[0])
    if heartbeat is not None:
        ingest_result = await heartbeat_endpoint.record_ping(ingest_service, heartbeat, PingKind.BEAT, None, {})
        request.request_id = ingest_result.incoming[0].id
    # Opsgenie answers the same for an unknown heartbeat.
    await _respond(request, send, 202, {"result": "PONG - Heartbeat received"})


async def _describe_heartbeat(ingest_service: IngestService, request: OpsgenieRequest, send: Send) -> None:
    heartbeat = _heartbeat(ingest_service, request.integration, request.path_segments[0])
    if heartbeat is None:
        raise HttpError(404, "not_found", _UNKNOWN_HEARTBEAT())
    data = await asyncio.to_thread(opsgenie_queries.heartbeat, heartbeat)
    await _respond(request, send, 200, {"data": data})


def _heartbeat(
    ingest_service: IngestService, integration: CompiledIntegration, name: str
) -> CompiledIntegration | None:
    """Returns the heartbeat integration with that name, or the one that the token belongs to."""
    if integration.normalizer.kind.name == schedule.KIND:
        return integration
    if integration.normalizer.kind.name != KIND:
        raise HttpError(401, "unauthenticated", _UNAUTHENTICATED())
    integrations = ingest_service.registry.get_all().values()
    matching = (
        candidate
        for candidate in integrations
        if candidate.normalizer.kind.name == schedule.KIND and candidate.name.casefold() == name.casefold()
    )
    return next(matching, None) if integration.settings.get("pings", True) else None


# --- Responses


def _identifier_type(request: OpsgenieRequest) -> str:
    return request.query.get("identifierType", "id").lower()


def _no_such_path() -> HttpError:
    return HttpError(404, "not_found", _NO_SUCH_PATH())


async def _respond(request: OpsgenieRequest, send: Send, status: int, content: dict[str, object]) -> None:
    took = round(time.monotonic() - request.started, 3)
    request_id = str(request.request_id)
    body = msgspec.json.encode({**content, "took": took, "requestId": request_id})
    headers = (
        (b"x-request-id", request_id.encode()),
        (b"x-response-time", str(took).encode()),
        (b"x-ratelimit-state", b"OK"),
    )
    await send_response(send, status, body, headers=headers)
