"""Another system, which workflows call: its server fails as dice say, and what it was asked for is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from tests.store.people import ACTOR
from tests.walk.world import Asked, World
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.outbound.commands import save_outbound
from tocsin.outbound.connectors.interfaces import CallDone, CallJob, RecordedClient, Throttled
from tocsin.outbound.delivery.claim import claim
from tocsin.outbound.delivery.dispatcher import CallDispatcher, make
from tocsin.outbound.delivery.integration_pool import IntegrationPool
from tocsin.outbound.rate_limit import RequestRate
from tocsin.workflows.commands import save_workflow

NAME = "Pager"

_FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: Temporary("It is away."),
    lambda: Temporary("It is away."),
    lambda: OutcomeUnknown("No answer came."),
    lambda: Permanent("It does not know that."),
    lambda: Throttled("It is too much now."),
)


def settle_in(world: World) -> None:
    """The other system, the loops that call it, and sometimes a workflow that has much done there."""
    save_outbound({"name": NAME, "kind": "http", "url": "https://pager.example.org/"}, actor=ACTOR, now=world.now)
    if world.rng.random() < 0.5:
        for trigger in ("opened", "acknowledged", "closed"):
            spec = {"name": f"When {trigger}", "trigger": trigger, "actions": [{"do": "call", "outbound": NAME}] * 2}
            save_workflow(spec, actor=ACTOR, now=world.now)
    directory = _Elsewhere(world)
    # One at a time: the dice fall in the same order in each walk of a seed.
    outbox = CallDispatcher(slots=1, directory=directory, now=lambda: world.now, jitter=lambda: 0.0)

    def send() -> bool:
        # One at a time, and many may be due.
        before = -1
        while directory.tries != before:
            before = directory.tries
            outbox.turn()
            outbox.settle()
        return False

    world.loops |= {"outbound": send, "outbound leases": outbox.keep_leases}
    world.at_the_end.append(outbox.close)
    world.elsewhere = directory


def die_calling(world: World) -> int:
    """A process claims the calls that are due and ends, before or after each was made. Returns how many it had."""
    directory = world.elsewhere
    assert isinstance(directory, IntegrationPool)
    with database.transaction() as connection:
        directory.refresh(connection)
        jobs = claim(connection, directory, 9, "a process that ends", world.now)
    for job in jobs:
        if world.rng.random() < 0.5:
            make(directory, job, lambda: world.now)
    return len(jobs)


@dataclass
class _DiceCaller:
    rate: RequestRate
    directory: _Elsewhere

    def send(self, job: CallJob, line: RecordedClient, now: datetime) -> CallDone:
        self.directory.tries += 1
        weather = self.directory.world.weather
        failure = weather.rng.choice(_FAILURES)() if weather.fails(NAME) else None
        # What nothing was heard of may have been done.
        if failure is None or isinstance(failure, OutcomeUnknown):
            self.directory.world.asked.append(Asked(job.id, job.order_key, job.is_uncertain))
        if failure is not None:
            raise failure
        return CallDone("Done.")

    def verify(self, line: RecordedClient, now: datetime) -> str:
        return "It works."


class _Elsewhere(IntegrationPool):
    """What is configured, but for the server."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        #: How often it was called, heard or not.
        self.tries = 0

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        self._open = {n: replace(one, sender=_DiceCaller(one.sender.rate, self)) for n, one in self._open.items()}
