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
from tocsin.outbound import alert_values
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
    told = [one for change in changes for one in update_for(change)]
    opened = _opened(connection, changes)
    if not told and not opened:
        return
    ids = sorted({one.alert_id for one in told} | opened)
    alerts = {row["id"]: row for row in database.rows(connection, _ALERTS, (ids,))}
    if not alerts:
        return
    made = _tickets_to_make(connection, alerts, told, opened)
    _try_again(connection, alerts, told, now)
    calls = [*made.values(), *_writes(connection, alerts, told, frozenset(made))]
    queue(connection, calls, now)


def _opened(connection: Connection, changes: Sequence[AlertChange]) -> set[int]:
    """The newly opened alerts that need a ticket in Halo."""
    openings = [change for change in changes if change.before is None and change.integration_id is not None]
    begin_to_page = {change.alert_id for change in changes if change.before is not None and change.is_opening}
    if not openings:
        return begin_to_page
    makers = _makers.current(connection)
    return begin_to_page | {change.alert_id for change in openings if change.integration_id in makers}


@dataclass(slots=True)
class _TicketCreators:
    """A cache of the inbound integrations whose new alerts get a ticket.

    Refreshed at most once a second, so that ingestion does not query it with every batch.
    """

    url: str = ""
    read_at: float = float("-inf")
    ids: frozenset[int] = frozenset()

    def current(self, connection: Connection) -> frozenset[int]:
        """The ids of these integrations."""
        at, url = time.monotonic(), database.url()
        if url != self.url or at - self.read_at >= 1.0:
            ids = frozenset(
                row[0] for row in connection.execute(_MAKES_TICKETS, ([*family(writeback_settings.KIND)],)).fetchall()
            )
            self.url, self.read_at, self.ids = url, at, ids
        return self.ids


_makers = _TicketCreators()


def _tickets_to_make(
    connection: Connection, alerts: Mapping[int, Mapping[str, Any]], told: Sequence[AlertUpdate], opened: set[int]
) -> dict[int, NewCall]:
    """The calls that create tickets, by alert id. The link row guarantees at most one per alert."""
    happened = {(one.alert_id, one.event.value) for one in told if one.is_whole}
    happened |= {(number, "opened") for number in opened}
    wanted = [
        row
        for row in alerts.values()
        if row["inbound_kind"] not in family(writeback_settings.KIND)
        and row["linked"] is None
        and any((row["id"], event) in happened for event in row["settings"].get("create_ticket", {}).get("on", ()))
    ]
    if not wanted:
        return {}
    known = alert_values.load_alert_values(connection, [row["id"] for row in wanted])
    return ticket_creation.make(connection, {row["id"]: (row["outbound_id"], row["settings"]) for row in wanted}, known)


def _try_again(
    connection: Connection, alerts: Mapping[int, Mapping[str, Any]], told: Sequence[AlertUpdate], now: datetime
) -> None:
    """Retries a failed ticket creation when something else happens on the alert."""
    happened = {one.alert_id for one in told}
    ended: dict[int, list[int]] = {}
    for row in alerts.values():
        if row["id"] in happened and row["linked"] == "" and row["making"] in (None, CallStatus.DEAD):
            ended.setdefault(row["outbound_id"], []).append(row["id"])
    for number, ids in sorted(ended.items()):
        ticket_creation.retry_creation(connection, number, now, alert_ids=ids)


def _writes(
    connection: Connection, alerts: Mapping[int, Mapping[str, Any]], told: Sequence[AlertUpdate], made: frozenset[int]
) -> list[NewCall]:
    wanted = [one for one in told if one.alert_id in alerts and _has_ticket(alerts[one.alert_id], made)]
    if not wanted:
        return []
    ids = sorted({one.alert_id for one in wanted})
    pages: dict[int, dict[str, int]] = {}
    for number, channel, count in connection.execute(_PAGES, (ids,)).fetchall():
        pages.setdefault(number, {})[channel] = count
    found = (_write(alerts[one.alert_id], one, pages.get(one.alert_id, {})) for one in wanted)
    return [call for call in found if call is not None]


def _has_ticket(row: Mapping[str, Any], made: frozenset[int]) -> bool:
    if row["inbound_kind"] in family(writeback_settings.KIND):
        return bool(row["source_id"])
    # An alert whose ticket a person dropped gets no notes either.
    return row["id"] in made or (row["linked"] is not None and row["making"] != CallStatus.DROPPED)


def _write(row: Mapping[str, Any], told: AlertUpdate, pages: Mapping[str, int]) -> NewCall | None:
    """The call that writes the update, or None if the integration writes nothing for it."""
    settings = row["settings"]
    wanted = writeback_settings.write_of(settings, told.event)
    if not wanted.does_anything:
        return None
    zone = settings.get("time_zone") or row["time_zone"] or "UTC"
    known = {
        "who": told.who,
        "time": writeback_settings.clock_text(told.at, zone),
        "after": writeback_settings.after_text(pages)
        if told.event in (OutboundEvent.ACKNOWLEDGE, OutboundEvent.ASSIGN, OutboundEvent.CLOSE)
        else "",
        "alert": row["id"],
        "subject": row["subject"],
        **told.values,
    }
    if isinstance(until := known.get("until"), datetime):
        known["until"] = writeback_settings.clock_text(until, zone)
    content: dict[str, object] = {"event": told.event.value, "who_user": told.who_id}
    if wanted.note:
        content |= {"note": writeback_settings.note_text(told.text or wanted.note, known), "public": wanted.is_public}
    if wanted.agent and told.sets_agent:
        content["agent"] = {"user": told.agent_id, "name": told.agent_name}
    if told.is_whole:
        parts = (("status", wanted.status), ("team", wanted.team), ("priority", wanted.priority))
        content |= {key: text for key, text in parts if text}
    if content.keys() <= {"event", "who_user"}:
        return None
    is_own = row["inbound_kind"] in family(writeback_settings.KIND)
    ticket = row["source_id"] if is_own else row["linked"] or ""
    said = str(content.get("note") or f"{told.event.value}, by {told.who}")
    return NewCall(
        row["outbound_id"],
        f"ticket:{ticket}" if is_own else f"alert:{row['id']}",
        "write",
        said,
        alert_id=row["id"],
        ticket=ticket,
        content=content,
    )
