"""Checks workflows: unreadable ones, stuck runs, and reached limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType
from tocsin.operate.finding import HealthFinding
from tocsin.workflows.views import health

_UNREADABLE_REMEDY = ReasonType(
    "health.workflow_unreadable_remedy", "Open it under Workflows and save it again, or delete it."
)
_STUCK_REMEDY = ReasonType(
    "health.workflow_stuck_remedy", "Open its log under Workflows: fix the error above, then retry or end the run."
)
_LIMITED_REMEDY = ReasonType(
    "health.workflow_limited_remedy",
    "Open its log under Workflows: narrow its conditions if it loops; otherwise raise its limit.",
)

REMEDIES: Mapping[str, Reason] = {
    "unreadable": _UNREADABLE_REMEDY(),
    "stuck": _STUCK_REMEDY(),
    "limited": _LIMITED_REMEDY(),
}


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the current problems of workflows."""
    for problem in health.find_problems(connection):
        yield HealthFinding(
            f"workflow.{problem.kind}",
            problem.reason,
            REMEDIES[problem.kind],
            about=problem.name,
            object_id=problem.workflow_id,
        )
