"""`/healthz`, `/readyz` and `/metrics`, on raw ASGI: they answer while Django's threads are busy."""

from __future__ import annotations

import asyncio
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from tocsin.core import clock, database
from tocsin.core.http import Receive, Scope, Send, answer, refuse
from tocsin.core.loops import Worker
from tocsin.inbound.committer import Committer
from tocsin.operate import durability

_TEXT = b"text/plain; charset=utf-8"


class Probes:
    """What this node answers about itself."""

    def __init__(self, *, node_id: UUID, worker: Worker | None, committer: Committer | None) -> None:
        self._node_id = node_id
        self._worker = worker
        self._committer = committer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one probe."""
        if scope["method"] not in ("GET", "HEAD"):
            await refuse(send, 405, "method_not_allowed", "Ask with GET.", headers=((b"allow", b"GET, HEAD"),))
            return
        match scope["path"]:
            case "/healthz":
                problem = self.problem_with_health()
            case "/readyz":
                problem = self.problem_with_health() or await asyncio.to_thread(problem_with_readiness)
            case _:
                await refuse(send, 404, "not_found", "There is no such probe.")
                return
        if problem is None:
            await answer(send, 200, b"ok", content_type=_TEXT)
        else:
            await answer(send, 503, problem.encode(), content_type=_TEXT)

    def problem_with_health(self) -> str | None:
        """Why this process should be started again, or None while it and its loops live."""
        if self._committer is not None and not self._committer.is_alive():
            return "the committer has ended"
        if self._worker is not None and not self._worker.is_healthy():
            return "loops died twice within a minute"
        return None


def problem_with_readiness() -> str | None:
    """Why this node should get no messages now, or None when schema, clock and durability are right."""
    try:
        with database.pool().connection(timeout=3) as connection:
            clock.measure_if_due(connection)
            problem = durability.problem(connection)
    except (psycopg.Error, PoolTimeout) as error:
        return f"the database does not answer: {error}"
    if problem is not None:
        return problem
    if not clock.is_sound():
        return f"this machine's clock and the database's are {abs(clock.skew().total_seconds()):.1f} s apart"
    return None
