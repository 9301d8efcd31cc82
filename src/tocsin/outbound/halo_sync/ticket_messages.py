"""Converts tickets read from Halo to messages of the same form as Halo's webhooks, and detects news and agent notes.

Pure.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor, Reply
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import NeedsAttention
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.inbound.admin.simple_rules import StatusEffect, action_of_status, reports_new_status
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding.alert_creation import columns_of
from tocsin.inbound.deciding.state import CREATED_BY_FETCH, without_status
from tocsin.inbound.models import decompress
from tocsin.inbound.parsing.decode import Element
from tocsin.outbound.connectors.haloitsm.client import HaloClient, TicketNotFound, id_text
from tocsin.outbound.connectors.haloitsm.connector import text_of_note
from tocsin.outbound.connectors.haloitsm.reference_data import numbered_priority
from tocsin.outbound.connectors.interfaces import RecordedClient
from tocsin.outbound.halo_sync.reasons import CHANGED_SINCE_CREATION
from tocsin.people.sql import find_by_id_or_email

RECONCILIATION = "reconciliation"

#: Stored in the message's headers and shown in the inbound log.
HEADERS = {"x-tocsin-found-by": RECONCILIATION}

#: Tickets changed this long before the last poll are read again: their change may have been in progress.
OVERLAP = timedelta(minutes=2)

#: The most a tenant's clock can be ahead of UTC; a later change is a mistyped date.
_AHEAD = timedelta(hours=15)

#: The fields that can name the ticket into which another was merged; undocumented, and different between versions.
_MERGED = ("merged_into_id", "mergedinto_id", "merged_into", "mergedintoid", "merged_to_id")

#: The fields that can have a priority's number.
_PRIORITY_NUMBERS = ("priority_id", "priorityid", "priority")

#: Columns compared with the alert.
_COMPARED = ("source_status", "subject", "client", "team", "source_priority")


@dataclass(frozen=True, slots=True)
class KnownTicket:
    """What Tocsin knows of a ticket: its last alert."""

    alert_id: int
    integration_id: int | None
    is_active: bool
    columns: Mapping[str, str]
    agent_id: str


def ticket_message(
    ticket: Mapping[str, Any], at: datetime, event: str = "found by reconciliation", remark: str = ""
) -> Element:
    """The message that Halo's webhook would have sent.

    `at` is the time of the response by Halo's clock, because the ticket's dates carry no zone and cannot tell how new
    it is. `remark` is a sentence for readers of the message.
    """
    payload: dict[str, object] = {
        "event": event,
        "object_id": int(id_text(ticket["id"])),
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        CREATED_BY_FETCH: RECONCILIATION,
        **({"message": remark} if remark else {}),
        "ticket": dict(ticket),
    }
    raw = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
    return Element(payload, raw)


def is_news(integration: CompiledIntegration, event: NormalizedEvent, known_ticket: KnownTicket | None) -> bool:
    """Whether the ticket contains news.

    Without an alert, it is news if it would open one; with a terminal alert, only if it was reopened.
    """
    if known_ticket is None:
        return event.action is EventAction.OPEN and event.check_filters().is_true
    columns = columns_of(integration, event)
    if not known_ticket.is_active:
        return event.action is EventAction.OPEN and columns.get("source_status") != known_ticket.columns.get(
            "source_status"
        )
    if event.action in (EventAction.CLOSE, EventAction.CANCEL):
        return True
    # A list contains a priority's id only, while a webhook contains its name.
    if columns.get("source_priority") in _numbered_priorities(event.payload):
        del columns["source_priority"]
    is_different = any(name in columns and columns[name] != known_ticket.columns.get(name, "") for name in _COMPARED)
    if "agent" not in event.mapped.values:
        return is_different
    agent_id = "" if event.mapped.is_nobody("agent") else event.mapped.text("agent_id") or ""
    return is_different or agent_id != known_ticket.agent_id


def _numbered_priorities(payload: object) -> set[str]:
    ticket = payload.get("ticket") if isinstance(payload, Mapping) else None
    numbers = [ticket.get(name) for name in _PRIORITY_NUMBERS] if isinstance(ticket, Mapping) else []
    return {numbered_priority(number) for number in numbers if number is not None}


def merged_into(ticket: Mapping[str, Any]) -> str:
    """The number of the ticket into which this one was merged, or ""."""
    ticket_ids = (id_text(ticket.get(key)) for key in _MERGED)
    return next((ticket_id for ticket_id in ticket_ids if ticket_id.isdecimal() and int(ticket_id) > 0), "")


def parse_date(text: object) -> datetime | None:
    """A Halo date, which has no zone; None if absent, or for 1900-01-01."""
    if not isinstance(text, str) or not text:
        return None
    try:
        parsed = datetime.fromisoformat(text.strip().rstrip("Z")[:26])
    except ValueError:
        return None
    parsed = parsed.replace(tzinfo=None)
    return parsed if parsed.year > 1901 else None


def newest_change(tickets: Sequence[Mapping[str, Any]], previous: str, now: datetime) -> str:
    """Up to when tickets have been read, in Halo's format: the newest change among them, or `previous`.

    Dates in the future do not count: after one, nothing would ever be found again.
    """
    latest = now.astimezone(UTC).replace(tzinfo=None) + _AHEAD
    changes = [
        text for ticket in tickets if (at := parse_date(text := ticket.get("last_update"))) is not None and at <= latest
    ]
    latest_text = max(changes, key=lambda text: parse_date(text) or datetime.min, default="")  # noqa: DTZ901 - zoneless by nature
    previous_at = parse_date(previous)
    if not latest_text or (previous_at is not None and (parse_date(latest_text) or previous_at) < previous_at):
        return previous
    return str(latest_text)


def overlap_start(polled_until: str, zone: str = "UTC") -> str:
    """From when on tickets are read again.

    When clocks go back in the zone of Halo's dates, an hour occurs twice, and later changes seem older than the ones
    read; then the whole hour is read again.
    """
    at = parse_date(polled_until)
    if at is None:
        return polled_until
    offset, later_offset = (at.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    repeated_hour = (
        max(offset - later_offset, timedelta()) if offset is not None and later_offset is not None else timedelta()
    )
    return (at - OVERLAP - repeated_hour).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class TicketNote:
    """A note by an agent on a ticket."""

    id: int
    agent: str
    agent_name: str
    text: str


def ticket_notes(
    actions: Sequence[Mapping[str, Any]], own_agent_id: str, application: str, text_of: Any
) -> list[TicketNote]:
    """The agents' notes among a ticket's actions, oldest first, without Tocsin's own.

    Tocsin's notes are recognized by its agent id or by the name of its application in Halo.
    """
    agent_notes = []
    for action in actions:
        action_id, agent = id_text(action.get("id")), id_text(action.get("who_agentid"))
        application_id = str(action.get("actionby_application_id") or "")
        is_from_tocsin = (own_agent_id and agent == own_agent_id) or (
            application and application_id.casefold() == application.casefold()
        )
        if is_from_tocsin or not action_id.isdecimal() or not agent.isdecimal() or int(agent) < 2:
            continue
        text = str(text_of(action)).strip()
        if text:
            agent_notes.append(TicketNote(int(action_id), agent, str(action.get("who") or f"Agent {agent}"), text))
    return sorted(agent_notes, key=lambda note: note.id)


# ---------- new tickets
# Handles tickets created since the last poll.
#
# A ticket that changed since its creation may have been in a state that opens an alert: it is ingested first as it was
# created, then as it is. An unchanged one is decided by its own status, as its webhook would have been.


#: The event name in the webhook of a new ticket.
_EVENT = "new ticket logged"

#: Halo writes the two dates of a new ticket one after the other.
_SAME_CREATION = timedelta(seconds=1)

#: How long before the poll a webhook may have arrived at which its ticket was not visible yet.
_BEFORE = timedelta(hours=1)
#: How far back webhooks are searched before the first poll.
_MAX_LOOKBACK = timedelta(days=1)

#: Keys of the poll state: the highest ticket id seen; the same from polls that did not read all pages; and the new
#: tickets ingested by those.
HIGHEST, _HIGHER, _INGESTED = "highest", "higher", "met"


def is_new(ticket: Mapping[str, Any], poll_state: Mapping[str, Any], polled_until: str) -> bool:
    """Whether a ticket was created since the last poll.

    Ids are ascending, while a person can backdate a ticket. The date decides only as long as no id is known.
    """
    ticket_id = id_text(ticket.get("id"))
    if ticket_id in poll_state.get(_INGESTED, ()):
        return False
    if highest := poll_state.get(HIGHEST):
        return int(ticket_id) > int(highest)
    created, last_poll_at = (
        parse_date(ticket.get("dateoccurred")),
        parse_date(polled_until),
    )
    return created is not None and last_poll_at is not None and created >= last_poll_at


def remember(poll_state: dict[str, Any], tickets: Sequence[Mapping[str, Any]], *, is_complete: bool) -> None:
    """Records the tickets seen. `is_complete`: every page was read, so a higher id means a newer ticket."""
    ticket_ids = [int(ticket_id) for ticket in tickets if (ticket_id := id_text(ticket.get("id"))).isdecimal()]
    highest = max([int(poll_state.pop(_HIGHER, 0)), int(poll_state.get(HIGHEST) or 0), *ticket_ids])
    if not is_complete:
        poll_state[_HIGHER] = highest
        return
    poll_state.pop(_INGESTED, None)
    if highest:
        poll_state[HIGHEST] = highest


def mark_ingested(poll_state: dict[str, Any], ticket_ids: Sequence[str]) -> None:
    """Records that these new tickets were ingested, until a poll has read all pages."""
    if ticket_ids:
        poll_state[_INGESTED] = [
            *poll_state.get(_INGESTED, ()),
            *(ticket_id for ticket_id in ticket_ids if ticket_id not in poll_state.get(_INGESTED, ())),
        ]


def messages(
    ticket: Mapping[str, Any],
    at: datetime,
    candidates: Sequence[tuple[CompiledIntegration, NormalizedEvent]],
    *,
    is_pulled: bool,
) -> Iterator[tuple[Element, CompiledIntegration]]:
    """The messages for a new ticket that opens no alert in its current state and has no alert for its key.

    `candidates` are the integrations that would have received it, each with its reading of the current state. Without
    webhooks (`is_pulled`), an unchanged ticket is ingested too, so that users see which status opened nothing.
    """
    unopened = [
        integration for integration, event in candidates if event.action in (EventAction.UPDATE, EventAction.NONE)
    ]
    if not _has_changed(ticket):
        if is_pulled and unopened:
            yield ticket_message(ticket, at, _EVENT), unopened[0]
        return
    for integration in unopened:
        if (creation_message := _creation_message(integration, ticket, at)) is not None:
            yield creation_message, integration
            yield ticket_message(ticket, at), integration
            return


def _has_changed(ticket: Mapping[str, Any]) -> bool:
    """Whether a ticket changed since its creation, as far as its dates show."""
    created, changed = (
        parse_date(ticket.get("dateoccurred")),
        parse_date(ticket.get("last_update")),
    )
    return created is None or changed is None or abs(changed - created) > _SAME_CREATION


def _creation_message(integration: CompiledIntegration, ticket: Mapping[str, Any], at: datetime) -> Element | None:
    """The message of the new ticket, if it would have opened an alert with some status."""
    fields = without_status(ticket)
    for status in ({}, *({"status_id": int(status_id)} for status_id in _opening_status_ids(integration))):
        message = ticket_message({**fields, **status}, at, _EVENT, str(CHANGED_SINCE_CREATION()))
        event = integration.normalizer.normalize(message)
        if isinstance(event, NormalizedEvent) and event.action is EventAction.OPEN and event.check_filters().is_true:
            return Element(message.payload, message.raw, (CHANGED_SINCE_CREATION(),))
    return None


def _opening_status_ids(integration: CompiledIntegration) -> list[str]:
    """The ids of the statuses that open an alert, for installations where New has another name."""
    statuses = integration.settings.get("statuses")
    names = statuses.items() if isinstance(statuses, Mapping) else ()
    return [
        status_id
        for status_id, name in names
        if str(status_id).isdecimal() and action_of_status(integration.normalizer, str(name)) is StatusEffect.OPEN
    ]


_REPORTED = """
SELECT integration_id, source_id, raw, content_type FROM inbound_inboundmessage
WHERE integration_id = ANY(%(doors)s) AND id >= %(since)s AND source_id = ANY(%(tickets)s)
  AND NOT test AND replay_of IS NULL AND NOT headers ? %(found_by)s ORDER BY id LIMIT 500
"""


def find_reported(
    integrations: Sequence[CompiledIntegration],
    ticket_ids: Sequence[str],
    last_polled_at: datetime | None,
    now: datetime,
) -> set[str]:
    """Those of these tickets whose creation a webhook reported, so that the rules have decided on them."""
    since = max(last_polled_at or now - _MAX_LOOKBACK, now - _MAX_LOOKBACK) - _BEFORE
    parameters = {
        "doors": [integration.id for integration in integrations],
        "since": first_uuid7(since),
        "tickets": list(ticket_ids),
        "found_by": next(iter(HEADERS)),
    }
    by_id = {integration.id: integration for integration in integrations}
    with database.transaction() as connection:
        rows = database.rows(connection, _REPORTED, parameters)
    return {
        row["source_id"]
        for row in rows
        if reports_new_status(by_id[row["integration_id"]].normalizer, decompress(row["raw"]), row["content_type"])
    }


# ---------- notes
# Turns agents' notes on tickets into replies on alerts: each note once, and never Tocsin's own.


log = logging.getLogger(__name__)

#: Tickets whose notes are read per poll.
MAX_TICKETS_PER_POLL = 20
#: The maximum number of replies from a ticket seen for the first time.
_FIRST_NOTES = 10
#: The number of tickets for which the last note read is remembered.
_MAX_REMEMBERED_NOTES = 2000


class NotesPoll(Protocol):
    """The poll during which notes are read."""

    integration_id: int
    client: HaloClient
    http_client: RecordedClient
    settings: Mapping[str, Any]
    poll_state: dict[str, Any]
    now: datetime
    remarks: list[Reason]


def import_notes_as_replies(poll: NotesPoll, active_alerts: Mapping[str, int]) -> None:
    """Reads the notes of these tickets with active alerts; excess tickets are left for the next poll."""
    # None is forgotten if Halo stops responding.
    poll.poll_state["unread"] = list(active_alerts)
    last_note_ids: dict[str, int] = poll.poll_state.setdefault("notes", {})
    problem = NO_REASON
    for ticket, alert_id in list(active_alerts.items())[:MAX_TICKETS_PER_POLL]:
        try:
            actions = poll.client.list_actions(poll.http_client, ticket, poll.now)
        except NeedsAttention:
            raise
        except TicketNotFound:
            continue
        except Permanent as error:
            # Hidden notes must not stop the rest of the poll.
            problem = problem or error.full_reason
            continue
        own_agent, application = poll.poll_state.get("me", ""), str(poll.settings.get("application", ""))
        notes = ticket_notes(actions, own_agent, application, text_of_note)
        new_notes = (
            [note for note in notes if note.id > last_note_ids[ticket]]
            if ticket in last_note_ids
            else notes[-_FIRST_NOTES:]
        )
        own_notes = _load_own_notes(poll.integration_id, ticket) if new_notes else set()
        for note in new_notes:
            if " ".join(note.text.split()) not in own_notes:
                _apply_reply(poll, alert_id, note)
        last_note_ids[ticket] = max([note.id for note in notes] + [last_note_ids.get(ticket, 0)])
    poll.remarks += [problem] if problem else []
    poll.poll_state["unread"] = list(active_alerts)[MAX_TICKETS_PER_POLL:]
    # Old tickets are forgotten.
    poll.poll_state["notes"] = dict(list(last_note_ids.items())[-_MAX_REMEMBERED_NOTES:])


def _apply_reply(poll: NotesPoll, alert_id: int, note: TicketNote) -> None:
    user = _find_user(poll.integration_id, note.agent)
    actor = Actor(ActorKind.USER, user[1], user[0]) if user else Actor(ActorKind.CONTACT, note.agent_name)
    try:
        reply = Reply(actor=actor, via=CommandChannel.HALO, text=note.text[:20_000])
        alerts.apply_command(FoundAlert.by_tocsin(alert_id), reply, now=poll.now)
    except Rejected as rejected:
        log.info(
            "A note from Halo does not fit on alert %s: %s", alert_id, rejected.detail, extra={"alert_id": alert_id}
        )


def _load_own_notes(integration_id: int, ticket: str) -> set[str]:
    """Tocsin's own notes on a ticket, each as one line."""
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT content ->> 'note' FROM outbound_call WHERE integration_id = %s AND ticket = %s AND ticket <> '' "
            "ORDER BY id DESC LIMIT 100",
            (integration_id, ticket),
        ).fetchall()
    return {" ".join(row[0].split()) for row in rows if row[0]}


def _find_user(integration_id: int, agent: str) -> tuple[int, str] | None:
    """The user for an agent, matched by hand or by e-mail."""
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT (SELECT user_id FROM outbound_agentmatch WHERE integration_id = %(i)s AND number = %(a)s LIMIT 1), "
            "(SELECT data ->> 'email' FROM outbound_lookup "
            "WHERE integration_id = %(i)s AND list_name = 'agent' AND number = %(a)s LIMIT 1)",
            {"i": integration_id, "a": agent},
        ).fetchone()
        assert row is not None
        return find_by_id_or_email(connection, *row)
