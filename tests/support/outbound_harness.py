"""An outbound call dispatcher with a controlled clock, and calls created in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.support.people import ACTOR
from tocsin.core.db import database
from tocsin.core.reasons import as_reason
from tocsin.outbound import commands
from tocsin.outbound.delivery.dispatcher import CallDispatcher
from tocsin.outbound.delivery.queue import NewCall, queue
from tocsin.outbound.models import Call, IntegrationStatus, OutboundIntegration


@dataclass
class OutboundHarness:
    """Time is told by `seconds` from the start; `go` moves it and lets the outbox make all calls that are then due."""

    start: datetime
    seconds: float = 0.0
    outboxes: list[CallDispatcher] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    def integration(self, **spec: Any) -> OutboundIntegration:
        whole = {"name": "Pager", "kind": "http", **spec}
        return commands.save_outbound(whole, actor=ACTOR, now=self.now)

    def queue(self, integration: OutboundIntegration, *keys: str, **values: Any) -> list[int]:
        """One call for each key, in their order."""
        calls = [
            NewCall(
                integration.pk,
                key,
                "call",
                as_reason(f"Call {number} of {key}"),
                content={"values": {"n": number, **values}},
            )
            for number, key in enumerate(keys)
        ]
        with database.transaction() as connection:
            return queue(connection, calls, self.now)

    def outbox(self) -> CallDispatcher:
        box = CallDispatcher(now=lambda: self.now, jitter=lambda: 0.0)
        self.outboxes.append(box)
        return box

    def go(self, seconds: float | None = None, turns: int = 300) -> None:
        self.seconds = self.seconds if seconds is None else seconds
        box = (self.outboxes or [self.outbox()])[0]
        for _ in range(turns):
            if not run_once(box):
                return

    def calls(self, **wanted: Any) -> list[Call]:
        return list(Call.objects.filter(**wanted).order_by("pk"))

    def status(self, integration: OutboundIntegration) -> IntegrationStatus:
        return IntegrationStatus.objects.get(pk=integration.pk)


def run_once(box: CallDispatcher) -> bool:
    """One turn and what comes of it; whether anything did. What is claimed may have been written down before anybody
    could look at what is on its way."""
    before = _call_states()
    box.run_once()
    box.settle()
    return _call_states() != before


def _call_states() -> list[tuple[object, ...]]:
    return list(Call.objects.order_by("pk").values_list("status", "attempts", "due_at", "error__code"))


@contextmanager
def desk(now: datetime) -> Iterator[OutboundHarness]:
    made = OutboundHarness(now)
    try:
        yield made
    finally:
        for box in made.outboxes:
            box.close()
