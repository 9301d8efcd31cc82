"""What connectors ask the database for before a call leaves, and keep in it afterwards: a hook for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tocsin.core.db.database import Connection
from tocsin.outbound.connectors.interfaces import CallJob
from tocsin.outbound.delivery.integration_pool import ActiveIntegration, IntegrationPool
from tocsin.outbound.delivery.results import CallResult


class JobHooks(Protocol):
    """What one kind does around its calls, inside the outbox's transactions; list-wise."""

    def prepare(self, connection: Connection, opened: ActiveIntegration, jobs: Sequence[CallJob]) -> Sequence[CallJob]:
        """The jobs with what they need to know; may note on their rows what they are about to write."""
        ...

    def conclude(self, connection: Connection, opened: ActiveIntegration, results: Sequence[CallResult]) -> None:
        """Keeps what was learnt."""
        ...


_preparers: dict[str, JobHooks] = {}


def register(kind: str, preparer: JobHooks) -> None:
    """Has `preparer` work for calls of that kind."""
    _preparers[kind] = preparer


def prepare(connection: Connection, directory: IntegrationPool, jobs: list[CallJob]) -> list[CallJob]:
    """The jobs as their kinds prepared them, in their order."""
    prepared = {job.id: job for job in jobs}
    for opened, preparer in _with_preparer(directory, {job.integration_id for job in jobs}):
        own = [job for job in jobs if job.integration_id == opened.account.id]
        prepared |= {job.id: replace(job) for job in preparer.prepare(connection, opened, own)}
    return [prepared[job.id] for job in jobs]


def conclude(connection: Connection, directory: IntegrationPool, results: Sequence[CallResult]) -> None:
    """Tells each kind what came of its calls."""
    for opened, preparer in _with_preparer(directory, {result.job.integration_id for result in results}):
        preparer.conclude(connection, opened, [r for r in results if r.job.integration_id == opened.account.id])


def _with_preparer(directory: IntegrationPool, ids: set[int]) -> list[tuple[ActiveIntegration, JobHooks]]:
    found = []
    for number in sorted(ids):
        opened = directory.get(number)
        if opened is not None and opened.kind.name in _preparers:
            found.append((opened, _preparers[opened.kind.name]))
    return found
