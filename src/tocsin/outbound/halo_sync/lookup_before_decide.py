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
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind, Throttled, failure_of
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import NO_REASON, Reason, reason_as_json
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound.config import registry
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.deciding import state
from tocsin.inbound.storage.messages import add_to_verdict
from tocsin.outbound.connectors.haloitsm.connector import HaloSender
from tocsin.outbound.connectors.interfaces import CallDone, RecordedClient
from tocsin.outbound.delivery import results
from tocsin.outbound.delivery.results import ActiveIntegration, IntegrationPool
from tocsin.outbound.halo_sync import reasons

log = logging.getLogger(__name__)

#: Messages completed per run.
_MAX_MESSAGES_PER_RUN = 5
#: Longer ticket texts are irrelevant for a decision and left out.
_MAX_TEXT_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class TicketLookup:
    """The ticket in Halo, or why it is unknown."""

    ticket: Mapping[str, Any] = field(default_factory=dict)
    #: Why the message is decided without the ticket, appended to its reason.
    skip_reason: Reason = NO_REASON
    #: Until when Halo rate-limits Tocsin.
    retry_at: datetime | None = None


def lookup_task(pool: IntegrationPool) -> PeriodicTask:
    """The worker's periodic task."""
    topics = frozenset({state.TICKET_FETCH})
    return PeriodicTask(
        "outbound ask", lambda: complete_waiting_messages(pool, clock.now), timedelta(seconds=1), topics
    )


def complete_waiting_messages(pool: IntegrationPool, now: Callable[[], datetime]) -> bool:
    """Completes waiting messages, a few at a time, by reading their tickets from Halo."""
    with database.transaction() as connection:
        pool.refresh(connection)
        messages = database.rows(
            connection,
            "SELECT id, integration_id, source_id, received_at FROM inbound_inboundmessage "
            "WHERE status = 'Pending' AND verdict ->> 'reread' = 'wanted' ORDER BY id LIMIT %s",
            (_MAX_MESSAGES_PER_RUN,),
        )
    if not messages:
        return False
    inbound_registry = registry.shared_registry()
    inbound_registry.refresh()
    lookups: dict[tuple[int, str], TicketLookup] = {}
    has_progress = False
    for row in messages:
        key = (row["integration_id"], row["source_id"])
        if key not in lookups:
            lookups[key] = _fetch_ticket(pool, inbound_registry, key, now)
        lookup = lookups[key]
        if lookup.retry_at is not None and lookup.retry_at < row["received_at"] + state.LOOKUP_TIMEOUT:
            # The limit ends early enough to ask again.
            continue
        has_progress = True
        fields = {
            state.TICKET_FETCH: lookup.ticket,
            **({state.FETCH_SKIPPED: reason_as_json(lookup.skip_reason)} if lookup.skip_reason else {}),
        }
        with database.transaction() as connection:
            add_to_verdict(connection, row["id"], fields)
            database.notify(connection, "pending")
    return has_progress


def _fetch_ticket(
    pool: IntegrationPool,
    inbound_registry: registry.IntegrationRegistry,
    key: tuple[int, str],
    now: Callable[[], datetime],
) -> TicketLookup:
    """The ticket in Halo; without one if Halo must not be asked or does not answer."""
    try:
        inbound_integration = inbound_registry.get(key[0])
    except UnknownIntegration:
        return TicketLookup()
    integration = pool.get(inbound_integration.outbound_id or 0)
    if (
        integration is None
        or not isinstance(integration.sender, HaloSender)
        or not integration.account.settings.get("reread", True)
    ):
        return TicketLookup()
    started_at = now()
    if (skipped := _skip_reason(integration, started_at)) is not None:
        return skipped
    http_client = RecordedClient(pool.client, now, integration.secrets)
    try:
        ticket, _at = integration.sender.client.session(http_client, started_at).get_ticket(key[1])
    except (Temporary, Permanent) as error:
        log.info("Ticket %s could not be read before deciding: %s", key[1], error)
        outcome = failure_of(error)
        reason = _SKIP_REASONS.get(outcome.kind, reasons.LOOKUP_UNREACHABLE)()
        _record_outcome(pool, integration, http_client, outcome, now())
        if isinstance(error, Throttled):
            return _skip_reason(integration, now()) or TicketLookup(skip_reason=reason)
        return TicketLookup(skip_reason=reason)
    _record_outcome(pool, integration, http_client, CallDone(), now())
    return TicketLookup(
        {key: value for key, value in ticket.items() if not (isinstance(value, str) and len(value) > _MAX_TEXT_CHARS)}
    )


_SKIP_REASONS = {
    FailureKind.THROTTLED: reasons.LOOKUP_RATE_LIMITED,
    FailureKind.BLOCKED: reasons.LOOKUP_BLOCKED,
    FailureKind.PERMANENT: reasons.LOOKUP_HIDDEN,
}


def _skip_reason(integration: ActiveIntegration, now: datetime) -> TicketLookup | None:
    """Why Halo must not be asked now; None if it may be."""
    with database.transaction() as connection:
        row = database.row(
            connection,
            "SELECT open_until, blocked_until, not_before FROM outbound_integrationstatus WHERE integration_id = %s",
            (integration.account.id,),
        )
    if row is None:
        return None
    status: Mapping[str, datetime | None] = row
    causes = {
        "blocked_until": reasons.LOOKUP_BLOCKED,
        "open_until": reasons.LOOKUP_UNREACHABLE,
        "not_before": reasons.LOOKUP_RATE_LIMITED,
    }
    for name, reason in causes.items():
        if (until := status[name]) is not None and until > now:
            return TicketLookup(skip_reason=reason(), retry_at=until if name == "not_before" else None)
    return None


def _record_outcome(
    pool: IntegrationPool,
    integration: ActiveIntegration,
    http_client: RecordedClient,
    outcome: CallDone | AttemptFailed,
    now: datetime,
) -> None:
    """Records the outcome on the integration, like a call's outcome."""
    if isinstance(outcome, AttemptFailed):
        outcome = replace(outcome, error=http_client.mask_reason(outcome.error))
    with database.transaction() as connection:
        results.update_status(connection, pool, integration.account.id, [(outcome, now)], http_client.requests)
        if isinstance(outcome, AttemptFailed):
            results.store_exchange(
                connection, [(integration.account.id, None, exchange) for exchange in http_client.exchanges]
            )
