"""PagerDuty-compatible Events API: `POST /v2/enqueue`, `/v2/change/enqueue`, and version 1. The routing key is the
token of an integration of the kind `pagerduty`. Responses and errors have that API's format.

https://developer.pagerduty.com/docs/events-api-v2/overview/
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Final

import msgspec

from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, answer
from tocsin.core.runtime import clock
from tocsin.inbound.compat import alert_commands
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.credentials import stored_headers
from tocsin.inbound.expressions.fields import text_of
from tocsin.inbound.http.ingest_service import RETRY, HttpError, IngestService, headers_of
from tocsin.inbound.parsing.decode import LARGE, Element, decode
from tocsin.inbound.processing.committer import is_pending

KIND: Final = "pagerduty"

EVENTS: Final = "/v2/enqueue"
CHANGES: Final = "/v2/change/enqueue"
FIRST: Final = "/generic/2010-04-15/create_event.json"
PATHS: Final = (EVENTS, CHANGES, FIRST)

_ACTIONS: Final = ("trigger", "acknowledge", "resolve")
_SEVERITIES: Final = ("critical", "error", "warning", "info")
_MAX_KEY: Final = 255

type PagerdutyEvent = dict[str, object]


async def handle(reception: IngestService, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Handles one event. Raises HttpError, which `refused` renders in PagerDuty's format."""
    if scope["method"] != "POST":
        raise HttpError(405, "method_not_allowed", "Send a POST.", ((b"allow", b"POST"),))
    body = await reception.body(scope, receive)
    try:
        await _event(reception, scope, body, send)
    finally:
        reception.bodies.done(len(body))


async def error_response(send: Send, refusal: HttpError) -> None:
    """Sends an error in PagerDuty's format. All PagerDuty clients retry 5xx."""
    if refusal.status >= 500:
        said: dict[str, object] = {"status": "error", "message": refusal.detail}
    else:
        said = _invalid(refusal.detail)
    await answer(send, refusal.status, msgspec.json.encode(said), headers=refusal.headers)


async def _event(reception: IngestService, scope: AsgiScope, body: bytes, send: Send) -> None:
    headers = headers_of(scope)
    sent = body
    try:
        body = await reception.unpacked(headers, sent)
    except Rejected as rejected:
        raise HttpError(400, "invalid_event", rejected.detail) from None
    event = await asyncio.to_thread(_read, body) if len(body) > LARGE else _read(body)
    path: str = scope["path"]
    key_name = "service_key" if path == FIRST else "routing_key"
    token = event.pop(key_name, None) or headers.get("x-routing-key")
    if not isinstance(token, str) or not token:
        raise HttpError(400, "invalid_event", f"'{key_name}' is missing or blank")
    door = await _door(reception, token, key_name)
    proofs = reception.proofs(door, scope, headers, sent)
    if path == CHANGES:
        # Change events have no event_action in PagerDuty's API.
        event["event_action"] = "change"
        problems = _problems_of_change(event)
    elif path == FIRST:
        problems = _problems_of_first(event)
    else:
        problems = _problems(event)
    key = _key(event, "incident_key" if path == FIRST else "dedup_key")
    raw = msgspec.json.encode(event)
    problem = Rejected("invalid_event", "; ".join(problems)) if problems else None
    element = Element(None if problem else event, raw, problem=problem)
    taken = await reception.take(door, [element], raw, stored_headers(headers, proofs))
    if problems:
        # The message is stored nevertheless and opens an alert about the problem, because something may well be wrong.
        await answer(send, 400, msgspec.json.encode(_invalid(*problems)))
        return
    (stored,) = taken.stored
    if _action(event) == "acknowledge":
        if is_pending(taken.stored):
            raise HttpError(503, "not_stored", "Somebody is changing this alert. Send it again.", RETRY)
        if stored.alert_id is not None:
            await asyncio.to_thread(alert_commands.acknowledge, door, stored.alert_id, "", "", clock.now())
    await _accepted(send, path, key)


async def _door(reception: IngestService, token: str, key_name: str) -> CompiledIntegration:
    try:
        door = await reception.door(token)
    except HttpError as refusal:
        if refusal.status != 404:
            raise
        door = None
    if door is None or door.reader.kind.name != KIND:
        raise HttpError(400, "invalid_event", f"Invalid {key_name.replace('_', ' ')}")
    return door


async def _accepted(send: Send, path: str, key: str) -> None:
    if path == CHANGES:
        await answer(send, 202, b'{"status":"success","message":"Change event processed"}')
        return
    name, status = ("incident_key", 200) if path == FIRST else ("dedup_key", 202)
    said = {"status": "success", "message": "Event processed", name: key}
    await answer(send, status, msgspec.json.encode(said))


def _invalid(*errors: str) -> dict[str, object]:
    return {"status": "invalid event", "message": "Event object is invalid", "errors": list(errors)}


def _read(body: bytes) -> PagerdutyEvent:
    """Parses the body as one JSON object, ignoring the content type. Raises HttpError."""
    try:
        (element,) = decode(body, None, lenient=False).elements
    except (Rejected, ValueError) as error:
        detail = error.detail if isinstance(error, Rejected) else "Event object is invalid"
        raise HttpError(400, "invalid_event", detail) from None
    if element.payload is None:
        raise HttpError(400, "invalid_event", "Event object is invalid")
    return dict(element.payload)


def _key(event: PagerdutyEvent, name: str) -> str:
    """Returns the event's key as text, as the response contains it, and stores it in the event. A trigger without a key
    gets a unique one."""
    key = event[name] = _given_key(event, name) or uuid.uuid4().hex
    return key


def _given_key(event: PagerdutyEvent, name: str) -> str:
    return (text_of(event.get(name)) or "").strip()


def _action(event: PagerdutyEvent) -> str:
    found = event.get("event_action") or event.get("event_type")
    return found.lower() if isinstance(found, str) else ""


def _problems(event: PagerdutyEvent) -> list[str]:
    """Returns the errors that PagerDuty would report, in its words."""
    action = _action(event)
    if action not in _ACTIONS:
        return ["'event_action' is missing or blank" if not action else "'event_action' is invalid"]
    problems = _problem_with_key(event, "dedup_key", is_needed=action != "trigger")
    if action != "trigger":
        return problems
    payload = event.get("payload")
    if not isinstance(payload, Mapping):
        return [*problems, "'payload' is missing or blank"]
    problems += [
        f"'payload.{name}' is missing or blank"
        for name in ("summary", "source", "severity")
        if not str(payload.get(name) or "").strip()
    ]
    severity = payload.get("severity")
    if severity and str(severity).lower() not in _SEVERITIES:
        problems.append(f"'payload.severity' is invalid (must be one of the following: {', '.join(_SEVERITIES)})")
    return problems


def _problems_of_first(event: PagerdutyEvent) -> list[str]:
    action = _action(event)
    if action not in _ACTIONS:
        return ["Event type is invalid (must be one of the following: trigger, acknowledge or resolve)"]
    problems = _problem_with_key(event, "incident_key", is_needed=action != "trigger")
    if action == "trigger" and not str(event.get("description") or "").strip():
        problems.append("Description is missing or blank")
    return problems


def _problems_of_change(event: PagerdutyEvent) -> list[str]:
    payload = event.get("payload")
    if not isinstance(payload, Mapping) or not str(payload.get("summary") or "").strip():
        return ["'payload.summary' is missing or blank"]
    return []


def _problem_with_key(event: PagerdutyEvent, name: str, *, is_needed: bool) -> list[str]:
    key = _given_key(event, name)
    if is_needed and not key:
        return [f"'{name}' is missing or blank"]
    return [f"'{name}' is too long (maximum is {_MAX_KEY} characters)"] if len(key) > _MAX_KEY else []
