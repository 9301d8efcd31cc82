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
from tocsin.outbound.connectors.haloitsm.client import id_text
from tocsin.outbound.halo_sync import ticket_messages
from tocsin.outbound.halo_sync.reasons import CHANGED_SINCE_CREATION

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
        ticket_messages.parse_date(ticket.get("dateoccurred")),
        ticket_messages.parse_date(polled_until),
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
            yield ticket_messages.message(ticket, at, _EVENT), unopened[0]
        return
    for integration in unopened:
        if (creation_message := _creation_message(integration, ticket, at)) is not None:
            yield creation_message, integration
            yield ticket_messages.message(ticket, at), integration
            return


def _has_changed(ticket: Mapping[str, Any]) -> bool:
    """Whether a ticket changed since its creation, as far as its dates show."""
    created, changed = (
        ticket_messages.parse_date(ticket.get("dateoccurred")),
        ticket_messages.parse_date(ticket.get("last_update")),
    )
    return created is None or changed is None or abs(changed - created) > _SAME_CREATION


def _creation_message(integration: CompiledIntegration, ticket: Mapping[str, Any], at: datetime) -> Element | None:
    """The message of the new ticket, if it would have opened an alert with some status."""
    fields = without_status(ticket)
    for status in ({}, *({"status_id": int(status_id)} for status_id in _opening_status_ids(integration))):
        message = ticket_messages.message({**fields, **status}, at, _EVENT, str(CHANGED_SINCE_CREATION()))
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
        "found_by": next(iter(ticket_messages.HEADERS)),
    }
    by_id = {integration.id: integration for integration in integrations}
    with database.transaction() as connection:
        rows = database.rows(connection, _REPORTED, parameters)
    return {
        row["source_id"]
        for row in rows
        if reports_new_status(by_id[row["integration_id"]].normalizer, decompress(row["raw"]), row["content_type"])
    }
