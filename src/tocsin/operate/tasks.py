"""The periodic tasks of this package: heartbeat of every node; clock check, self-check, mail and retention of
workers."""

from __future__ import annotations

from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.operate import clock_jumps, node_heartbeat, retention
from tocsin.operate.coverage import weekly_mail
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.operate.self_check import runner
from tocsin.operate.self_check.runner import SelfCheckRunner

#: The name of the heartbeat task.
PRESENCE = "presence"


def node_loop(node: NodeHeartbeat) -> PeriodicTask:
    """The task that every node runs, whatever its role."""
    return PeriodicTask(PRESENCE, node.turn, node_heartbeat.HEARTBEAT_INTERVAL)


def loops() -> tuple[PeriodicTask, ...]:
    """The tasks of a worker."""
    return (
        clock_jumps.loop(),
        PeriodicTask("auditor", SelfCheckRunner().turn, runner.CHECK_INTERVAL),
        weekly_mail.loop(),
        PeriodicTask("retention", lambda: retention.turn(clock.now()), retention.INTERVAL),
    )
