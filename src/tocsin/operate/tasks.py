"""The loops of this room: every node says that it lives; workers look at the clock, audit, and remove what is old."""

from __future__ import annotations

from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import Loop
from tocsin.operate import clock_jumps, node_heartbeat, retention
from tocsin.operate.coverage import weekly_mail
from tocsin.operate.node_heartbeat import Presence
from tocsin.operate.self_check import runner
from tocsin.operate.self_check.runner import Auditor

#: The name of the loop by which a node says that it lives.
PRESENCE = "presence"


def node_loop(node: Presence) -> Loop:
    """The loop that every node runs, whatever its role."""
    return Loop(PRESENCE, node.turn, node_heartbeat.EVERY)


def loops() -> tuple[Loop, ...]:
    """The loops of a worker."""
    return (
        clock_jumps.loop(),
        Loop("auditor", Auditor().turn, runner.EVERY),
        weekly_mail.loop(),
        Loop("retention", lambda: retention.turn(clock.now()), retention.EVERY),
    )
