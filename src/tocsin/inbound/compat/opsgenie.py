"""Opsgenie-compatible Alert API v2 and heartbeat pings, authenticated by `Authorization: GenieKey TOKEN` with the token
of an integration of the kind `opsgenie`.

Responses and errors have that API's format; the request id is the message id.
https://docs.opsgenie.com/docs/alert-api
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import Any, Final
from urllib.parse import parse_qs, unquote
from uuid import UUID

import msgspec

from tocsin.alerts import service
from tocsin.alerts.commands import Assign, Command, Escalate, Hold, Reply, Unacknowledge, Unassign
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, AlertStatus, CommandChannel
from tocsin.alerts.store import WITH_OWNER, key_holder
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.net.asgi import AsgiScope, Receive, Send, send_response
from tocsin.core.reasons import Text, reason_from_json, sentence
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import sanitize
from tocsin.inbound import heartbeats, webhook_endpoint
from tocsin.inbound import ingest_service as reasons
from tocsin.inbound.compat import alert_commands
from tocsin.inbound.config.compiled_integration import CompiledIntegration, stored_headers
from tocsin.inbound.deciding.decide import prepare
from tocsin.inbound.enums import HeartbeatHealth, IntegrationMode, MessageStatus
from tocsin.inbound.fields import parse_moment, text_of
from tocsin.inbound.heartbeats import PingKind
from tocsin.inbound.ingest_service import RETRY, HttpError, IngestService, headers_of
from tocsin.inbound.models import decompress
from tocsin.inbound.parsing.decode import LARGE, Element, decode
from tocsin.inbound.processing.committer import is_pending

# ---------- actions: the message stored for each, and the command run after it is stored


class OpsgenieAction(StrEnum):
    """The values of a stored message's `action`, with Opsgenie's name and status text of one that was carried out."""

    api_name: str
    completed: str

    def __new__(cls, value: str, api_name: str, completed: str) -> OpsgenieAction:
        action = str.__new__(cls, value)
        action._value_, action.api_name, action.completed = value, api_name, completed
        return action

    CREATE = "create", "Create", "Created alert"
    CLOSE = "close", "Close", "Closed alert"
    DELETE = "delete", "Delete", "Deleted alert"
    ACKNOWLEDGE = "acknowledge", "Acknowledge", "Acknowledged alert"
    UNACKNOWLEDGE = "unacknowledge", "UnAcknowledge", "UnAcknowledged alert"
    SNOOZE = "snooze", "Snooze", "Snoozed alert"
    ESCALATE = "escalate", "EscalateToNext", "Escalated alert"
    ASSIGN = "assign", "Assign", "Assigned ownership"
    NOTE = "note", "AddNote", "Added note"
    RESPONDER = "responder", "AddResponder", "Added responder"
    TEAM = "team", "AddTeam", "Added team"
    UPDATE = "update", "Update", "Updated alert"
    TAGS = "tags", "AddTags", "Added tags"
    DETAILS = "details", "AddDetails", "Added details"
    ACTION = "action", "CustomAction", "Executed custom action"


#: Actions by method and last path segment.
ACTIONS_BY_PATH: Final[Mapping[tuple[str, str], OpsgenieAction]] = {
    ("POST", "acknowledge"): OpsgenieAction.ACKNOWLEDGE,
    ("POST", "unacknowledge"): OpsgenieAction.UNACKNOWLEDGE,
    ("POST", "close"): OpsgenieAction.CLOSE,
    ("POST", "snooze"): OpsgenieAction.SNOOZE,
    ("POST", "escalate"): OpsgenieAction.ESCALATE,
    ("POST", "assign"): OpsgenieAction.ASSIGN,
    ("POST", "responders"): OpsgenieAction.RESPONDER,
    ("POST", "teams"): OpsgenieAction.TEAM,
    ("POST", "notes"): OpsgenieAction.NOTE,
    **dict.fromkeys((("POST", "tags"), ("DELETE", "tags")), OpsgenieAction.TAGS),
    **dict.fromkeys((("POST", "details"), ("DELETE", "details")), OpsgenieAction.DETAILS),
    # POST is an older spelling of the same endpoints.
    **dict.fromkeys(product(("PUT", "POST"), ("message", "description", "priority")), OpsgenieAction.UPDATE),
}

#: Actions that add to or remove from the alert's existing values.
MERGED_ACTIONS: Final = frozenset({OpsgenieAction.TAGS, OpsgenieAction.DETAILS})

#: Actions that are carried out after the message is stored, on an alert that must be known by then.
COMMAND_ACTIONS: Final = frozenset(OpsgenieAction) - {
    *MERGED_ACTIONS,
    OpsgenieAction.CREATE,
    OpsgenieAction.CLOSE,
    OpsgenieAction.DELETE,
    OpsgenieAction.UPDATE,
}


def _text(value: object) -> str:
    return (text_of(value) or "").strip() if isinstance(value, str | int | float) else ""


def _name(value: object) -> str:
    if not isinstance(value, Mapping):
        return ""
    return next((name for key in ("username", "name", "id") if (name := _text(value.get(key)))), "")


#: The field that an action needs: its name in the message and in Opsgenie's own words, which its clients show.
_REQUIRED: Final[Mapping[OpsgenieAction, tuple[str, str, Callable[[object], object]]]] = {
    OpsgenieAction.CREATE: ("message", "Message", _text),
    OpsgenieAction.SNOOZE: ("endTime", "End time", parse_moment),
    OpsgenieAction.ASSIGN: ("owner", "Owner", _name),
    OpsgenieAction.NOTE: ("note", "Note", _text),
}


def message_payload(verb: OpsgenieAction, fields: Mapping[str, object]) -> dict[str, object]:
    """Returns the message to store for a request. Raises Rejected with the unusable field."""
    if verb in _REQUIRED:
        name, label, read = _REQUIRED[verb]
        if not read(fields.get(name)):
            raise Rejected("invalid_request", sentence("{field} can not be empty.", field=label), name)
    return {**fields, "action": verb.value}


def merge_with_alert(
    payload: Mapping[str, object], labels: list[str], details: Mapping[str, str], *, is_removal: bool
) -> dict[str, object]:
    """Returns the message with the alert's resulting tags or details. Removing the last of them has no effect."""
    merged = dict(payload)
    if payload["action"] == OpsgenieAction.TAGS:
        tags = _text_list(payload.get("tags"))
        remaining_tags = [label for label in labels if label not in tags]
        merged["tags"] = remaining_tags if is_removal else list(dict.fromkeys([*labels, *tags]))
    elif is_removal:
        removed_keys = _text_list(payload.get("keys"))
        merged["details"] = {name: value for name, value in details.items() if name not in removed_keys}
    else:
        new_details = payload.get("details")
        merged["details"] = {**details, **new_details} if isinstance(new_details, Mapping) else dict(details)
    return merged


def _text_list(value: object) -> list[str]:
    """Returns a list of texts; a string is split at commas, as in query parameters."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for item in items if (text := _text(item))]


def apply_verb(
    integration: CompiledIntegration,
    verb: OpsgenieAction,
    alert: FoundAlert,
    payload: Mapping[str, object],
    now: datetime,
) -> None:
    """Runs the command for what the message itself does not do to the alert."""
    user_name, note = _text(payload.get("user")), _text(payload.get("note"))
    user = alert_commands.user_of(integration, user_name)
    attributed_note = alert_commands.note_of(integration, note)
    given: dict[str, Any] = {"actor": user or integration.actor, "via": CommandChannel.INBOUND}
    command: Command
    match verb:
        case OpsgenieAction.ACKNOWLEDGE:
            alert_commands.acknowledge(integration, alert, user_name, note, now)
            return
        case OpsgenieAction.UNACKNOWLEDGE if user is not None:
            command = Unacknowledge(**given, note=attributed_note)
        case OpsgenieAction.UNACKNOWLEDGE:
            state = service.load_state(alert_commands.resolve_merged(alert))
            if state.owner_id is not None or not state.is_owned:
                return
            command = Unassign(**given, note=attributed_note)
        case OpsgenieAction.SNOOZE:
            until = parse_moment(payload.get("endTime"))
            assert until is not None
            command = Hold(**given, until=until, note=attributed_note)
        case OpsgenieAction.ESCALATE:
            command = Escalate(**given, note=attributed_note)
        case OpsgenieAction.ASSIGN:
            name = _name(payload.get("owner"))
            owner = alert_commands.user_of(integration, name)
            name, user_id = (owner.name, owner.user_id) if owner is not None else (name[:100], None)
            command = Assign(**given, name=name, user_id=user_id, note=attributed_note)
        case _:
            if verb in (OpsgenieAction.RESPONDER, OpsgenieAction.TEAM):
                responder = _name(payload.get("responder") or payload.get("team")) or "somebody"
                note = (
                    f"Asked for {responder} as well: whom an alert notifies is its escalation policy's choice. {note}"
                )
            elif verb is OpsgenieAction.ACTION:
                note = f"Asked for the action “{_text(payload.get('name'))}”, which is not carried out here. {note}"
            if not note.strip():
                return
            command = Reply(**given, text=note.strip()[:4000])
    alert_commands.apply(alert, command, now)


# ---------- queries: alerts and requests of the calling integration only

type AlertRow = Mapping[str, Any]

_MAX_ROWS: Final = 100

# Counts messages that opened or repeated the alert, not commands. Messages of closed alerts are pruned eventually.
_COLUMNS: Final = """
(SELECT greatest(1, count(*)) FROM inbound_inboundmessage m
 WHERE m.alert_id = a.id AND m.status IN ('Mapped Opened', 'Mapped Appended')) AS count,
a.id, a.status, a.priority, a.subject, a.long_text, a.source_id, a.opened_at, a.last_message_at, a.closed_at,
a.hold_until, a.owner_name, a.custom, a.tags, u.username AS owner,
EXISTS (SELECT 1 FROM alerts_acknowledgement k WHERE k.alert_id = a.id) AS acknowledged
"""
_FROM: Final = f"FROM {WITH_OWNER}"

_PRIORITIES: Final = {"critical": "P1", "high": "P2", "medium": "P3", "low": "P5"}

_OPEN: Final = sorted(ACTIVE | {AlertStatus.MERGED})


def find(integration: CompiledIntegration, identifier: str, identifier_type: str) -> AlertRow | None:
    """Finds an alert by id (the tiny id is the same) or by alias: the active alert, else the last one."""
    with database.transaction() as connection:
        if identifier_type == "alias":
            return _by_alias(connection, integration, identifier)
        if not identifier.isdecimal() or len(identifier) > 18:
            return None
        sql = f"SELECT {_COLUMNS} {_FROM} WHERE a.id = %s AND a.integration_id = %s"
        return database.row(connection, sql, (int(identifier), integration.id))


def _by_alias(connection: Connection, integration: CompiledIntegration, alias: str) -> AlertRow | None:
    """Finds the alert by the dedup key of a message with that alias: indexed, and without a time limit."""
    prepared = prepare(integration, Element({"action": "get", "alias": alias}, b"{}"), uuid7())
    sql = f"""
    SELECT {_COLUMNS} {_FROM} WHERE a.integration_id = %s AND a.id = COALESCE(
      {key_holder("%s")},
      (SELECT last_alert FROM inbound_dedupkey WHERE key_hash = %s))
    """
    return database.row(connection, sql, (integration.id, prepared.key_hash, prepared.key_hash))


def alerts(integration: CompiledIntegration, query: Mapping[str, str]) -> list[dict[str, object]]:
    """Lists one page of the integration's alerts, newest first by default."""
    where, values = _where(query)
    limit, offset = _number(query, "limit", 20, _MAX_ROWS), _number(query, "offset", 0, 20_000)
    order = "ASC" if query.get("order", "").lower() == "asc" else "DESC"
    sql = f"SELECT {_COLUMNS} {_FROM} WHERE a.integration_id = %s {where} ORDER BY a.id {order} LIMIT %s OFFSET %s"
    with database.transaction() as connection:
        rows = database.rows(connection, sql, (integration.id, *values, limit, offset))
    return [alert_summary(integration, row) for row in rows]


def count(integration: CompiledIntegration, query: Mapping[str, str]) -> dict[str, object]:
    """Counts the integration's alerts that match a query."""
    where, values = _where(query)
    with database.transaction() as connection:
        sql = f"SELECT count(*) AS n {_FROM} WHERE a.integration_id = %s {where}"
        row = database.row(connection, sql, (integration.id, *values))
    return {"count": row["n"] if row else 0}


def request_status(integration: CompiledIntegration, request_id: str) -> dict[str, object] | None:
    """Returns the outcome of a request; None if it is unknown or still pending."""
    try:
        message_id = UUID(request_id)
    except ValueError:
        return None
    with database.transaction() as connection:
        row = database.row(
            connection,
            "SELECT status, alert_id, source_id, received_at, reason, raw "
            "FROM inbound_inboundmessage WHERE id = %s AND integration_id = %s AND status <> 'Mapping Failed'",
            (message_id, integration.id),
        )
    if row is None or row["status"] == MessageStatus.PENDING:
        return None
    verb = _verb(decompress(row["raw"]))
    is_done = row["alert_id"] is not None
    rejection = str(reason_from_json(row["reason"]))
    failure_text = rejection if verb is OpsgenieAction.CREATE else "Alert does not exist"
    return {
        "success": is_done,
        "isSuccess": is_done,
        "action": verb.api_name,
        "processedAt": _moment(row["received_at"]),
        "integrationId": str(integration.id),
        "status": verb.completed if is_done else failure_text,
        "alertId": str(row["alert_id"]) if is_done else "",
        "alias": row["source_id"] if is_done else "",
    }


def _verb(raw: bytes) -> OpsgenieAction:
    """Returns the stored message's action; UPDATE for messages that did not come through this API."""
    try:
        action = str(msgspec.json.decode(raw)["action"])
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
        action = ""
    return next((verb for verb in OpsgenieAction if verb.value == action), OpsgenieAction.UPDATE)


def alert_entries(
    integration: CompiledIntegration, identifier: str, identifier_type: str, subresource: str
) -> list[dict[str, object]] | None:
    """Lists an alert's notes or log, newest first. Recipients are not disclosed. None for an unknown alert."""
    alert = find(integration, identifier, identifier_type)
    if alert is None:
        return None
    if subresource == "recipients":
        return []
    kind = "AND kind = 'replied'" if subresource == "notes" else ""
    with database.transaction() as connection:
        events = database.rows(
            connection,
            "SELECT id, at, kind, actor_name, reason, data FROM alerts_alertevent "
            f"WHERE alert_id = %s {kind} ORDER BY id DESC LIMIT %s",
            (alert["id"], _MAX_ROWS),
        )
    key = "note" if subresource == "notes" else "log"
    return [
        {
            key: event["data"].get("text", "") if subresource == "notes" else str(reason_from_json(event["reason"])),
            "owner": event["actor_name"],
            "createdAt": _moment(event["at"]),
            "offset": str(event["id"]),
            **({} if subresource == "notes" else {"type": event["kind"]}),
        }
        for event in events
    ]


def alert_summary(integration: CompiledIntegration, row: AlertRow) -> dict[str, object]:
    snoozed_until = row["hold_until"] if row["status"] == AlertStatus.ON_HOLD else None
    owner = row["owner"] or row["owner_name"]
    return {
        "id": str(row["id"]),
        "tinyId": str(row["id"]),
        "alias": row["source_id"],
        "message": row["subject"],
        "status": "open" if row["status"] in _OPEN else "closed",
        "acknowledged": bool(row["acknowledged"] or owner),
        "isSeen": bool(row["acknowledged"] or owner),
        "tags": labels(row),
        "snoozed": snoozed_until is not None,
        **({"snoozedUntil": _moment(snoozed_until)} if snoozed_until is not None else {}),
        "count": row["count"],
        "lastOccurredAt": _moment(row["last_message_at"]),
        "createdAt": _moment(row["opened_at"]),
        "updatedAt": _moment(row["closed_at"] or row["last_message_at"]),
        "source": row["custom"].get("sent_by", ""),
        "owner": owner,
        "priority": _PRIORITIES[row["priority"]],
        "responders": [],
        "integration": {"id": str(integration.id), "name": integration.name, "type": "API"},
    }


def full_alert(integration: CompiledIntegration, row: AlertRow) -> dict[str, object]:
    return {
        **alert_summary(integration, row),
        "actions": [],
        "entity": row["tags"].get("component_name", ""),
        "description": row["long_text"],
        "details": details(row),
    }


def labels(row: AlertRow) -> list[str]:
    """Returns the alert's tags as sent: plain words, whereas Tocsin's own tags have names."""
    return [label for label in row["custom"].get("labels", "").split(", ") if label]


def details(row: AlertRow) -> dict[str, str]:
    """Returns the alert's details by name."""
    custom = row["custom"]
    text = custom.get("properties") or custom.get("details", "")
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        # The integration has a custom mapping for details, or there are none.
        return {"details": text} if text else {}
    return {name: text_of(value) or "" for name, value in decoded.items()} if isinstance(decoded, dict) else {}


#: One term of a search query: `status:open`, `alias:"web 1"`.
_TERM: Final = re.compile(r'\s*(\w+)\s*[:=]\s*(?:"([^"]*)"|(\S+))\s*(?:and\b)?', re.IGNORECASE)


def _where(query: Mapping[str, str]) -> tuple[str, list[object]]:
    """Returns a search query as SQL. Raises HttpError for unknown terms: a wrong list would be worse than an error."""
    text, offset = sanitize(query.get("query", "")).strip(), 0
    where, values = "", list[object]()
    while offset < len(text):
        term = _TERM.match(text, offset)
        if term is None:
            raise _invalid_query(text[offset:])
        offset = term.end()
        name, value = term.group(1).lower(), term.group(2) if term.group(2) is not None else term.group(3)
        match name, value.lower():
            case "status", "open":
                where += " AND a.status = ANY(%s)"
                values.append(_OPEN)
            case "status", "closed":
                where += " AND NOT a.status = ANY(%s)"
                values.append(_OPEN)
            case "alias", _:
                where += " AND a.source_id = %s"
                values.append(value)
            case (("tinyid" | "id" | "alertid"), number) if number.isdecimal() and len(number) < 19:
                where += " AND a.id = %s"
                values.append(int(number))
            case "priority", level if level.upper() in _PRIORITIES.values():
                where += " AND a.priority = ANY(%s)"
                values.append([priority for priority, code in _PRIORITIES.items() if code == level.upper()])
            case _:
                raise _invalid_query(f"{name}:{value}")
    return where, values


def _invalid_query(term: str) -> HttpError:
    return HttpError(
        422,
        "invalid_query",
        sentence(
            "The query “{term}” is not understood; known: status, alias, id, tinyId and priority, each with a colon.",
            term=term[:80],
        ),
    )


def _number(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise HttpError(422, "invalid_query", sentence("{name} must be a whole number.", name=name))
    return min(int(text), maximum)


def _moment(at: datetime) -> str:
    """Formats as ISO 8601 in UTC with milliseconds."""
    return f"{at.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def show_heartbeat(integration: CompiledIntegration) -> dict[str, object]:
    """Returns a heartbeat integration as Opsgenie's API shows a heartbeat."""
    planned = heartbeats.parse_schedule(integration.settings)
    with database.transaction() as connection:
        row = database.row(
            connection, "SELECT health FROM inbound_heartbeat WHERE integration_id = %s", (integration.id,)
        )
    minutes, seconds = divmod(int(planned.interval.total_seconds()), 60)
    return {
        "name": integration.name,
        "description": str(planned.description),
        # Opsgenie has no shorter unit.
        "interval": max(1, minutes + bool(seconds)),
        "intervalUnit": "minutes",
        "enabled": integration.mode is not IntegrationMode.DISABLED,
        "expired": row is not None and row["health"] == HeartbeatHealth.LATE,
    }


KIND: Final = "opsgenie"

_ALERTS: Final = "/v2/alerts"
_HEARTBEATS: Final = "/v2/heartbeats"
PREFIXES: Final = (_ALERTS, _HEARTBEATS)

_SCHEME: Final = "geniekey"
_MAX_ALIAS: Final = 512

_UNAUTHENTICATED = Text("Could not authenticate")
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


async def _handle_query(request: OpsgenieRequest, send: Send) -> None:
    match request.path_segments:
        case []:
            data: object = await asyncio.to_thread(alerts, request.integration, request.query)
        case ["count"]:
            data = await asyncio.to_thread(count, request.integration, request.query)
        case ["requests", request_id]:
            data = await asyncio.to_thread(request_status, request.integration, request_id)
        case [identifier]:
            alert = await asyncio.to_thread(find, request.integration, identifier, _identifier_type(request))
            data = None if alert is None else full_alert(request.integration, alert)
        case [identifier, ("notes" | "logs" | "recipients") as subresource]:
            data = await asyncio.to_thread(
                alert_entries, request.integration, identifier, _identifier_type(request), subresource
            )
        case _:
            raise _no_such_path()
    if data is None:
        raise HttpError(404, "not_found", sentence("Alert does not exist"))
    await _respond(request, send, 200, {"data": data})


async def _handle_command(ingest_service: IngestService, request: OpsgenieRequest, body: bytes, send: Send) -> None:
    credential_results = ingest_service.check_credentials(request.integration, request.scope, request.headers, body)
    try:
        body = await ingest_service.decompress_body(request.headers, body)
    except Rejected as rejected:
        raise _not_processable(rejected) from None
    verb, identifier, query_fields = _verb_opsgenie(request)
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
        payload = message_payload(verb, {**fields, **query_fields})
    except Rejected as rejected:
        payload, problem = {**fields, **query_fields, "action": verb.value}, rejected
    if verb in MERGED_ACTIONS and identifier is not None and problem is None:
        current_alert = await asyncio.to_thread(find, request.integration, identifier, _identifier_type(request))
        if current_alert is not None:
            is_removal = request.method == "DELETE"
            current_values = (labels(current_alert), details(current_alert))
            payload = merge_with_alert(payload, *current_values, is_removal=is_removal)
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
    if is_pending(ingest_result.results) and verb in COMMAND_ACTIONS:
        raise HttpError(503, "not_stored", reasons.BEING_CHANGED(), RETRY)
    alert_id = ingest_result.results[0].alert_id
    if alert_id is not None:
        alert = FoundAlert.by_tocsin(alert_id)
        await asyncio.to_thread(apply_verb, request.integration, verb, alert, payload, clock.now())
    await _respond(request, send, 202, {"result": "Request will be processed"})


def _verb_opsgenie(request: OpsgenieRequest) -> tuple[OpsgenieAction, str | None, dict[str, object]]:
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
            verb = ACTIONS_BY_PATH.get((request.method, segment))
            if verb is not None:
                return verb, identifier, query_fields if request.method == "DELETE" else {}
    raise _no_such_path()


async def _alias(request: OpsgenieRequest, identifier: str) -> str | None:
    if _identifier_type(request) == "alias":
        return identifier
    alert = await asyncio.to_thread(find, request.integration, identifier, _identifier_type(request))
    return None if alert is None else str(alert["source_id"])


def _payload(body: bytes) -> dict[str, object]:
    """Parses the body as one JSON object, ignoring the content type. Raises Rejected."""
    if not body.strip():
        return {}
    elements = decode(body, None, lenient=False).elements
    if len(elements) != 1 or elements[0].payload is None:
        raise Rejected("invalid_json", sentence("send one object."))
    return dict(elements[0].payload)


def _not_processable(rejected: Rejected) -> HttpError:
    return HttpError(
        422, "invalid_request", sentence("Request body is not processable: {problem}", problem=rejected.reason)
    )


async def _handle_ping(ingest_service: IngestService, request: OpsgenieRequest, send: Send) -> None:
    match request.method, request.path_segments:
        case "GET", [name]:
            heartbeat = _heartbeat(ingest_service, request.integration, name)
            if heartbeat is None:
                raise HttpError(404, "not_found", sentence("Heartbeat does not exist"))
            data = await asyncio.to_thread(show_heartbeat, heartbeat)
            await _respond(request, send, 200, {"data": data})
        case (("GET" | "POST" | "PUT" | "PATCH"), [name, "ping"]):
            heartbeat = _heartbeat(ingest_service, request.integration, name)
            if heartbeat is not None:
                ingest_result = await webhook_endpoint.record_ping(ingest_service, heartbeat, PingKind.BEAT, None, {})
                request.request_id = ingest_result.incoming[0].id
            # Opsgenie answers the same for an unknown heartbeat.
            await _respond(request, send, 202, {"result": "PONG - Heartbeat received"})
        case _:
            raise _no_such_path()


def _heartbeat(
    ingest_service: IngestService, integration: CompiledIntegration, name: str
) -> CompiledIntegration | None:
    """Returns the heartbeat integration with that name, or the one that the token belongs to."""
    if integration.normalizer.kind.name == heartbeats.KIND:
        return integration
    if integration.normalizer.kind.name != KIND:
        raise HttpError(401, "unauthenticated", _UNAUTHENTICATED())
    integrations = ingest_service.registry.get_all().values()
    matching = (
        candidate
        for candidate in integrations
        if candidate.normalizer.kind.name == heartbeats.KIND and candidate.name.casefold() == name.casefold()
    )
    return next(matching, None) if integration.settings.get("pings", True) else None


def _identifier_type(request: OpsgenieRequest) -> str:
    return request.query.get("identifierType", "id").lower()


def _no_such_path() -> HttpError:
    return HttpError(404, "not_found", sentence("No such path: Tocsin speaks the Alert API v2 and heartbeat pings."))


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
