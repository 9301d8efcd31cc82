"""Write-back of alert changes to tickets, and recognition of Tocsin's own writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.access.audit import AuditActor
from tocsin.alerts.commands import (
    Acknowledge,
    AlertChange,
    Assign,
    Cancel,
    Close,
    Command,
    Escalate,
    ExpireAcknowledgement,
    Hold,
    Merge,
    NewEvent,
    Reopen,
    Reply,
    Resume,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.models import Alert
from tocsin.alerts.service import VisibleAlert
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind
from tocsin.alerts.store import WITH_INTEGRATION
from tocsin.catalogue.desks import ticket_kinds
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.net.egress import HttpClient
from tocsin.core.reasons import Term, as_reason, sentence
from tocsin.core.validation import inputs
from tocsin.inbound.deciding.state import RecentWrites
from tocsin.outbound import commands, reasons
from tocsin.outbound.connectors import tickets
from tocsin.outbound.connectors.interfaces import CallJob, RecordedClient
from tocsin.outbound.delivery import queue
from tocsin.outbound.delivery.dispatcher import prepare_writes
from tocsin.outbound.delivery.queue import NewCall
from tocsin.outbound.delivery.queue import queue as queue_queue
from tocsin.outbound.delivery.results import KINDS, ActiveIntegration
from tocsin.outbound.models import Call, OutboundIntegration, TicketLink
from tocsin.outbound.states import ENDED, CallStatus, OutboundEvent

# ---------- recent writes
# Tocsin's recent and pending writes to tickets, so that their echoes are never taken for somebody's action.
#
# Works in the caller's transaction.


#: After this time, a write's echo is no longer expected.
REMEMBER_FOR = timedelta(minutes=15)

_WRITES = """
SELECT c.integration_id, c.ticket, c.id, c.status, c.queued_at, c.wrote, c.is_echoed, c.content ? 'agent' AS has_agent,
       c.content ? 'status' AS has_status, c.progress ? 'fields' AS has_fields, c.is_uncertain,
       c.progress ? 'status' AS was_status_set,
       coalesce(s.poll_state ->> 'me', '') AS me
FROM unnest(%(integrations)s::bigint[], %(tickets)s::text[]) AS w(integration_id, ticket)
JOIN outbound_call c ON c.integration_id = w.integration_id AND c.ticket = w.ticket AND c.ticket <> ''
LEFT JOIN outbound_integrationstatus s ON s.integration_id = c.integration_id
WHERE c.status IN ('queued', 'sending') OR (c.ended_at > %(since)s AND (c.status = 'sent'
      OR (c.status IN ('dead', 'dropped') AND c.progress ?| ARRAY['note', 'fields', 'status'])))
ORDER BY c.id
"""


@dataclass(slots=True)
class _WriteCollector:
    own_agent_id: str = ""
    agents: dict[str, int] = field(default_factory=dict)
    agents_before: set[str] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)
    priorities: dict[str, int] = field(default_factory=dict)
    teams: dict[str, int] = field(default_factory=dict)
    recent_statuses: set[str] = field(default_factory=set)
    pending_ids: set[int] = field(default_factory=set)
    is_agent_pending: bool = False
    is_status_pending: bool = False
    agent_at: datetime | None = None
    status_at: datetime | None = None


def load_recent_writes(
    connection: Connection, tickets: Sequence[tuple[int, str]], now: datetime
) -> Mapping[tuple[int, str], RecentWrites]:
    """The writes by (integration id, ticket); a ticket without writes has no entry."""
    parameters = {
        "integrations": [integration_id for integration_id, _ in tickets],
        "tickets": [ticket for _, ticket in tickets],
        "since": now - REMEMBER_FOR,
    }
    collectors: dict[tuple[int, str], _WriteCollector] = {}
    for row in database.rows(connection, _WRITES, parameters):
        _collect(collectors.setdefault((row["integration_id"], row["ticket"]), _WriteCollector()), row)
    return {
        key: RecentWrites(
            collector.agents,
            collector.statuses,
            collector.is_agent_pending,
            collector.is_status_pending,
            collector.agent_at,
            collector.status_at,
            collector.priorities,
            collector.teams,
            frozenset(collector.pending_ids),
            frozenset(collector.recent_statuses),
            collector.own_agent_id,
            frozenset(collector.agents_before),
        )
        for key, collector in collectors.items()
    }


def _collect(collector: _WriteCollector, row: Mapping[str, Any]) -> None:
    collector.own_agent_id = row["me"]
    has_failed = row["status"] in ("dead", "dropped")
    # A failed call has set only the fields of its completed steps.
    no_fields, no_status = has_failed and not row["has_fields"], has_failed and not row["was_status_set"]
    written = {
        name: value for name, value in row["wrote"].items() if not (no_status if name == "status" else no_fields)
    }
    if row["has_agent"] and not no_fields:
        collector.agent_at = row["queued_at"]
    if row["has_status"] and not no_status:
        collector.status_at = row["queued_at"]
    if row["status"] in ("queued", "sending"):
        if not row["has_fields"]:
            collector.pending_ids.add(row["id"])
        collector.is_agent_pending |= row["has_agent"]
        collector.is_status_pending |= row["has_status"]
    if "status" in written:
        collector.recent_statuses.add(written["status"].casefold())
    if row["is_echoed"]:
        return
    # If the same value was written twice, the later write is matched.
    if "agent" in written:
        collector.agents[written["agent"]] = row["id"]
        collector.agents_before.add(written.get("agent_before", written["agent"]))
    if "status" in written:
        collector.statuses[written["status"].casefold()] = row["id"]
    if row["status"] == "queued" and not row["has_fields"] and not row["is_uncertain"]:
        # It was attempted, and its fields were not set.
        return
    # A message contains a priority's name, or only its number.
    collector.priorities |= {text.casefold(): row["id"] for text in written.get("priority", ())}
    if "team" in written:
        collector.teams[written["team"].casefold()] = row["id"]


def mark_echoed(connection: Connection, call_ids: Sequence[int]) -> None:
    """Marks these writes as echoed, and all earlier ones to the same tickets."""
    connection.execute(
        "UPDATE outbound_call c SET is_echoed = true FROM outbound_call w WHERE w.id = ANY(%s) "
        "AND c.integration_id = w.integration_id AND c.ticket = w.ticket AND c.ticket <> '' AND c.id <= w.id "
        "AND c.status IN ('sending', 'sent', 'dead', 'dropped') AND NOT c.is_echoed",
        (list(call_ids),),
    )


# ---------- alert updates
# Selects which alert changes other systems are notified of: the event, who caused it, and values for the note. Pure.
#
# Changes caused by the other system itself are never sent back to it.


#: Channels through which the other system's own changes arrive.
_EXTERNAL_CHANNELS = frozenset({CommandChannel.INBOUND, CommandChannel.HALO})


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """One update for other systems."""

    alert_id: int
    event: OutboundEvent
    actor_name: str
    at: datetime
    #: The user who caused it, if any.
    user_id: int | None = None
    #: Replaces the integration's own text when the event is a variation, such as unassigning.
    text: str = ""
    #: Whether status, team and priority are set too; not for a variation.
    sets_fields: bool = True
    #: Whether the ticket's agent changes: to this user, to this name, or, without both, to unassigned.
    sets_agent: bool = False
    agent_id: int | None = None
    agent_name: str = ""
    #: Values for the note.
    values: Mapping[str, object] = field(default_factory=dict)


def update_for(change: AlertChange) -> Iterator[AlertUpdate]:
    """The updates from one change."""
    if change.before is None or change.after.is_test:
        return
    if change.command is None:
        yield from _engine_updates(change)
    elif change.command.via not in _EXTERNAL_CHANNELS and change.command.actor.kind is not ActorKind.INTEGRATION:
        update = _command_update(change, change.command)
        if update is not None:
            yield update


def _engine_updates(change: AlertChange) -> Iterator[AlertUpdate]:
    """Updates from the escalation engine: a further step, or exhaustion."""
    for event in change.events:
        if event.via is not CommandChannel.POLICY:
            continue
        if event.kind is EventKind.ESCALATION_EXHAUSTED:
            yield _engine_update(OutboundEvent.EXHAUSTED, event)
        elif event.kind is EventKind.STEP_FIRED:
            # Not the first step of the first pass, and not one that was requested: the user's own command covers that.
            is_first = (event.data.get("step"), event.data.get("pass")) == (1, 1)
            if not is_first and not event.data.get("requested"):
                yield _engine_update(OutboundEvent.ESCALATE, event)


def _engine_update(kind: OutboundEvent, event: NewEvent) -> AlertUpdate:
    return AlertUpdate(event.alert_id, kind, "Tocsin", event.at, values={"what": str(event.reason)})


def _command_update(change: AlertChange, command: Command) -> AlertUpdate | None:
    after, actor = change.after, command.actor
    at = change.events[-1].at if change.events else None
    if at is None:
        return None
    reason = str(change.events[0].reason)
    note = _sentence(str(command.note))

    def make_update(event: OutboundEvent, text: str = "", *, sets_agent: bool = False, **values: object) -> AlertUpdate:
        return AlertUpdate(
            change.alert_id, event, actor.name, at, actor.user_id, text, not text, sets_agent,
            values={"what": reason, "note": note, "owner": after.owner_name, **values},
        )  # fmt: skip

    match command:
        case Acknowledge():
            update = make_update(OutboundEvent.ACKNOWLEDGE, sets_agent=not after.is_owned)
            return replace(update, agent_id=actor.user_id, agent_name=actor.name)
        case Unacknowledge():
            return make_update(OutboundEvent.ACKNOWLEDGE, "<who> unacknowledged this at <time>.<note>")
        case ExpireAcknowledgement():
            return make_update(OutboundEvent.ACKNOWLEDGE, "<what>")
        case Assign():
            is_self_assigned = command.user_id is not None and command.user_id == actor.user_id
            text = "" if is_self_assigned else "<who> assigned this to <owner> at <time>.<note>"
            update = make_update(OutboundEvent.ASSIGN, text, sets_agent=True)
            return replace(update, sets_fields=True, agent_id=after.owner_id, agent_name=after.owner_name)
        case Unassign():
            return make_update(OutboundEvent.ASSIGN, "<who> unassigned this at <time>.<note>", sets_agent=True)
        case Escalate():
            update = make_update(OutboundEvent.ESCALATE, "<who> escalated this at <time>.<note>")
            return replace(update, sets_fields=True)
        case Reply():
            return make_update(OutboundEvent.REPLY, said=command.text)
        case Hold():
            return make_update(OutboundEvent.HOLD, until=command.until)
        case Resume():
            return make_update(OutboundEvent.HOLD, "<who> ended the snooze at <time>.<note>")
        case Close():
            return make_update(OutboundEvent.CLOSE)
        case Cancel():
            update = make_update(OutboundEvent.CLOSE, "<who> closed the alert as a false alarm at <time>.<note>")
            return replace(update, sets_fields=True)
        case Merge():
            return make_update(OutboundEvent.CLOSE, f"<who> merged this into alert {command.into.id} at <time>.<note>")
        case Reopen() | Undo():
            return _undo_update(change, make_update)


def _sentence(note: str) -> str:
    """A user's note as a sentence with a leading space: " Router restarted." for "router restarted"."""
    text = note.strip()
    return f" {text[0].upper()}{text[1:]}{'.' if text[-1].isalnum() else ''}" if text else ""


def _undo_update(change: AlertChange, make_update: Callable[..., AlertUpdate]) -> AlertUpdate:
    """Undone commands: a changed assignee is written to the ticket, everything else is only noted."""
    previous, after = change.before, change.after
    assert previous is not None
    is_reassigned = (previous.owner_id, previous.owner_name) != (after.owner_id, after.owner_name)
    event = OutboundEvent.ASSIGN if is_reassigned else OutboundEvent.CLOSE
    update = make_update(event, "<who>: <what>", sets_agent=is_reassigned)
    return replace(update, agent_id=after.owner_id, agent_name=after.owner_name)


# ---------- alert ticket
# The ticket of an alert from another source: its status, and its creation on request.


@dataclass(frozen=True, slots=True)
class AlertTicket:
    """The ticket system to which the alert's integration writes back, and the ticket there."""

    integration: OutboundIntegration
    #: The ticket number, or "".
    number: str
    #: The ticket's URL, or "".
    url: str
    #: Whether the ticket is being created.
    is_pending: bool = False

    @property
    def can_create(self) -> bool:
        return not self.number and not self.is_pending


def ticket_of_alert(alert: Alert) -> AlertTicket | None:
    """The alert's ticket; None if the alert itself is a ticket, is a test or dry run, or has no write-back to an
    enabled ticket system."""
    inbound_integration = alert.integration
    if inbound_integration is None or inbound_integration.outbound is None or alert.is_test or alert.dry_run:
        return None
    system = inbound_integration.outbound
    kinds = ticket_kinds(system.kind)
    if not kinds or inbound_integration.kind in kinds or not system.is_enabled:
        return None
    link = TicketLink.objects.filter(integration=system, alert=alert).first()
    if link is None:
        return AlertTicket(system, "", "")
    if link.ticket:
        return AlertTicket(system, link.ticket, ticket_url(system, link.ticket))
    last_call = Call.objects.filter(integration=system, alert=alert, action="create").order_by("-pk").first()
    return AlertTicket(system, "", "", is_pending=last_call is not None and last_call.status not in ENDED)


def ticket_url(integration: OutboundIntegration, ticket: str) -> str:
    """The address of a ticket."""
    values = {"address": integration.settings.get("base_url", ""), "ticket": ticket}
    return inputs.render(KINDS[integration.kind].ticket_url, values)


def create_ticket(alert: VisibleAlert, actor: AuditActor, now: datetime) -> int:
    """Queues the ticket's creation and returns the call's id. Raises Rejected("not_possible")."""
    ticket = ticket_of_alert(alert.row)
    if ticket is None:
        not_connected = sentence(
            "The alert's inbound integration is not connected to a ticket system, or the alert came from its tickets."
        )
        raise Rejected("not_possible", not_connected, "alert")
    return commands.make_ticket(ticket.integration, alert, actor, now)


# ---------- listener
# Reacts to alert changes in their transaction by queueing writes to tickets. Sends nothing.
#
# Alerts of samples, and of integrations in dry-run mode, are never written about.


_ALERTS = f"""
SELECT a.id, a.source_id, a.subject, i.kind AS inbound_kind, o.id AS outbound_id, o.kind AS outbound_kind, o.settings,
       l.ticket AS linked,
       c.status AS making,
       (SELECT value #>> '{{}}' FROM core_setting WHERE name = 'time_zone') AS time_zone
FROM {WITH_INTEGRATION}
JOIN outbound_outboundintegration o ON o.id = i.outbound_id AND o.is_enabled
LEFT JOIN outbound_ticketlink l ON l.integration_id = o.id AND l.alert_id = a.id
LEFT JOIN LATERAL (
  SELECT e.status FROM outbound_call e
  WHERE e.alert_id = a.id AND e.integration_id = o.id AND e.action = 'create' ORDER BY e.id DESC LIMIT 1
) AS c ON l.ticket = ''
WHERE a.id = ANY(%s) AND NOT a.dry_run AND NOT a.is_test ORDER BY a.id
"""

_MAKES_TICKETS = """
SELECT i.id, i.kind, o.kind FROM inbound_integration i
JOIN outbound_outboundintegration o ON o.id = i.outbound_id AND o.is_enabled
WHERE o.settings -> 'create_ticket' -> 'on' ? 'opened'
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
    rows = database.rows(connection, _ALERTS, (ids,))
    alerts = {row["id"]: row for row in rows if ticket_kinds(row["outbound_kind"])}
    if not alerts:
        return
    creations = _ticket_creations(connection, alerts, updates, opened_ids)
    _retry_creation(connection, alerts, updates, now)
    calls = [*creations.values(), *_writes(connection, alerts, updates, frozenset(creations))]
    queue_queue(connection, calls, now)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request that an event of an alert would send."""

    method: str
    url: str
    body: str


def preview(
    integration: OutboundIntegration,
    alert: VisibleAlert,
    event: OutboundEvent,
    actor: AuditActor,
    now: datetime,
    *,
    client: HttpClient | None = None,
) -> list[PlannedRequest]:
    """What would be written to the alert's ticket if the actor caused the event now. Signs in and reads, but writes
    nothing. Raises Rejected, or the error that a write would meet."""
    is_assigning = event in (OutboundEvent.ACKNOWLEDGE, OutboundEvent.ASSIGN)
    update = AlertUpdate(
        alert.id, event, actor.name, now, actor.user_id, sets_agent=is_assigning, agent_id=actor.user_id,
        agent_name=actor.name, values=_PREVIEW_VALUES | {"owner": actor.name},
    )  # fmt: skip
    with database.transaction() as connection:
        row = next((row for row in database.rows(connection, _ALERTS, ([alert.id],))), None)
        if row is None or row["outbound_id"] != integration.pk:
            not_connected = sentence(
                "The alert's inbound integration is not connected to {integration}.", integration=integration.name
            )
            raise Rejected("not_possible", not_connected, "alert")
        call = _write(row, update, {})
        if call is None:
            return []
        ticket = call.ticket or "0"
        job = CallJob(
            0, integration.pk, alert.id, call.order_key, call.action, ticket, call.content, 0, False, now
        )  # fmt: skip

    def work(active: ActiveIntegration, http_client: RecordedClient) -> None:
        with database.transaction() as connection:
            (prepared,) = prepare_writes(connection, active, [job])
        active.sender.send(prepared, http_client, now)

    _nothing, http_client = commands.with_recorded_client(integration, work, now, client, is_dry_run=True)
    return [PlannedRequest(*planned) for planned in http_client.planned]


#: What an event's own text stands for in a preview.
_PREVIEW_VALUES = {"what": "…", "note": "", "said": "…", "until": "…"}


def _newly_opened(connection: Connection, changes: Sequence[AlertChange]) -> set[int]:
    """The newly opened alerts that need a ticket."""
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
            rows = connection.execute(_MAKES_TICKETS).fetchall()
            ids = frozenset(number for number, inbound, outbound in rows if inbound not in ticket_kinds(outbound))
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
        if not _is_ticket(row)
        and row["linked"] is None
        and any((row["id"], event) in occurred for event in row["settings"].get("create_ticket", {}).get("on", ()))
    ]
    if not rows:
        return {}
    values = queue.load_alert_values(connection, [row["id"] for row in rows])
    requests = {row["id"]: (row["outbound_id"], row["settings"]) for row in rows}
    return queue.first_creation_calls(connection, requests, values)


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
        queue.retry_creation(connection, integration_id, now, alert_ids=ids)


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


def _is_ticket(row: Mapping[str, Any]) -> bool:
    """Whether the alert is itself a ticket of the system."""
    return row["inbound_kind"] in ticket_kinds(row["outbound_kind"])


def _has_ticket(row: Mapping[str, Any], created_ids: frozenset[int]) -> bool:
    if _is_ticket(row):
        return bool(row["source_id"])
    # An alert whose ticket a person dropped gets no notes either.
    return row["id"] in created_ids or (row["linked"] is not None and row["making"] != CallStatus.DROPPED)


def _write(row: Mapping[str, Any], update: AlertUpdate, pages: Mapping[str, int]) -> NewCall | None:
    """The call that writes the update, or None if the integration writes nothing for it."""
    settings = row["settings"]
    writeback = tickets.get_writeback(settings, update.event)
    if not writeback.has_changes:
        return None
    zone = settings.get("time_zone") or row["time_zone"] or "UTC"
    is_answer = update.event in (OutboundEvent.ACKNOWLEDGE, OutboundEvent.ASSIGN, OutboundEvent.CLOSE)
    values = {
        "who": update.actor_name,
        "time": tickets.clock_text(update.at, zone),
        "after": tickets.after_text(pages) if is_answer else "",
        "alert": row["id"],
        "subject": row["subject"],
        **update.values,
    }
    if isinstance(until := values.get("until"), datetime):
        values["until"] = tickets.clock_text(until, zone)
    content: dict[str, object] = {"event": update.event.value, "who_user": update.user_id}
    if writeback.note:
        note = tickets.note_text(update.text or writeback.note, values)
        content |= {"note": note, "public": writeback.is_public}
    if writeback.should_assign and update.sets_agent:
        content["agent"] = {"user": update.agent_id, "name": update.agent_name}
    if update.sets_fields:
        parts = (("status", writeback.status), ("team", writeback.team), ("priority", writeback.priority))
        content |= {key: text for key, text in parts if text}
    if content.keys() <= {"event", "who_user"}:
        return None
    is_ticket = _is_ticket(row)
    ticket = row["source_id"] if is_ticket else row["linked"] or ""
    description = as_reason(str(content.get("note") or "")) or reasons.UPDATE_TICKET(
        event=Term(update.event.value), user=update.actor_name
    )
    return NewCall(
        row["outbound_id"],
        f"ticket:{ticket}" if is_ticket else f"alert:{row['id']}",
        "write",
        description,
        alert_id=row["id"],
        ticket=ticket,
        content=content,
    )
