"""An external system that workflows call. Its server fails at random and keeps the requests it received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from tests.model.system import OutboundRequest, System
from tests.support.people import ACTOR
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import RateLimit, Throttled
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.reasons import Reason, as_reason
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, RecordedClient
from tocsin.outbound.delivery.dispatcher import CallDispatcher, claim, make_call
from tocsin.outbound.delivery.results import IntegrationPool
from tocsin.workflows.commands import save_workflow

NAME = "Pager"

_FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: Temporary(as_reason("It is away.")),
    lambda: Temporary(as_reason("It is away.")),
    lambda: OutcomeUnknown(as_reason("No answer came.")),
    lambda: Permanent(as_reason("It does not know that.")),
    lambda: Throttled(as_reason("It is too much now.")),
)


def set_up(system: System) -> None:
    """Adds the external system, the tasks that call it, and sometimes workflows with several calls."""
    save_outbound({"name": NAME, "kind": "http", "url": "https://pager.example.org/"}, actor=ACTOR, now=system.now)
    if system.rng.random() < 0.5:
        for trigger in ("opened", "acknowledged", "closed"):
            spec = {"name": f"When {trigger}", "trigger": trigger, "actions": [{"do": "call", "outbound": NAME}] * 2}
            save_workflow(spec, actor=ACTOR, now=system.now)
    pool = _RandomIntegrationPool(system)
    # One slot: random numbers are drawn in the same order in each walk of a seed.
    outbox = CallDispatcher(slots=1, pool=pool, now=lambda: system.now, jitter=lambda: 0.0)

    def send() -> bool:
        # One slot, and several calls may be due.
        before = -1
        while pool.tries != before:
            before = pool.tries
            outbox.run_once()
            outbox.settle()
        return False

    system.tasks |= {"outbound": send, "outbound leases": outbox.keep_leases}
    system.closers.append(outbox.close)
    system.integration_pool = pool


def crash_while_calling(system: System) -> int:
    """Claims the due calls and crashes before or after each was made. Returns the number of claimed calls."""
    pool = system.integration_pool
    assert isinstance(pool, IntegrationPool)
    with database.transaction() as connection:
        pool.refresh(connection)
        jobs = claim(connection, pool, {}, 9, "crashed process", system.now)
    for job in jobs:
        if system.rng.random() < 0.5:
            make_call(pool, job, lambda: system.now)
    return len(jobs)


@dataclass
class _RandomCaller:
    rate: RateLimit
    pool: _RandomIntegrationPool

    def send(self, job: CallJob, line: RecordedClient, now: datetime) -> CallDone:
        self.pool.tries += 1
        conditions = self.pool.system.conditions
        failure = conditions.rng.choice(_FAILURES)() if conditions.fails(NAME) else None
        # A request with an unknown outcome may have been processed.
        if failure is None or isinstance(failure, OutcomeUnknown):
            self.pool.system.outbound_requests.append(OutboundRequest(job.id, job.order_key, job.is_uncertain))
        if failure is not None:
            raise failure
        return CallDone(as_reason("Done."))

    def verify(self, line: RecordedClient, now: datetime) -> Reason:
        return as_reason("It works.")


class _RandomIntegrationPool(IntegrationPool):
    """The configured integrations with a simulated server."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system
        #: How often it was called, successfully or not.
        self.tries = 0

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        self._active = {n: replace(one, sender=_RandomCaller(one.sender.rate, self)) for n, one in self._active.items()}
