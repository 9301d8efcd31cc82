"""The loops of this room: every node says that it lives; workers look at the clock, audit, and remove what is old."""

from __future__ import annotations

from tocsin.core import clock
from tocsin.core.loops import Loop
from tocsin.operate import auditor, clock_jumps, coverage_mail, presence, retention
from tocsin.operate.auditor import Auditor
from tocsin.operate.presence import Presence

#: The name of the loop by which a node says that it lives.
PRESENCE = "presence"


def node_loop(node: Presence) -> Loop:
    """The loop that every node runs, whatever its role."""
    return Loop(PRESENCE, node.turn, presence.EVERY)


def loops() -> tuple[Loop, ...]:
    """The loops of a worker."""
    return (
        clock_jumps.loop(),
        Loop("auditor", Auditor().turn, auditor.EVERY),
        coverage_mail.loop(),
        Loop("retention", lambda: retention.turn(clock.now()), retention.EVERY),
    )
