"""Read side of the Opsgenie-compatible API: alerts and requests of the calling integration only. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.ids import uuid7
from tocsin.core.reasons import ReasonType, reason_from
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.body_compression import decompress
from tocsin.inbound.compat.opsgenie_commands import COMPLETED_TEXTS, OpsgenieAction
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.deciding.preprocessing import prepare
from tocsin.inbound.enums import HeartbeatHealth, IntegrationMode, MessageStatus
from tocsin.inbound.expressions.fields import text_of
from tocsin.inbound.heartbeats import schedule
from tocsin.inbound.http.ingest_service import HttpError
from tocsin.inbound.parsing.decode import Element

_UNKNOWN_TERM = ReasonType(
    "opsgenie.unknown_query_term",
    "The query “{term}” is not understood; known: status, alias, id, tinyId and priority, each with a colon.",
)
_NOT_A_NUMBER = ReasonType("opsgenie.not_a_number", "{name} must be a whole number.")

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
_FROM: Final = "FROM alerts_alert a LEFT JOIN people_user u ON u.id = a.owner_id"

_PRIORITIES: Final = {"critical": "P1", "high": "P2", "medium": "P3", "low": "P5"}

_OPEN: Final = sorted(ACTIVE | {AlertStatus.MERGED})


class _OpsgenieResponse(msgspec.Struct):
    action: str = ""


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
      (SELECT id FROM alerts_alert WHERE key_hash = %s AND holds_key),
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
        sql = f"SELECT count(*) AS n FROM alerts_alert a WHERE a.integration_id = %s {where}"
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
            "SELECT status, alert_id, source_id, received_at, reason_code, reason_data, raw "
            "FROM inbound_inboundmessage WHERE id = %s AND integration_id = %s AND status <> 'Mapping Failed'",
            (message_id, integration.id),
        )
    if row is None or row["status"] == MessageStatus.PENDING:
        return None
    verb = _verb(decompress(row["raw"]))
    action, completed_text = COMPLETED_TEXTS[verb]
    is_done = row["alert_id"] is not None
    rejection = str(reason_from(row["reason_code"], row["reason_data"]))
    failure_text = rejection if verb is OpsgenieAction.CREATE else "Alert does not exist"
    return {
        "success": is_done,
        "isSuccess": is_done,
        "action": action,
        "processedAt": _moment(row["received_at"]),
        "integrationId": str(integration.id),
        "status": completed_text if is_done else failure_text,
        "alertId": str(row["alert_id"]) if is_done else "",
        "alias": row["source_id"] if is_done else "",
    }


def _verb(raw: bytes) -> OpsgenieAction:
    """Returns the stored message's action; UPDATE for messages that did not come through this API."""
    try:
        return OpsgenieAction(msgspec.json.decode(raw, type=_OpsgenieResponse).action)
    except (msgspec.MsgspecError, ValueError):
        return OpsgenieAction.UPDATE


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
            "SELECT id, at, kind, actor_name, reason_code, reason_data, data FROM alerts_alertevent "
            f"WHERE alert_id = %s {kind} ORDER BY id DESC LIMIT %s",
            (alert["id"], _MAX_ROWS),
        )
    key = "note" if subresource == "notes" else "log"
    return [
        {
            key: event["data"].get("text", "")
            if subresource == "notes"
            else str(reason_from(event["reason_code"], event["reason_data"])),
            "owner": event["actor_name"],
            "createdAt": _moment(event["at"]),
            "offset": str(event["id"]),
            **({} if subresource == "notes" else {"type": event["kind"]}),
        }
        for event in events
    ]


def alert_summary(integration: CompiledIntegration, row: AlertRow) -> dict[str, object]:
    """Returns an alert as in list responses."""
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
    """Returns an alert with all details."""
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
    return HttpError(422, "invalid_query", _UNKNOWN_TERM(term=term[:80]))


def _number(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise HttpError(422, "invalid_query", _NOT_A_NUMBER(name=name))
    return min(int(text), maximum)


def _moment(at: datetime) -> str:
    """Formats as ISO 8601 in UTC with milliseconds."""
    return f"{at.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def heartbeat(integration: CompiledIntegration) -> dict[str, object]:
    """Returns a heartbeat integration as Opsgenie's API shows a heartbeat."""
    planned = schedule.parse_schedule(integration.settings)
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
