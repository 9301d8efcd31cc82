"""Converts tickets read from Halo to messages of the same form as Halo's webhooks, and detects news and agent notes.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding.alert_creation import columns_of
from tocsin.inbound.deciding.echo_suppression import CREATED_BY_FETCH
from tocsin.inbound.parsing.decode import Element
from tocsin.outbound.connectors.haloitsm.client import id_text
from tocsin.outbound.connectors.haloitsm.reference_data import numbered_priority

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


def message(
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


def notes(actions: Sequence[Mapping[str, Any]], own_agent_id: str, application: str, text_of: Any) -> list[TicketNote]:
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
