"""Checks workflows: unreadable ones, stuck runs, and reached limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tocsin.core.db.database import Connection
from tocsin.operate.finding import HealthFinding
from tocsin.workflows.views import health

REMEDIES: Mapping[str, str] = {
    "unreadable": "Open it under Workflows and save it again, or delete it.",
    "stuck": "Open its log under Workflows: mend what the sentence says, then try again, or end it.",
    "limited": "Open its log under Workflows: narrow its conditions if it goes in circles, else raise its limit.",
}


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the current problems of workflows."""
    for problem in health.find_problems(connection):
        yield HealthFinding(f"workflow.{problem.kind}", str(problem.reason), REMEDIES[problem.kind], about=problem.name)
