"""Database hooks of connectors, run before calls are sent and after their results arrive; one per kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tocsin.core.db.database import Connection
from tocsin.outbound.connectors.interfaces import CallJob
from tocsin.outbound.delivery.integration_pool import ActiveIntegration, IntegrationPool
from tocsin.outbound.delivery.results import CallResult


class JobHooks(Protocol):
    """Hooks for one kind's calls, run in the outbox's transactions and in bulk."""

    def prepare(
        self, connection: Connection, integration: ActiveIntegration, jobs: Sequence[CallJob]
    ) -> Sequence[CallJob]:
        """Returns the jobs with their data from the database. May record on their rows what they are about to write."""
        ...

    def conclude(self, connection: Connection, integration: ActiveIntegration, results: Sequence[CallResult]) -> None:
        """Stores what the results contain."""
        ...


_preparers: dict[str, JobHooks] = {}


def register(kind: str, preparer: JobHooks) -> None:
    """Registers the hooks for calls of that kind."""
    _preparers[kind] = preparer


def prepare(connection: Connection, pool: IntegrationPool, jobs: list[CallJob]) -> list[CallJob]:
    """Returns the prepared jobs in their original order."""
    prepared = {job.id: job for job in jobs}
    for integration, preparer in _with_preparer(pool, {job.integration_id for job in jobs}):
        own_jobs = [job for job in jobs if job.integration_id == integration.account.id]
        prepared |= {job.id: replace(job) for job in preparer.prepare(connection, integration, own_jobs)}
    return [prepared[job.id] for job in jobs]


def conclude(connection: Connection, pool: IntegrationPool, results: Sequence[CallResult]) -> None:
    """Passes each kind the results of its calls."""
    for integration, preparer in _with_preparer(pool, {result.job.integration_id for result in results}):
        preparer.conclude(
            connection, integration, [r for r in results if r.job.integration_id == integration.account.id]
        )


def _with_preparer(pool: IntegrationPool, ids: set[int]) -> list[tuple[ActiveIntegration, JobHooks]]:
    pairs = []
    for integration_id in sorted(ids):
        integration = pool.get(integration_id)
        if integration is not None and integration.kind.name in _preparers:
            pairs.append((integration, _preparers[integration.kind.name]))
    return pairs
