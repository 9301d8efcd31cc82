"""Checks outbound integrations: problems for people to fix, failed calls, and webhooks that deliver nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tocsin.core.db.database import Connection
from tocsin.operate.finding import HealthFinding
from tocsin.outbound import health

REMEDIES: Mapping[str, str] = {
    "needs_you": "Open it under Outbound integrations, do what the sentence says, and press Test.",
    "away": "It is tried again by itself; look whether the other side is up, and reachable from here.",
    "dead": "Open its log under Outbound integrations: send them again, or decide that they are not sent.",
    "webhook": "Press “Set up the webhook for me”, or look at the webhook in Halo.",
    "look": "Press Test on its page: it says which right is missing.",
}


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the problems from the last known status."""
    for problem in health.find_problems(connection):
        yield HealthFinding(f"outbound.{problem.kind}", str(problem.reason), REMEDIES[problem.kind], about=problem.name)
