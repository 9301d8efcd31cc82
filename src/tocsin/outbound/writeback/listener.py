"""Reacts to alert changes in their transaction by queueing writes to tickets. Sends nothing.

Alerts of samples, and of integrations in dry-run mode, are never written about.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.alerts.change_handlers import AlertChange
from tocsin.catalogue.kinds import family
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Term, as_reason
from tocsin.outbound import alert_values, reasons
from tocsin.outbound.connectors.haloitsm import writeback_settings
from tocsin.outbound.delivery import ticket_creation
from tocsin.outbound.delivery.queue import NewCall, queue
from tocsin.outbound.states import CallStatus, OutboundEvent
from tocsin.outbound.writeback.alert_updates import AlertUpdate, update_for

_ALERTS = """
SELECT a.id, a.source_id, a.subject, i.kind AS inbound_kind, o.id AS outbound_id, o.settings, l.ticket AS linked,
       c.status AS making,
       (SELECT value #>> '{}' FROM core_setting WHERE name = 'time_zone') AS time_zone
FROM alerts_alert a
JOIN inbound_integration i ON i.id = a.integration_id
JOIN outbound_outboundintegration o ON o.id = i.outbound_id AND o.is_enabled AND o.kind = 'haloitsm'
LEFT JOIN outbound_ticketlink l ON l.integration_id = o.id AND l.alert_id = a.id
LEFT JOIN LATERAL (
  SELECT e.status FROM outbound_call e
  WHERE e.alert_id = a.id AND e.integration_id = o.id AND e.action = 'create' ORDER BY e.id DESC LIMIT 1
) AS c ON l.ticket = ''
WHERE a.id = ANY(%s) AND NOT a.dry_run AND NOT a.is_test ORDER BY a.id
"""

_MAKES_TICKETS = """
SELECT i.id FROM inbound_integration i
JOIN outbound_outboundintegration o ON o.id = i.outbound_id AND o.is_enabled AND o.kind = 'haloitsm'
WHERE i.kind <> ALL(%s) AND o.settings -> 'create_ticket' -> 'on' ? 'opened'
"""

_PAGES = """
SELECT alert_id, channel, count(*) FROM notify_delivery
WHERE alert_id = ANY(%s) AND purpose = 'page' AND status IN ('sent', 'delivered') GROUP BY alert_id, channel
"""


def follow(connection: Connection, changes: Sequence[AlertChange], now: datetime) -> None:
    """The change handler. New alerts cost at most one small query a second, and more only if they get tickets."""
    updates = [update for change in changes for update in update_for(change)]
    opened_ids = _newly_opened(connection, changes)
    if not updates and not opened_ids:
        return
    ids = sorted({update.alert_id for update in updates} | opened_ids)
    alerts = {row["id"]: row for row in database.rows(connection, _ALERTS, (ids,))}
    if not alerts:
        return
    creations = _ticket_creations(connection, alerts, updates, opened_ids)
    _retry_creation(connection, alerts, updates, now)
    calls = [*creations.values(), *_writes(connection, alerts, updates, frozenset(creations))]
    queue(connection, calls, now)


def _newly_opened(connection: Connection, changes: Sequence[AlertChange]) -> set[int]:
    """The newly opened alerts that need a ticket in Halo."""
    new_alerts = [change for change in changes if change.before is None and change.integration_id is not None]
    paging_ids = {change.alert_id for change in changes if change.before is not None and change.is_opening}
    if not new_alerts:
        return paging_ids
    creator_ids = _ticket_creators.current_ids(connection)
    return paging_ids | {change.alert_id for change in new_alerts if change.integration_id in creator_ids}


@dataclass(slots=True)
class _TicketCreators:
    """A cache of the inbound integrations whose new alerts get a ticket.

    Refreshed at most once a second, so that ingestion does not query it with every batch.
    """

    url: str = ""
    read_at: float = float("-inf")
    ids: frozenset[int] = frozenset()

    def current_ids(self, connection: Connection) -> frozenset[int]:
        """The ids of these integrations."""
        at, url = time.monotonic(), database.url()
        if url != self.url or at - self.read_at >= 1.0:
            ids = frozenset(
                row[0] for row in connection.execute(_MAKES_TICKETS, ([*family(writeback_settings.KIND)],)).fetchall()
            )
            self.url, self.read_at, self.ids = url, at, ids
        return self.ids


_ticket_creators = _TicketCreators()


def _ticket_creations(
    connection: Connection,
    alerts: Mapping[int, Mapping[str, Any]],
    updates: Sequence[AlertUpdate],
    opened_ids: set[int],
) -> dict[int, NewCall]:
    """The calls that create tickets, by alert id. The link row guarantees at most one per alert."""
    occurred = {(update.alert_id, update.event.value) for update in updates if update.sets_fields}
    occurred |= {(alert_id, "opened") for alert_id in opened_ids}
    rows = [
        row
        for row in alerts.values()
        if row["inbound_kind"] not in family(writeback_settings.KIND)
        and row["linked"] is None
        and any((row["id"], event) in occurred for event in row["settings"].get("create_ticket", {}).get("on", ()))
    ]
    if not rows:
        return {}
    values = alert_values.load_alert_values(connection, [row["id"] for row in rows])
    return ticket_creation.first_creation_calls(
        connection, {row["id"]: (row["outbound_id"], row["settings"]) for row in rows}, values
    )


def _retry_creation(
    connection: Connection, alerts: Mapping[int, Mapping[str, Any]], updates: Sequence[AlertUpdate], now: datetime
) -> None:
    """Retries a failed ticket creation when something else happens on the alert."""
    alert_ids = {update.alert_id for update in updates}
    failed: dict[int, list[int]] = {}
    for row in alerts.values():
        if row["id"] in alert_ids and row["linked"] == "" and row["making"] in (None, CallStatus.DEAD):
            failed.setdefault(row["outbound_id"], []).append(row["id"])
    for integration_id, ids in sorted(failed.items()):
        ticket_creation.retry_creation(connection, integration_id, now, alert_ids=ids)


def _writes(
    connection: Connection,
    alerts: Mapping[int, Mapping[str, Any]],
    updates: Sequence[AlertUpdate],
    created_ids: frozenset[int],
) -> list[NewCall]:
    writable = [
        update for update in updates if update.alert_id in alerts and _has_ticket(alerts[update.alert_id], created_ids)
    ]
    if not writable:
        return []
    ids = sorted({update.alert_id for update in writable})
    pages: dict[int, dict[str, int]] = {}
    for alert_id, channel, count in connection.execute(_PAGES, (ids,)).fetchall():
        pages.setdefault(alert_id, {})[channel] = count
    calls = (_write(alerts[update.alert_id], update, pages.get(update.alert_id, {})) for update in writable)
    return [call for call in calls if call is not None]


def _has_ticket(row: Mapping[str, Any], created_ids: frozenset[int]) -> bool:
    if row["inbound_kind"] in family(writeback_settings.KIND):
        return bool(row["source_id"])
    # An alert whose ticket a person dropped gets no notes either.
    return row["id"] in created_ids or (row["linked"] is not None and row["making"] != CallStatus.DROPPED)


def _write(row: Mapping[str, Any], update: AlertUpdate, pages: Mapping[str, int]) -> NewCall | None:
    """The call that writes the update, or None if the integration writes nothing for it."""
    settings = row["settings"]
    writeback = writeback_settings.get_writeback(settings, update.event)
    if not writeback.has_changes:
        return None
    zone = settings.get("time_zone") or row["time_zone"] or "UTC"
    values = {
        "who": update.actor_name,
        "time": writeback_settings.clock_text(update.at, zone),
        "after": writeback_settings.after_text(pages)
        if update.event in (OutboundEvent.ACKNOWLEDGE, OutboundEvent.ASSIGN, OutboundEvent.CLOSE)
        else "",
        "alert": row["id"],
        "subject": row["subject"],
        **update.values,
    }
    if isinstance(until := values.get("until"), datetime):
        values["until"] = writeback_settings.clock_text(until, zone)
    content: dict[str, object] = {"event": update.event.value, "who_user": update.user_id}
    if writeback.note:
        content |= {
            "note": writeback_settings.note_text(update.text or writeback.note, values),
            "public": writeback.is_public,
        }
    if writeback.should_assign and update.sets_agent:
        content["agent"] = {"user": update.agent_id, "name": update.agent_name}
    if update.sets_fields:
        parts = (("status", writeback.status), ("team", writeback.team), ("priority", writeback.priority))
        content |= {key: text for key, text in parts if text}
    if content.keys() <= {"event", "who_user"}:
        return None
    is_halo_alert = row["inbound_kind"] in family(writeback_settings.KIND)
    ticket = row["source_id"] if is_halo_alert else row["linked"] or ""
    note = str(content.get("note") or "")
    description = as_reason(note) or reasons.UPDATE_TICKET(event=Term(update.event.value), user=update.actor_name)
    return NewCall(
        row["outbound_id"],
        f"ticket:{ticket}" if is_halo_alert else f"alert:{row['id']}",
        "write",
        description,
        alert_id=row["id"],
        ticket=ticket,
        content=content,
    )
