"""Handles tickets created since the last poll.

A ticket that changed since its creation may have been in a state that opens an alert: it is ingested first as it was
created, then as it is. An unchanged one is decided by its own status, as its webhook would have been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.ids import first_uuid7
from tocsin.inbound.admin.observed_statuses import reports_new_status
from tocsin.inbound.admin.status_rules import StatusEffect, action_of_status
from tocsin.inbound.body_compression import decompress
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import NormalizedEvent
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.deciding.echo_suppression import without_status
from tocsin.inbound.parsing.decode import Element
from tocsin.outbound.connectors.haloitsm.client import whole
from tocsin.outbound.halo_sync import ticket_messages

#: The event name in the webhook of a new ticket.
_EVENT = "new ticket logged"

#: Shown in the inbound log.
MOVED_ON = "created since the last look, and moved on before this one: it is taken in as it was created"

#: Halo writes the two dates of a new ticket one after the other.
_AT_ONCE = timedelta(seconds=1)

#: How long before the poll a webhook may have arrived at which its ticket was not visible yet.
_BEFORE = timedelta(hours=1)
#: How far back webhooks are searched before the first poll.
_MAX_LOOK_BACK = timedelta(days=1)

#: Keys of the poll state: the highest ticket id seen; the same from polls that did not read all pages; and the new
#: tickets ingested by those.
HIGHEST, _HIGHER, _MET = "highest", "higher", "met"


def is_new(ticket: Mapping[str, Any], poll_state: Mapping[str, Any], polled_until: str) -> bool:
    """Whether a ticket was created since the last poll.

    Ids are ascending, while a person can backdate a ticket. The date decides only as long as no id is known.
    """
    number = whole(ticket.get("id"))
    if number in poll_state.get(_MET, ()):
        return False
    if highest := poll_state.get(HIGHEST):
        return int(number) > int(highest)
    created, before = ticket_messages.moment(ticket.get("dateoccurred")), ticket_messages.moment(polled_until)
    return created is not None and before is not None and created >= before


def remember(poll_state: dict[str, Any], tickets: Sequence[Mapping[str, Any]], *, is_all: bool) -> None:
    """Records the tickets seen. `is_all`: every page was read, so a higher id means a newer ticket."""
    numbers = [int(number) for ticket in tickets if (number := whole(ticket.get("id"))).isdecimal()]
    highest = max([int(poll_state.pop(_HIGHER, 0)), int(poll_state.get(HIGHEST) or 0), *numbers])
    if not is_all:
        poll_state[_HIGHER] = highest
        return
    poll_state.pop(_MET, None)
    if highest:
        poll_state[HIGHEST] = highest


def already_seen(poll_state: dict[str, Any], tickets: Sequence[str]) -> None:
    """Records that these new tickets were ingested, until a poll has read all pages."""
    if tickets:
        poll_state[_MET] = [
            *poll_state.get(_MET, ()),
            *(number for number in tickets if number not in poll_state.get(_MET, ())),
        ]


def messages(
    ticket: Mapping[str, Any],
    at: datetime,
    ways: Sequence[tuple[CompiledIntegration, NormalizedEvent]],
    *,
    is_pulled: bool,
) -> Iterator[tuple[Element, CompiledIntegration]]:
    """The messages for a new ticket that opens no alert in its current state and has no alert for its key.

    `ways` are the integrations that would have received it, each with its reading of the current state. Without
    webhooks (`is_pulled`), an unchanged ticket is ingested too, so that users see which status opened nothing.
    """
    open_to = [door for door, now in ways if now.intent in (EventAction.UPDATE, EventAction.NONE)]
    if not _has_moved_on(ticket):
        if is_pulled and open_to:
            yield ticket_messages.message(ticket, at, _EVENT), open_to[0]
        return
    for door in open_to:
        if (first := _as_created(door, ticket, at)) is not None:
            yield first, door
            yield ticket_messages.message(ticket, at), door
            return


def _has_moved_on(ticket: Mapping[str, Any]) -> bool:
    """Whether a ticket changed since its creation, as far as its dates show."""
    created, changed = (
        ticket_messages.moment(ticket.get("dateoccurred")),
        ticket_messages.moment(ticket.get("last_update")),
    )
    return created is None or changed is None or abs(changed - created) > _AT_ONCE


def _as_created(door: CompiledIntegration, ticket: Mapping[str, Any], at: datetime) -> Element | None:
    """The message of the new ticket, if it would have opened an alert with some status."""
    rest = without_status(ticket)
    for status in ({}, *({"status_id": int(number)} for number in _opening(door))):
        said = ticket_messages.message({**rest, **status}, at, _EVENT, MOVED_ON)
        found = door.reader.read(said)
        if isinstance(found, NormalizedEvent) and found.intent is EventAction.OPEN and found.filter_verdict().is_true:
            return Element(said.payload, said.raw, (MOVED_ON,))
    return None


def _opening(door: CompiledIntegration) -> list[str]:
    """The ids of the statuses that open an alert, for installations where New has another name."""
    known = door.settings.get("statuses")
    names = known.items() if isinstance(known, Mapping) else ()
    rules = door.reader.rules
    return [
        number
        for number, name in names
        if str(number).isdecimal() and action_of_status(rules, str(name)) is StatusEffect.OPEN
    ]


_HEARD = """
SELECT integration_id, source_id, raw, content_type FROM inbound_inboundmessage
WHERE integration_id = ANY(%(doors)s) AND id >= %(since)s AND source_id = ANY(%(tickets)s)
  AND NOT test AND replay_of IS NULL AND NOT headers ? %(found_by)s ORDER BY id LIMIT 500
"""


def mark_reported(
    doors: Sequence[CompiledIntegration], tickets: Sequence[str], last_polled_at: datetime | None, now: datetime
) -> set[str]:
    """Those of these tickets whose creation a webhook reported, so that the rules have decided on them."""
    since = max(last_polled_at or now - _MAX_LOOK_BACK, now - _MAX_LOOK_BACK) - _BEFORE
    wanted = {
        "doors": [door.id for door in doors],
        "since": first_uuid7(since),
        "tickets": list(tickets),
        "found_by": next(iter(ticket_messages.HEADERS)),
    }
    by_id = {door.id: door for door in doors}
    with database.transaction() as connection:
        rows = database.rows(connection, _HEARD, wanted)
    return {
        row["source_id"]
        for row in rows
        if reports_new_status(by_id[row["integration_id"]].reader, decompress(row["raw"]), row["content_type"])
    }
