"""PagerDuty-compatible Events API: `POST /v2/enqueue`, `/v2/change/enqueue`, version 1, and the form that PagerDuty's
agent for Nagios posts. The routing key is the token of an integration of the kind `pagerduty`. Responses and errors
have that API's format.

https://developer.pagerduty.com/docs/events-api-v2/overview/
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Final

import msgspec

from tocsin.alerts.service import FoundAlert
from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, Receive, Send, send_response
from tocsin.core.reasons import Reason, Text, joined, sentence
from tocsin.core.runtime import clock
from tocsin.inbound import ingest_service as reasons
from tocsin.inbound.compat import alert_commands
from tocsin.inbound.config.compiled_integration import CompiledIntegration, stored_headers
from tocsin.inbound.fields import text_of
from tocsin.inbound.ingest_service import RETRY, HttpError, IngestService, headers_of
from tocsin.inbound.parsing.decode import LARGE, Element, decode
from tocsin.inbound.processing.committer import is_pending

# ---------- nagios
# Notifications of PagerDuty's agent for Nagios and Icinga (`pagerduty_nagios.pl`), as events of the Events API v1.
# The agent posts a form to `/nagios/2010-04-15/create_event`: the macros of the notification without their prefix
# (`HOSTNAME`, `SERVICESTATE`, …) and `pd_nagios_object` (`service` or `host`). `CONTACTPAGER` is the routing key. It
# deletes what is answered 4xx from its queue, and repeats what is answered 5xx. Pure.
# https://www.pagerduty.com/docs/guides/nagios-perl-integration-guide/

#: Types of notification that say nothing about a problem. Any other type opens, so that none is lost.
_INFORMATION: Final = ("DOWNTIME", "FLAPPING")
_EVENT_TYPES: Final = {"RECOVERY": "resolve", "ACKNOWLEDGEMENT": "acknowledge"}
_SEVERITIES: Final = {"CRITICAL": "critical", "DOWN": "critical", "UNREACHABLE": "critical", "WARNING": "warning"}


def to_event(macros: Mapping[str, object]) -> dict[str, object]:
    """Returns the notification as an event of version 1, with its key as `service_key`."""
    fields = {name: str(value) for name, value in macros.items()}
    service_key = fields.pop("CONTACTPAGER", "")
    host = fields.get("HOSTNAME", "")
    service = fields.get("SERVICEDESC", "") if fields.get("pd_nagios_object") != "host" else ""
    state = fields.get("SERVICESTATE", "") if service else fields.get("HOSTSTATE", "")
    key = f"event_source=service;host_name={host};service_desc={service}"
    notification_type = fields.get("NOTIFICATIONTYPE", "").upper()
    output = fields.get("SERVICEOUTPUT") if service else fields.get("HOSTOUTPUT")
    return {
        "service_key": service_key,
        "event_type": "change"
        if notification_type.startswith(_INFORMATION)
        else _EVENT_TYPES.get(notification_type, "trigger"),
        "incident_key": key if service else f"event_source=host;host_name={host}",
        "description": f"{f'{service} on {host}' if service else host} is {state or 'in trouble'}",
        "client": "Nagios",
        "details": {
            "host": host,
            "severity": _SEVERITIES.get(state.upper(), "error"),
            **({"description": output} if output else {}),
            **fields,
        },
    }


KIND: Final = "pagerduty"

EVENTS: Final = "/v2/enqueue"
CHANGES: Final = "/v2/change/enqueue"
EVENTS_V1: Final = "/generic/2010-04-15/create_event.json"
EVENTS_NAGIOS: Final = "/nagios/2010-04-15/create_event"
PATHS: Final = (EVENTS, CHANGES, EVENTS_V1, EVENTS_NAGIOS)
_VERSION_1: Final = (EVENTS_V1, EVENTS_NAGIOS)

_ACTIONS: Final = ("trigger", "acknowledge", "resolve")
_PAGERDUTY_SEVERITIES: Final = ("critical", "error", "warning", "info")
_MAX_KEY: Final = 255

#: In PagerDuty's own words, which its clients show.
_FIELD_REQUIRED = Text("'{field}' is missing or blank")
_INVALID_EVENT = Text("Event object is invalid")

type PagerdutyEvent = dict[str, object]


async def handle(ingest_service: IngestService, scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Handles one event. Raises HttpError, which `error_response` renders in PagerDuty's format."""
    if scope["method"] != "POST":
        raise reasons.post_needed()
    body = await ingest_service.read_body(scope, receive)
    try:
        await _event(ingest_service, scope, body, send)
    finally:
        ingest_service.body_reader.release(len(body))


async def error_response(send: Send, error: HttpError) -> None:
    """Sends an error in PagerDuty's format. All PagerDuty clients retry 5xx."""
    is_own = error.status >= 500
    content = {"status": "error", "message": error.detail} if is_own else _invalid(error.detail)
    await send_response(send, error.status, msgspec.json.encode(content), headers=error.headers)


async def _event(ingest_service: IngestService, scope: AsgiScope, body: bytes, send: Send) -> None:
    headers = headers_of(scope)
    raw_body = body
    try:
        body = await ingest_service.decompress_body(headers, raw_body)
    except Rejected as rejected:
        raise HttpError(400, "invalid_event", rejected.reason) from None
    path: str = scope["path"]
    # Ignores the content type: clients send JSON as whatever they like.
    content_type = headers.get("content-type") if path == EVENTS_NAGIOS else None
    event = await asyncio.to_thread(_parse, body, content_type) if len(body) > LARGE else _parse(body, content_type)
    host = event.get("HOSTNAME")
    if path == EVENTS_NAGIOS:
        event = to_event(event)
    key_name = "service_key" if path in _VERSION_1 else "routing_key"
    token = event.pop(key_name, None) or headers.get("x-routing-key")
    if not isinstance(token, str) or not token:
        raise HttpError(400, "invalid_event", _FIELD_REQUIRED(field=key_name))
    integration = await _find_integration(ingest_service, token, key_name)
    credential_results = ingest_service.check_credentials(integration, scope, headers, raw_body)
    if path == CHANGES:
        # Change events have no event_action in PagerDuty's API.
        event["event_action"] = "change"
        problems = _problems_of_change(event)
    elif path == EVENTS_NAGIOS:
        problems = [] if host else [_FIELD_REQUIRED(field="HOSTNAME")]
    elif path == EVENTS_V1:
        problems = _problems_v1(event)
    else:
        problems = _problems(event)
    # The key as text, as the response contains it. A trigger without a key gets a unique one.
    field_name = "incident_key" if path in _VERSION_1 else "dedup_key"
    key = event[field_name] = _given_key(event, field_name) or uuid.uuid4().hex
    raw = msgspec.json.encode(event)
    problem = Rejected("invalid_event", joined(*problems)) if problems else None
    element = Element(None if problem else event, raw, problem=problem)
    ingest_result = await ingest_service.ingest(
        integration, [element], raw, stored_headers(headers, credential_results)
    )
    if problems:
        # The message is stored nevertheless and opens an alert about the problem, because something may well be wrong.
        await send_response(send, 400, msgspec.json.encode(_invalid(*map(str, problems))))
        return
    (stored,) = ingest_result.results
    if _action(event) == "acknowledge":
        if is_pending(ingest_result.results):
            raise HttpError(503, "not_stored", reasons.BEING_CHANGED(), RETRY)
        if stored.alert_id is not None:
            alert = FoundAlert.by_tocsin(stored.alert_id)
            await asyncio.to_thread(alert_commands.acknowledge, integration, alert, "", "", clock.now())
    await _send_accepted(send, path, key)


async def _find_integration(ingest_service: IngestService, token: str, key_name: str) -> CompiledIntegration:
    try:
        integration = await ingest_service.find_integration(token)
    except HttpError as error:
        if error.status != 404:
            raise
        integration = None
    if integration is None or integration.normalizer.kind.name != KIND:
        raise HttpError(400, "unknown_token", sentence("Invalid {field}", field=key_name.replace("_", " ")))
    return integration


async def _send_accepted(send: Send, path: str, key: str) -> None:
    if path == CHANGES:
        await send_response(send, 202, b'{"status":"success","message":"Change event processed"}')
        return
    name, status = ("incident_key", 200) if path in _VERSION_1 else ("dedup_key", 202)
    content = {"status": "success", "message": "Event processed", name: key}
    await send_response(send, status, msgspec.json.encode(content))


def _invalid(*errors: str) -> dict[str, object]:
    return {"status": "invalid event", "message": str(_INVALID_EVENT()), "errors": list(errors)}


def _parse(body: bytes, content_type: str | None) -> PagerdutyEvent:
    """Parses the body as one object, as JSON without a content type. Raises HttpError."""
    try:
        (element,) = decode(body, content_type, lenient=False).elements
    except (Rejected, ValueError) as error:
        reason = error.reason if isinstance(error, Rejected) else _INVALID_EVENT()
        raise HttpError(400, "invalid_event", reason) from None
    if element.payload is None:
        raise HttpError(400, "invalid_event", _INVALID_EVENT())
    return dict(element.payload)


def _given_key(event: PagerdutyEvent, name: str) -> str:
    return (text_of(event.get(name)) or "").strip()


def _action(event: PagerdutyEvent) -> str:
    action = event.get("event_action") or event.get("event_type")
    return action.lower() if isinstance(action, str) else ""


def _problems(event: PagerdutyEvent) -> list[Reason]:
    """Returns the errors that PagerDuty would report, in its words."""
    action = _action(event)
    if action not in _ACTIONS:
        return [sentence("'event_action' is invalid") if action else _FIELD_REQUIRED(field="event_action")]
    problems = _problem_with_key(event, "dedup_key", is_required=action != "trigger")
    if action != "trigger":
        return problems
    payload = event.get("payload")
    if not isinstance(payload, Mapping):
        return [*problems, _FIELD_REQUIRED(field="payload")]
    problems += [
        _FIELD_REQUIRED(field=f"payload.{name}")
        for name in ("summary", "source", "severity")
        if not str(payload.get(name) or "").strip()
    ]
    severity = payload.get("severity")
    if severity and str(severity).lower() not in _PAGERDUTY_SEVERITIES:
        problems.append(
            sentence(
                "'payload.severity' is invalid (must be one of the following: {severities})",
                severities=", ".join(_PAGERDUTY_SEVERITIES),
            )
        )
    return problems


def _problems_v1(event: PagerdutyEvent) -> list[Reason]:
    action = _action(event)
    if action not in _ACTIONS:
        return [sentence("Event type is invalid (must be one of the following: trigger, acknowledge or resolve)")]
    problems = _problem_with_key(event, "incident_key", is_required=action != "trigger")
    if action == "trigger" and not str(event.get("description") or "").strip():
        problems.append(sentence("Description is missing or blank"))
    return problems


def _problems_of_change(event: PagerdutyEvent) -> list[Reason]:
    payload = event.get("payload")
    if not isinstance(payload, Mapping) or not str(payload.get("summary") or "").strip():
        return [_FIELD_REQUIRED(field="payload.summary")]
    return []


def _problem_with_key(event: PagerdutyEvent, name: str, *, is_required: bool) -> list[Reason]:
    key = _given_key(event, name)
    if is_required and not key:
        return [_FIELD_REQUIRED(field=name)]
    return (
        [sentence("'{field}' is too long (maximum is {maximum} characters)", field=name, maximum=_MAX_KEY)]
        if len(key) > _MAX_KEY
        else []
    )
