"""The periodic tasks of inbound: those of a worker, and those of a node that receives messages."""

from __future__ import annotations

from datetime import timedelta

from psycopg import errors

from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound import email, heartbeats
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.ingest_service import RefusedRequests
from tocsin.inbound.processing import drain
from tocsin.inbound.processing.batch import AlertIdAllocator
from tocsin.inbound.storage import retention
from tocsin.inbound.storage.retention import RetentionTask


def worker_tasks(registry: IntegrationRegistry) -> tuple[PeriodicTask, ...]:
    second = timedelta(seconds=1)
    retention_task = RetentionTask()
    # A new allocator for each run: spare ids of an earlier run could be lower than ids that the search index passed.
    return (
        PeriodicTask(
            "inbound drain",
            lambda: drain.drain(registry, AlertIdAllocator(), clock.now()),
            second,
            frozenset({"pending"}),
            due="EXISTS (SELECT FROM inbound_inboundmessage WHERE status = 'Pending')",
        ),
        PeriodicTask(
            "inbound delayed openings",
            lambda: drain.open_due(registry, AlertIdAllocator(), clock.now()),
            second,
            frozenset({"delayed"}),
            due="EXISTS (SELECT FROM inbound_delayedalert WHERE due_at <= %(now)s)",
        ),
        heartbeats.heartbeat_monitor_task(registry),
        PeriodicTask("inbound mailboxes", lambda: email.poll_all(registry), email.POLL_INTERVAL),
        PeriodicTask("inbound prune", lambda: retention_task.run_once(clock.now()), timedelta(minutes=1)),
        PeriodicTask("inbound search", lambda: retention.run_once(clock.now()), second, due=retention.HAS_UNINDEXED),
    )


def receiver_tasks(registry: IntegrationRegistry, refused_requests: RefusedRequests) -> tuple[PeriodicTask, ...]:
    return (
        PeriodicTask("inbound rotated tokens", lambda: write_expired(registry), timedelta(seconds=10)),
        PeriodicTask("inbound refused", lambda: refused_requests.write(clock.now()), timedelta(seconds=10)),
    )


def write_expired(registry: IntegrationRegistry) -> bool:
    """Adds the counted requests with expired tokens to their integrations; if that fails, keeps them."""
    counts = registry.take_expired()
    if not counts:
        return False
    try:
        with database.transaction() as connection:
            connection.execute(
                "UPDATE inbound_integration i SET previous_token_requests = i.previous_token_requests + n.posts "
                "FROM unnest(%s::bigint[], %s::int[]) AS n(id, posts) WHERE i.id = n.id",
                (list(counts), list(counts.values())),
            )
    except errors.Error:
        for integration_id, requests in counts.items():
            registry.count_expired(integration_id, requests)
        raise
    return False
