"""What a ticket that Tocsin read itself says, as a message of the same form as Halo's own; whether that is news; and
which of a ticket's actions are an agent's notes. Pure."""

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

#: Kept among a message's headers, and shown in the Inbound Log.
HEADERS = {"x-tocsin-found-by": RECONCILIATION}

#: Tickets that changed so shortly before the last look are looked at once more: their change may have been under way.
OVERLAP = timedelta(minutes=2)

#: A tenant's clock is so much ahead of UTC at most; a change of later than that is a date that somebody mistyped.
_AHEAD = timedelta(hours=15)

#: What Halo calls the ticket that another was merged into; which of them a version has is not documented.
_MERGED = ("merged_into_id", "mergedinto_id", "merged_into", "mergedintoid", "merged_to_id")

#: Columns by which a reading is compared with the alert.
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
    """The message that Halo's webhook would have sent. `at` is Halo's own clock when it gave the ticket: its dates
    carry no zone, so that they cannot tell how new it is. `said`: a sentence for whoever reads the message."""
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
    """Whether the reading tells something that Tocsin does not know. A ticket that never had an alert is news when it
    would open one; of a ticket whose alert is over only that it was opened again."""
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
    # A list says a priority's number only, where a webhook says its name.
    if name == "source_priority" and value.startswith("Priority "):
        return False
    return value != columns.get(name, "")


def merged_into(ticket: Mapping[str, Any]) -> str:
    """The number of the ticket that this one was merged into, or ""."""
    found = (whole(ticket.get(key)) for key in _MERGED)
    return next((number for number in found if number.isdecimal() and int(number) > 0), "")


def moment(text: object) -> datetime | None:
    """A date as Halo writes it, without a zone; None for none and for 1900-01-01."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = datetime.fromisoformat(text.strip().rstrip("Z")[:26])
    except ValueError:
        return None
    found = found.replace(tzinfo=None)
    return found if found.year > 1901 else None


def newest(tickets: Sequence[Mapping[str, Any]], before: str, now: datetime) -> str:
    """Up to when tickets have been read, as Halo writes it: the newest change among them, or what it was before. A date
    that cannot be yet does not count: from it on nothing would ever be found."""
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
    """From when on tickets are read again. When clocks go back in the zone of Halo's dates, an hour comes twice, and
    what changes the second time seems older than what was read: then all of that hour is read."""
    at = moment(polled_until)
    if at is None:
        return polled_until
    first, second = (at.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    repeated = max(first - second, timedelta()) if first is not None and second is not None else timedelta()
    return (at - OVERLAP - repeated).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class TicketNote:
    """What an agent wrote on a ticket."""

    id: int
    agent: str
    agent_name: str
    text: str


def notes(actions: Sequence[Mapping[str, Any]], me: str, application: str, text_of: Any) -> list[TicketNote]:
    """The agents' notes among a ticket's actions, oldest first, without those of Tocsin itself: by its agent, or by the
    name of its application in Halo."""
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
