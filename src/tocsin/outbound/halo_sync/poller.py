"""Decides which Halo is polled when, and stores the result of each poll (`poll_run`).

Polls every few minutes, in pull mode every half minute, and immediately after an outage. Also detects deleted or merged
tickets, and webhooks that are silent or disabled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.json_text import as_json
from tocsin.core.delivery.failure import NeedsAttention, Throttled
from tocsin.core.delivery.lease import LeaseLost
from tocsin.core.delivery.rate_limit import RateLimit
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import Reason, joined
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.stored_reason import reason_columns
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.enums import IntegrationMode
from tocsin.outbound import retry_policy
from tocsin.outbound.connectors.haloitsm.connector import HaloSender
from tocsin.outbound.connectors.interfaces import CallDone, RecordedClient
from tocsin.outbound.delivery import results
from tocsin.outbound.delivery.integration_pool import IntegrationPool
from tocsin.outbound.halo_sync import lookup_before_decide, poll_lease, reasons
from tocsin.outbound.halo_sync.poll_run import PollRun

log = logging.getLogger(__name__)

POLL_INTERVAL = timedelta(minutes=3)
PULL_INTERVAL = timedelta(seconds=30)
#: In pull mode polling is the only source of tickets, so a rejection that lasted only a minute must not block for long.
BLOCKED_INTERVAL = timedelta(minutes=5)

_WRITE = """
UPDATE outbound_integrationstatus SET next_poll_at = %(next)s,
       last_polled_at = coalesce(%(last_polled_at)s, last_polled_at), polled_until = %(polled_until)s,
       poll_state = %(poll_state)s,
       poll_error_code = %(code)s, poll_error_data = %(data)s, ingested_count = ingested_count + %(ingested)s,
       webhook_problem_code = %(webhook_code)s, webhook_problem_data = %(webhook_data)s, granted_to = %(granted)s
WHERE integration_id = %(id)s
"""

_BLOCK = """
UPDATE outbound_integrationstatus SET
       problem_code = %(code)s::text, problem_data = %(data)s::jsonb, blocked_until = %(until)s,
       problem_at = CASE WHEN problem_code = %(code)s::text AND problem_data = %(data)s::jsonb
                    THEN problem_at ELSE %(now)s END
WHERE integration_id = %(id)s
"""


_DEFER = """
UPDATE outbound_integrationstatus SET not_before = greatest(not_before, %(until)s),
       next_poll_at = greatest(next_poll_at, %(until)s)
WHERE integration_id = %(id)s
"""


def poll(pool: IntegrationPool, now: Callable[[], datetime]) -> bool:
    """Polls the Halo that is due next. Returns whether there was one."""
    started_at = now()
    with database.transaction() as connection:
        pool.refresh(connection)
        lease = poll_lease.claim(connection, started_at)
    if lease is None:
        return False
    status = lease.status
    integration = pool.get(lease.integration_id)
    if integration is None or not isinstance(integration.sender, HaloSender):
        return False
    http_client = RecordedClient(pool.client, now, integration.secrets, before_request=lease.renew)
    run = PollRun(
        status["integration_id"], integration.sender.client, http_client, integration.account.settings,
        status["polled_until"],
        dict(status["poll_state"]), _inbound_integrations(status["integration_id"]), started_at,
        status["last_polled_at"],
    )  # fmt: skip
    problem: Temporary | Permanent | None = None
    try:
        run.run()
    except LeaseLost:
        log.warning("The look at outbound integration %s took too long: another process goes on.", run.integration_id)
        return True
    except (Temporary, Permanent) as error:
        problem = error
    except Exception as error:  # one Halo's edge: show the error to users, and poll again at the next interval
        if database.is_unavailable(error):
            raise
        log.exception("The tickets of outbound integration %s cannot be read.", run.integration_id)
        problem = Permanent(reasons.NOT_UNDERSTOOD())
    try:
        _write(run, pool, integration.sender.rate, lease, problem)
    except LeaseLost:
        log.warning("The look at outbound integration %s took too long: another process goes on.", run.integration_id)
    return True


def _inbound_integrations(integration_id: int) -> list[CompiledIntegration]:
    inbound_registry = registry.shared_registry()
    inbound_registry.refresh()
    linked = [
        integration for integration in inbound_registry.get_all().values() if integration.outbound_id == integration_id
    ]
    pollable = [
        integration
        for integration in linked
        if integration.mode is not IntegrationMode.DISABLED and integration.normalizer.kind.assigns_source_agent
    ]
    return sorted(pollable, key=lambda integration: integration.id)


def _write(
    run: PollRun,
    pool: IntegrationPool,
    rate: RateLimit,
    lease: poll_lease.PollLease,
    problem: Temporary | Permanent | None,
) -> None:
    interval = PULL_INTERVAL if run.settings.get("pull") else POLL_INTERVAL
    if isinstance(problem, NeedsAttention):
        interval = BLOCKED_INTERVAL
    code, data = reason_columns(run.http_client.mask_reason(_reason_of(run, problem)))
    webhook_code, webhook_data = reason_columns(run.http_client.mask_reason(run.webhook_problem))
    throttle_count = int(run.poll_state.pop("throttled", 0)) + 1
    if isinstance(problem, Throttled):
        run.poll_state["throttled"] = throttle_count
    with database.transaction() as connection:
        lease.end(connection)
        if problem is None and lease.was_blocked:
            # Clears the problem found by polling; its requests are charged below.
            results.record_outcome(connection, pool, run.integration_id, CallDone(), 0, run.now)
        connection.execute(
            _WRITE,
            {
                "next": run.now + interval,
                "last_polled_at": run.now if problem is None else None,
                "polled_until": run.polled_until,
                "poll_state": as_json(run.poll_state),
                "code": code,
                "data": as_json(data),
                "ingested": run.ingested_count,
                "webhook_code": webhook_code,
                "webhook_data": as_json(webhook_data),
                "granted": rate.used_until(lease.status["granted_to"])
                .charge(run.http_client.requests, run.now)
                .free_at,
                "id": run.integration_id,
            },
        )
        if isinstance(problem, NeedsAttention):
            until = run.now + retry_policy.BLOCKED_INTERVAL
            connection.execute(
                _BLOCK,
                {"code": code, "data": as_json(data), "until": until, "now": run.now, "id": run.integration_id},
            )
        if isinstance(problem, Throttled):
            until = run.now + retry_policy.throttle_wait(throttle_count, problem.retry_after)
            connection.execute(_DEFER, {"until": until, "id": run.integration_id})
        # Successful polls are logged only if they found changes.
        if problem is not None or run.ingested_count:
            recorded = [(run.integration_id, None, recorded) for recorded in run.http_client.exchanges[-20:]]
            results.store_exchange(connection, recorded)
        database.notify(connection, "outbound-log")


def _reason_of(run: PollRun, problem: Temporary | Permanent | None) -> Reason:
    """Why the poll failed, or what it could not read."""
    if problem is None:
        return joined(*dict.fromkeys(run.remarks), separator=" ")
    return problem.full_reason


def polling_tasks(pool: IntegrationPool) -> tuple[PeriodicTask, ...]:
    """The polling tasks of a worker."""
    return (
        PeriodicTask(
            "outbound look", lambda: poll(pool, clock.now), timedelta(seconds=5), frozenset({"clock", "config"})
        ),
        lookup_before_decide.lookup_task(pool),
    )
