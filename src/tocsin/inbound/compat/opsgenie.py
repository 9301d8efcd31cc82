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

from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, answer
from tocsin.core.runtime import clock
from tocsin.inbound.compat import opsgenie_commands, opsgenie_queries
from tocsin.inbound.compat.opsgenie_commands import OpsgenieAction
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.expressions.fields import text_of
from tocsin.inbound.heartbeats import schedule
from tocsin.inbound.heartbeats.schedule import PingKind
from tocsin.inbound.http import heartbeat_endpoint
from tocsin.inbound.http.ingest_service import RETRY, HttpError, IngestService, headers_of
from tocsin.inbound.parsing.decode import LARGE, Element, decode
from tocsin.inbound.processing.committer import is_pending

KIND: Final = "opsgenie"

_ALERTS: Final = "/v2/alerts"
_HEARTBEATS: Final = "/v2/heartbeats"
PREFIXES: Final = (_ALERTS, _HEARTBEATS)

_SCHEME: Final = "geniekey"
_MAX_ALIAS: Final = 512

_NOT_PROCESSABLE: Final = "Request body is not processable. Please check the errors."


@dataclass(slots=True)
class OpsgenieRequest:
    """One request: its integration, the path segments below `/v2/alerts`, the query, and when it started."""

    scope: AsgiScope
    door: CompiledIntegration
    parts: list[str]
    query: dict[str, str]
    headers: dict[str, str]
    begun: float = field(default_factory=time.monotonic)
    #: Opsgenie's request id: the id of the message.
    number: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])


async def handle(reception: IngestService, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Handles one request. Raises HttpError, which `refused` renders in Opsgenie's format."""
    headers = headers_of(scope)
    door = await _door(reception, headers)
    raw_path: str = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    found = [unquote(part) for part in raw_path.strip("/").split("/")][1:]
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
    request = OpsgenieRequest(scope, door, found[1:], query, headers)
    if found[0] == "heartbeats":
        await _beat(reception, request, send)
        return
    if door.reader.kind.name != KIND:
        raise HttpError(401, "unauthenticated", "Could not authenticate")
    body = await reception.body(scope, receive)
    try:
        if request.method == "GET":
            await _read(request, send)
        else:
            await _order(reception, request, body, send)
    finally:
        reception.bodies.done(len(body))


async def error_response(send: Send, refusal: HttpError) -> None:
    """Sends an error in Opsgenie's format. All Opsgenie clients retry 5xx and 429."""
    said: dict[str, object] = {"message": refusal.detail, "took": 0.0, "requestId": str(uuid.uuid4())}
    await answer(send, refusal.status, msgspec.json.encode(said), headers=refusal.headers)


async def _door(reception: IngestService, headers: dict[str, str]) -> CompiledIntegration:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != _SCHEME or not token.strip():
        raise HttpError(401, "unauthenticated", "Could not authenticate")
    try:
        return await reception.door(token.strip())
    except HttpError as refusal:
        if refusal.status == 404:
            raise HttpError(401, "unauthenticated", "Could not authenticate") from None
        raise


# --- Queries


async def _read(request: OpsgenieRequest, send: Send) -> None:
    match request.parts:
        case []:
            data: object = await asyncio.to_thread(opsgenie_queries.alerts, request.door, request.query)
        case ["count"]:
            data = await asyncio.to_thread(opsgenie_queries.count, request.door, request.query)
        case ["requests", number]:
            data = await asyncio.to_thread(opsgenie_queries.request_status, request.door, number)
        case [identifier]:
            found = await asyncio.to_thread(opsgenie_queries.find, request.door, identifier, _type(request))
            data = None if found is None else opsgenie_queries.whole(request.door, found)
        case [identifier, ("notes" | "logs" | "recipients") as what]:
            data = await asyncio.to_thread(opsgenie_queries.below, request.door, identifier, _type(request), what)
        case _:
            raise _no_such_path()
    if data is None:
        raise HttpError(404, "not_found", "Alert does not exist")
    await _say(request, send, 200, {"data": data})


# --- Commands


async def _order(reception: IngestService, request: OpsgenieRequest, body: bytes, send: Send) -> None:
    proofs = reception.proofs(request.door, request.scope, request.headers, body)
    try:
        body = await reception.unpacked(request.headers, body)
    except Rejected as rejected:
        raise _not_processable(rejected) from None
    verb, identifier, more = _verb(request)
    try:
        given = await asyncio.to_thread(_payload, body) if len(body) > LARGE else _payload(body)
    except Rejected as rejected:
        # The message is stored nevertheless and opens an alert about it, because clients do not retry a 422.
        await reception.take(request.door, rejected, body, stored_headers(request.headers, proofs))
        raise _not_processable(rejected) from None
    problems: dict[str, str] = {}
    try:
        payload = opsgenie_commands.message(verb, {**given, **more})
    except Rejected as rejected:
        payload, problems = {**given, **more, "action": verb.value}, {rejected.field or "body": rejected.detail}
    if verb in opsgenie_commands.TO_WHAT_THERE_IS and identifier is not None and not problems:
        now = await asyncio.to_thread(opsgenie_queries.find, request.door, identifier, _type(request))
        if now is not None:
            is_removal = request.method == "DELETE"
            has = (opsgenie_queries.labels(now), opsgenie_queries.details(now))
            payload = opsgenie_commands.merge_with_alert(payload, *has, is_removal=is_removal)
    alias = payload.get("alias") if identifier is None else await _alias(request, identifier)
    if alias is None and identifier is not None:
        # Like Opsgenie: the request is accepted, and the unknown alert shows in the request's status.
        alias = ""
    said = (text_of(alias) or "").strip()[:_MAX_ALIAS]
    payload["alias"] = said or f"{'' if identifier is None else 'unknown '}{uuid.uuid4()}"
    raw = msgspec.json.encode(payload)
    problem = Rejected("invalid_request", "; ".join(problems.values())) if problems else None
    element = Element(None if problem else payload, raw, problem=problem)
    taken = await reception.take(request.door, [element], raw, stored_headers(request.headers, proofs))
    request.number = taken.incoming[0].id
    if problems:
        # The message is stored nevertheless and opens an alert about the problem.
        await _say(request, send, 422, {"message": _NOT_PROCESSABLE, "errors": problems})
        return
    if is_pending(taken.stored) and verb in opsgenie_commands.AFTERWARDS:
        raise HttpError(503, "not_stored", "Somebody is changing this alert. Send it again.", RETRY)
    alert_id = taken.stored[0].alert_id
    if alert_id is not None:
        await asyncio.to_thread(opsgenie_commands.apply_verb, request.door, verb, alert_id, payload, clock.now())
    await _say(request, send, 202, {"result": "Request will be processed"})


def _verb(request: OpsgenieRequest) -> tuple[OpsgenieAction, str | None, dict[str, object]]:
    """Returns the action, the alert's identifier (None: a new alert), and the fields given in path and query."""
    more: dict[str, object] = {
        name: request.query[name] for name in ("user", "source", "note", "tags", "keys") if name in request.query
    }
    match request.method, request.parts:
        case "POST", []:
            return OpsgenieAction.CREATE, None, {}
        case "DELETE", [identifier]:
            return OpsgenieAction.DELETE, identifier, more
        case "POST", [identifier, "actions", action]:
            return OpsgenieAction.ACTION, identifier, {"name": action}
        case (("POST" | "PUT" | "DELETE"), [identifier, word]):
            verb = opsgenie_commands.WORDS.get((request.method, word))
            if verb is not None:
                return verb, identifier, more if request.method == "DELETE" else {}
    raise _no_such_path()


async def _alias(request: OpsgenieRequest, identifier: str) -> str | None:
    if _type(request) == "alias":
        return identifier
    found = await asyncio.to_thread(opsgenie_queries.find, request.door, identifier, _type(request))
    return None if found is None else str(found["source_id"])


def _payload(body: bytes) -> dict[str, object]:
    """Parses the body as one JSON object, ignoring the content type. Raises Rejected."""
    if not body.strip():
        return {}
    elements = decode(body, None, lenient=False).elements
    if len(elements) != 1 or elements[0].payload is None:
        raise Rejected("invalid_json", "send one object.")
    return dict(elements[0].payload)


def _not_processable(rejected: Rejected) -> HttpError:
    return HttpError(422, "invalid_request", f"Request body is not processable: {rejected.detail}")


# --- Heartbeats


async def _beat(reception: IngestService, request: OpsgenieRequest, send: Send) -> None:
    if len(request.parts) != 2 or request.parts[1] != "ping" or request.method not in ("GET", "POST", "PUT", "PATCH"):
        raise _no_such_path()
    pinged = _heartbeat(reception, request.door, request.parts[0])
    if pinged is not None:
        taken = await heartbeat_endpoint.record_ping(reception, pinged, PingKind.BEAT, None, {})
        request.number = taken.incoming[0].id
    # Opsgenie answers the same for an unknown heartbeat.
    await _say(request, send, 202, {"result": "PONG - Heartbeat received"})


def _heartbeat(reception: IngestService, door: CompiledIntegration, name: str) -> CompiledIntegration | None:
    """Returns the heartbeat integration with that name, or the one that the token belongs to."""
    if door.reader.kind.name == schedule.KIND:
        return door
    if door.reader.kind.name != KIND:
        raise HttpError(401, "unauthenticated", "Could not authenticate")
    every = reception.registry.doors().values()
    named = (one for one in every if one.reader.kind.name == schedule.KIND and one.name.casefold() == name.casefold())
    return next(named, None) if door.settings.get("pings", True) else None


# --- Responses


def _type(request: OpsgenieRequest) -> str:
    return request.query.get("identifierType", "id").lower()


def _no_such_path() -> HttpError:
    return HttpError(404, "not_found", "No such path: Tocsin speaks the Alert API v2 and heartbeat pings.")


async def _say(request: OpsgenieRequest, send: Send, status: int, said: dict[str, object]) -> None:
    took = round(time.monotonic() - request.begun, 3)
    number = str(request.number)
    body = msgspec.json.encode({**said, "took": took, "requestId": number})
    headers = (
        (b"x-request-id", number.encode()),
        (b"x-response-time", str(took).encode()),
        (b"x-ratelimit-state", b"OK"),
    )
    await answer(send, status, body, headers=headers)
