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
from tocsin.inbound.deciding.echo_suppression import FOUND_BY
from tocsin.inbound.parsing.decode import Element
from tocsin.outbound.connectors.haloitsm.client import whole

RECONCILIATION = "reconciliation"

#: Stored in the message's headers and shown in the inbound log.
HEADERS = {"x-tocsin-found-by": RECONCILIATION}

#: Tickets changed this long before the last poll are read again: their change may have been in progress.
OVERLAP = timedelta(minutes=2)

#: The most a tenant's clock can be ahead of UTC; a later change is a mistyped date.
_AHEAD = timedelta(hours=15)

#: The fields that can name the ticket into which another was merged; undocumented, and different between versions.
_MERGED = ("merged_into_id", "mergedinto_id", "merged_into", "mergedintoid", "merged_to_id")

#: Columns compared with the alert.
_COMPARED = ("source_status", "subject", "client", "team", "source_priority")


@dataclass(frozen=True, slots=True)
class KnownTicket:
    """What Tocsin knows of a ticket: its last alert."""

    alert_id: int
    integration_id: int | None
    is_live: bool
    columns: Mapping[str, str]
    agent_id: str


def message(ticket: Mapping[str, Any], at: datetime, event: str = "found by reconciliation", said: str = "") -> Element:
    """The message that Halo's webhook would have sent.

    `at` is the time of the response by Halo's clock, because the ticket's dates carry no zone and cannot tell how new
    it is. `said` is a sentence for readers of the message.
    """
    payload: dict[str, object] = {
        "event": event,
        "object_id": int(whole(ticket["id"])),
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        FOUND_BY: RECONCILIATION,
        **({"message": said} if said else {}),
        "ticket": dict(ticket),
    }
    raw = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
    return Element(payload, raw)


def is_news(door: CompiledIntegration, reading: NormalizedEvent, known: KnownTicket | None) -> bool:
    """Whether the ticket contains news.

    Without an alert, it is news if it would open one; with a terminal alert, only if it was reopened.
    """
    if known is None:
        return reading.intent is EventAction.OPEN and reading.filter_verdict().is_true
    columns = columns_of(door, reading)
    if not known.is_live:
        return reading.intent is EventAction.OPEN and columns.get("source_status") != known.columns.get("source_status")
    if reading.intent in (EventAction.CLOSE, EventAction.CANCEL):
        return True
    differ = any(name in columns and _differs(name, columns[name], known.columns) for name in _COMPARED)
    if "agent" not in reading.mapped.values:
        return differ
    number = "" if reading.mapped.says_nobody("agent") else reading.mapped.text("agent_id") or ""
    return differ or number != known.agent_id


def _differs(name: str, value: str, columns: Mapping[str, str]) -> bool:
    # A list contains a priority's id only, while a webhook contains its name.
    if name == "source_priority" and value.startswith("Priority "):
        return False
    return value != columns.get(name, "")


def merged_into(ticket: Mapping[str, Any]) -> str:
    """The number of the ticket into which this one was merged, or ""."""
    found = (whole(ticket.get(key)) for key in _MERGED)
    return next((number for number in found if number.isdecimal() and int(number) > 0), "")


def moment(text: object) -> datetime | None:
    """A Halo date, which has no zone; None if absent, or for 1900-01-01."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = datetime.fromisoformat(text.strip().rstrip("Z")[:26])
    except ValueError:
        return None
    found = found.replace(tzinfo=None)
    return found if found.year > 1901 else None


def newest(tickets: Sequence[Mapping[str, Any]], before: str, now: datetime) -> str:
    """Up to when tickets have been read, in Halo's format: the newest change among them, or `before`.

    Dates in the future do not count: after one, nothing would ever be found again.
    """
    latest = now.astimezone(UTC).replace(tzinfo=None) + _AHEAD
    changes = [
        text for ticket in tickets if (at := moment(text := ticket.get("last_update"))) is not None and at <= latest
    ]
    found = max(changes, key=lambda text: moment(text) or datetime.min, default="")  # noqa: DTZ901 - zoneless by nature
    known = moment(before)
    if not found or (known is not None and (moment(found) or known) < known):
        return before
    return str(found)


def since(polled_until: str, zone: str = "UTC") -> str:
    """From when on tickets are read again.

    When clocks go back in the zone of Halo's dates, an hour occurs twice, and later changes seem older than the ones
    read; then the whole hour is read again.
    """
    at = moment(polled_until)
    if at is None:
        return polled_until
    first, second = (at.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    repeated = max(first - second, timedelta()) if first is not None and second is not None else timedelta()
    return (at - OVERLAP - repeated).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class TicketNote:
    """A note by an agent on a ticket."""

    id: int
    agent: str
    agent_name: str
    text: str


def notes(actions: Sequence[Mapping[str, Any]], me: str, application: str, text_of: Any) -> list[TicketNote]:
    """The agents' notes among a ticket's actions, oldest first, without Tocsin's own.

    Tocsin's notes are recognized by its agent id or by the name of its application in Halo.
    """
    found = []
    for action in actions:
        number, agent = whole(action.get("id")), whole(action.get("who_agentid"))
        by = str(action.get("actionby_application_id") or "")
        is_own = (me and agent == me) or (application and by.casefold() == application.casefold())
        if is_own or not number.isdecimal() or not agent.isdecimal() or int(agent) < 2:
            continue
        text = str(text_of(action)).strip()
        if text:
            found.append(TicketNote(int(number), agent, str(action.get("who") or f"Agent {agent}"), text))
    return sorted(found, key=lambda note: note.id)
