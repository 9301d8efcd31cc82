"""The composition root: which reactors follow an alert event, and which loops a worker runs."""

from __future__ import annotations

from uuid import UUID

from tocsin.alerts import reactors, rows
from tocsin.core.loops import Loop
from tocsin.escalation import loop as escalation
from tocsin.escalation import reactor as escalation_reactor
from tocsin.inbound import loop as inbound
from tocsin.inbound.registry import Registry
from tocsin.notify import loop as notify


def install() -> None:
    """Hangs the higher rooms' functions on the lower rooms' hooks. Called once, when all models are loaded."""
    # The order is that of the transaction: first the runs, then what people are told of it.
    reactors.register(escalation_reactor.follow)
    rows.register_asked(escalation.asked)


def loops(registry: Registry, node_id: UUID, role: str) -> tuple[Loop, ...]:
    """The loops of a worker."""
    return (*inbound.loops(registry), escalation.loop(), *notify.loops())
