"""Loads the facts of a handover note from the database. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.alerts.states import ACTIVE, AlertStatus, Priority
from tocsin.core.config import settings_store
from tocsin.core.config.night_hours import NightHours
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Person
from tocsin.inbound.maintenance import commands as maintenance
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.handovers import Handover
from tocsin.reports import interruptions
from tocsin.reports.counted_alerts import AlertFilter
from tocsin.reports.handover import facts
from tocsin.reports.handover.facts import FACTS_HORIZON, ComingWindow, FactSection, HandoverAlert
from tocsin.reports.period import Period

# An alert belongs to a group if one of its escalation runs has the group as a recipient.
_OF_GROUP = """
    NOT a.is_test AND NOT a.dry_run AND EXISTS (
      SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.recipient_groups @> to_jsonb(%(group)s::bigint))
"""

_ACTIVE = f"""
SELECT a.id, a.subject, a.priority, a.hold_until, a.owner_id,
       COALESCE(NULLIF(u.name, ''), u.username, a.owner_name) AS owner
FROM alerts_alert a LEFT JOIN people_user u ON u.id = a.owner_id
WHERE a.status IN ({", ".join(f"'{status}'" for status in sorted(ACTIVE))}) AND {_OF_GROUP}
ORDER BY array_position(%(priorities)s::text[], a.priority), a.id
"""

_STATUSES = f"""
SELECT a.status, count(*)::int AS alerts FROM alerts_alert a
WHERE a.opened_at >= %(since)s AND a.opened_at < %(until)s AND {_OF_GROUP} GROUP BY a.status
"""


def load_facts(
    connection: Connection, plan: GroupPlan, schedule: str, handover: Handover, now: datetime
) -> tuple[FactSection, ...]:
    """Returns the facts of a handover as they are at `now`: the shift until now, and what comes after it."""
    night = NightHours.parse(settings_store.load(connection)[settings_store.NIGHT_HOURS.name])
    until = max(min(now, handover.at), handover.since)
    parameters: dict[str, object] = {
        "group": plan.id, "since": handover.since, "until": until, "priorities": [str(one) for one in Priority],
    }  # fmt: skip
    active = [
        HandoverAlert(
            row["id"],
            row["subject"],
            row["priority"],
            Person(row["owner"], row["owner_id"]) if row["owner"] else None,
            row["hold_until"],
        )
        for row in database.rows(connection, _ACTIVE, parameters)
    ]
    statuses = {AlertStatus(row["status"]): row["alerts"] for row in database.rows(connection, _STATUSES, parameters)}
    period = Period(handover.since, until, ZoneInfo("UTC"))
    pages = interruptions.load_interruptions(connection, period, night, AlertFilter(group_id=plan.id))
    at = max(now, handover.at)
    return facts.build(
        active, statuses, pages, facts.coming_overrides(plan, schedule, at), _windows(connection, plan.id, at)
    )


def _windows(connection: Connection, group_id: int, at: datetime) -> Sequence[ComingWindow]:
    return sorted(_coming(connection, group_id, at), key=lambda window: window.since)


def _coming(connection: Connection, group_id: int, at: datetime) -> Iterator[ComingWindow]:
    """Yields the next occurrence of each maintenance window that may concern the group."""
    for window in maintenance.load_windows(connection):
        if window.groups and group_id not in window.groups:
            continue
        for since, until in window.clock.recurrence.next_occurrences(at, 1):
            if since < at + FACTS_HORIZON:
                yield ComingWindow(window.name, since, until)
