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
from tocsin.inbound.processing.drain import drain as drain_drain
from tocsin.inbound.storage import retention


def worker_tasks(registry: IntegrationRegistry) -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a worker."""

    def drain_once() -> bool:
        return drain_drain(registry, AlertIdAllocator(), clock.now())

    return (
        PeriodicTask("inbound drain", drain_once, timedelta(seconds=1), frozenset({"pending"})),
        drain.due_alerts_task(registry),
        heartbeats.heartbeat_monitor_task(registry),
        email.mailbox_polling_task(registry),
        retention.retention_task(),
        retention.search_index_task(),
    )


def receiver_tasks(registry: IntegrationRegistry, refused_requests: RefusedRequests) -> tuple[PeriodicTask, ...]:
    """Returns the periodic tasks of a node that receives messages."""
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
