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

    def prepare(self, connection: Connection, opened: ActiveIntegration, jobs: Sequence[CallJob]) -> Sequence[CallJob]:
        """Returns the jobs with their data from the database. May record on their rows what they are about to write."""
        ...

    def conclude(self, connection: Connection, opened: ActiveIntegration, results: Sequence[CallResult]) -> None:
        """Stores what the results contain."""
        ...


_preparers: dict[str, JobHooks] = {}


def register(kind: str, preparer: JobHooks) -> None:
    """Registers the hooks for calls of that kind."""
    _preparers[kind] = preparer


def prepare(connection: Connection, directory: IntegrationPool, jobs: list[CallJob]) -> list[CallJob]:
    """Returns the prepared jobs in their original order."""
    prepared = {job.id: job for job in jobs}
    for opened, preparer in _with_preparer(directory, {job.integration_id for job in jobs}):
        own = [job for job in jobs if job.integration_id == opened.account.id]
        prepared |= {job.id: replace(job) for job in preparer.prepare(connection, opened, own)}
    return [prepared[job.id] for job in jobs]


def conclude(connection: Connection, directory: IntegrationPool, results: Sequence[CallResult]) -> None:
    """Passes each kind the results of its calls."""
    for opened, preparer in _with_preparer(directory, {result.job.integration_id for result in results}):
        preparer.conclude(connection, opened, [r for r in results if r.job.integration_id == opened.account.id])


def _with_preparer(directory: IntegrationPool, ids: set[int]) -> list[tuple[ActiveIntegration, JobHooks]]:
    found = []
    for number in sorted(ids):
        opened = directory.get(number)
        if opened is not None and opened.kind.name in _preparers:
            found.append((opened, _preparers[opened.kind.name]))
    return found
