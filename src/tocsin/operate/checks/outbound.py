"""Checks outbound integrations: problems for people to fix, failed calls, and webhooks that deliver nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType
from tocsin.operate.finding import HealthFinding
from tocsin.outbound import health

_NEEDS_YOU_REMEDY = ReasonType(
    "health.outbound_needs_you_remedy", "Open it under Outbound integrations, fix the error above, and press Test."
)
_AWAY_REMEDY = ReasonType(
    "health.outbound_away_remedy",
    "Tocsin keeps trying. Check whether the other system is running and reachable from here.",
)
_DEAD_REMEDY = ReasonType(
    "health.outbound_dead_remedy", "Open its log under Outbound integrations and resend or discard the calls."
)
_WEBHOOK_REMEDY = ReasonType("health.outbound_webhook_remedy", "Press “Set up webhook”, or check the webhook in Halo.")
_LOOK_REMEDY = ReasonType(
    "health.outbound_look_remedy", "Press Test on its page: the result names the missing permission."
)

REMEDIES: Mapping[str, Reason] = {
    "needs_you": _NEEDS_YOU_REMEDY(),
    "away": _AWAY_REMEDY(),
    "dead": _DEAD_REMEDY(),
    "webhook": _WEBHOOK_REMEDY(),
    "look": _LOOK_REMEDY(),
}


def check(connection: Connection) -> Iterator[HealthFinding]:
    """Yields the problems from the last known status."""
    for problem in health.find_problems(connection):
        yield HealthFinding(
            f"outbound.{problem.kind}",
            problem.reason,
            REMEDIES[problem.kind],
            about=problem.name,
            object_id=problem.integration_id,
            is_urgent=problem.is_urgent,
        )
