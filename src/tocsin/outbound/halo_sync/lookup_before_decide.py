"""Reads a ticket from Halo before deciding on a message that does not contain the ticket's state.

While Halo is unreachable, rejects Tocsin or rate-limits it, no lookup is made, and the message is decided as it is,
with the reason noted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.json_text import as_storable_json
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.config import registry
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.deciding import echo_suppression
from tocsin.outbound.connectors.haloitsm.connector import HaloSender
from tocsin.outbound.connectors.interfaces import CallDone, NeedsAttention, RecordedClient, Throttled
from tocsin.outbound.delivery import results
from tocsin.outbound.delivery.integration_pool import ActiveIntegration, IntegrationPool
from tocsin.outbound.delivery.results import CallFailed, CallFailure

log = logging.getLogger(__name__)

#: Messages completed per run.
_MAX_MESSAGES_PER_RUN = 5
#: Longer ticket texts are irrelevant for a decision and left out.
_MAX_TEXT_CHARS = 100_000

#: Why a message was decided without Halo, appended to its reason.
HALO_BLOCKED = "decided without asking Halo, which refuses Tocsin until somebody acts"
HALO_UNREACHABLE = "decided without asking Halo, which does not answer"
HALO_RATE_LIMITED = "decided without asking Halo, which asks for patience"
TICKET_HIDDEN = "decided as it is, because Halo does not show the ticket"


@dataclass(frozen=True, slots=True)
class TicketLookup:
    """The ticket in Halo, or why it is unknown."""

    ticket: Mapping[str, Any] = field(default_factory=dict)
    unasked: str = ""
    #: Until when Halo rate-limits Tocsin.
    later: datetime | None = None


def loop(directory: IntegrationPool) -> PeriodicTask:
    """The worker's periodic task."""
    topics = frozenset({echo_suppression.REREAD})
    return PeriodicTask("outbound ask", lambda: ask_about(directory, clock.now), timedelta(seconds=1), topics)


def ask_about(directory: IntegrationPool, now: Callable[[], datetime]) -> bool:
    """Completes waiting messages, a few at a time, by reading their tickets from Halo."""
    with database.transaction() as connection:
        directory.refresh(connection)
        waiting = database.rows(
            connection,
            "SELECT id, integration_id, source_id, received_at FROM inbound_inboundmessage "
            "WHERE status = 'Pending' AND verdict ->> 'reread' = 'wanted' ORDER BY id LIMIT %s",
            (_MAX_MESSAGES_PER_RUN,),
        )
    if not waiting:
        return False
    doors = registry.shared_registry()
    doors.refresh()
    found: dict[tuple[int, str], TicketLookup] = {}
    is_any = False
    for row in waiting:
        key = (row["integration_id"], row["source_id"])
        if key not in found:
            found[key] = _ticket(directory, doors, key, now)
        one = found[key]
        if one.later is not None and one.later < row["received_at"] + echo_suppression.LOOKUP_TIMEOUT:
            # The limit ends early enough to ask again.
            continue
        is_any = True
        kept = {echo_suppression.REREAD: one.ticket, **({echo_suppression.UNASKED: one.unasked} if one.unasked else {})}
        with database.transaction() as connection:
            connection.execute(
                "UPDATE inbound_inboundmessage SET verdict = verdict || %s WHERE id = %s AND status = 'Pending'",
                (as_storable_json(kept), row["id"]),
            )
            database.notify(connection, "pending")
    return is_any


def _ticket(
    directory: IntegrationPool, doors: registry.IntegrationRegistry, key: tuple[int, str], now: Callable[[], datetime]
) -> TicketLookup:
    """The ticket in Halo; without one if Halo must not be asked or does not answer."""
    try:
        door = doors.door(key[0])
    except UnknownIntegration:
        return TicketLookup()
    opened = directory.get(door.outbound_id or 0)
    if opened is None or not isinstance(opened.sender, HaloSender) or not opened.account.settings.get("reread", True):
        return TicketLookup()
    at = now()
    if (unasked := _why_not(opened, at)) is not None:
        return unasked
    line = RecordedClient(directory.client, now, opened.secrets)
    try:
        ticket, _at = opened.sender.client.ticket(line, key[1], at)
    except (Temporary, Permanent) as error:
        log.info("Ticket %s could not be read before deciding: %s", key[1], error)
        failed, why = _failure(error)
        _note(directory, opened, line, failed, now())
        if isinstance(error, Throttled):
            return _why_not(opened, now()) or TicketLookup(unasked=why)
        return TicketLookup(unasked=why)
    _note(directory, opened, line, CallDone(), now())
    return TicketLookup(
        {key: value for key, value in ticket.items() if not (isinstance(value, str) and len(value) > _MAX_TEXT_CHARS)}
    )


def _why_not(opened: ActiveIntegration, now: datetime) -> TicketLookup | None:
    """Why Halo must not be asked now; None if it may be."""
    with database.transaction() as connection:
        standing = database.row(
            connection,
            "SELECT open_until, blocked_until, not_before FROM outbound_integrationstatus WHERE integration_id = %s",
            (opened.account.id,),
        )
    if standing is None:
        return None
    until: Mapping[str, datetime | None] = standing
    for name, why in (
        ("blocked_until", HALO_BLOCKED),
        ("open_until", HALO_UNREACHABLE),
        ("not_before", HALO_RATE_LIMITED),
    ):
        moment = until[name]
        if moment is not None and moment > now:
            return TicketLookup(unasked=why, later=moment if why == HALO_RATE_LIMITED else None)
    return None


def _failure(error: Temporary | Permanent) -> tuple[CallFailed, str]:
    match error:
        case Throttled():
            return CallFailed(CallFailure.THROTTLED, error.detail, error.retry_after), HALO_RATE_LIMITED
        case Temporary():
            return CallFailed(CallFailure.TEMPORARY, error.detail), HALO_UNREACHABLE
        case NeedsAttention():
            return CallFailed(CallFailure.BARRED, str(error)), HALO_BLOCKED
        case _:
            return CallFailed(CallFailure.PERMANENT, str(error)), TICKET_HIDDEN


def _note(
    directory: IntegrationPool,
    opened: ActiveIntegration,
    line: RecordedClient,
    outcome: CallDone | CallFailed,
    now: datetime,
) -> None:
    """Records the outcome on the integration, like a call's outcome."""
    if isinstance(outcome, CallFailed):
        outcome = replace(outcome, error=line.masked(outcome.error))
    with database.transaction() as connection:
        results.record_outcome(connection, directory, opened.account.id, outcome, line.requests, now)
        if isinstance(outcome, CallFailed):
            results.store_exchange(connection, [(opened.account.id, None, one) for one in line.said])
