"""The periodic tasks of this package: heartbeat of every node; clock check, self-check, mail and retention of
workers."""

from __future__ import annotations

from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.operate import clock_jumps, coverage, node_heartbeat, retention, self_check
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.operate.self_check import SelfCheckRunner

#: The name of the heartbeat task.
HEARTBEAT_TASK = "presence"


def heartbeat_task(node: NodeHeartbeat) -> PeriodicTask:
    """The task that every node runs, whatever its role."""
    return PeriodicTask(HEARTBEAT_TASK, node.run_once, node_heartbeat.HEARTBEAT_INTERVAL)


def operate_tasks() -> tuple[PeriodicTask, ...]:
    """The tasks of a worker."""
    return (
        clock_jumps.clock_task(),
        PeriodicTask("auditor", SelfCheckRunner().run_once, self_check.CHECK_INTERVAL),
        coverage.weekly_mail_task(),
        coverage.deactivation_mail_task(),
        PeriodicTask("retention", lambda: retention.run_once(clock.now()), retention.INTERVAL),
    )
