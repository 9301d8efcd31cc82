"""What is wrong with who will be on call, by group: `oncall.health` on what the database has. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.core import database, durations
from tocsin.core.database import Connection
from tocsin.notify.channels.registry import address_problem
from tocsin.oncall import health, lookup
from tocsin.oncall.health import Finding
from tocsin.oncall.plans import GroupPlan

_METHODS = "SELECT user_id, channel, address FROM people_contactmethod WHERE is_enabled AND NOT awaits_code"


def of_groups(
    connection: Connection, group_ids: Iterable[int], since: datetime, ahead: timedelta = health.AHEAD
) -> dict[int, tuple[GroupPlan, tuple[Finding, ...]]]:
    """Each group's plan and what is wrong with it from `since` on, so far ahead, the gravest first; by group id."""
    can_be_paged = reachable(connection)
    return {
        group_id: (plan, health.findings(plan, can_be_paged, since, since + ahead))
        for group_id, plan in lookup.plans(connection, group_ids, since).items()
    }


def reachable(connection: Connection) -> frozenset[int]:
    """The users who have a contact method that can be used."""
    return frozenset(
        row["user_id"]
        for row in database.rows(connection, _METHODS)
        if address_problem(row["channel"], row["address"]) is None
    )


def sentence(plan: GroupPlan, finding: Finding, since: datetime) -> str:
    """The finding with its times, in the zone of the group's first schedule."""
    if finding.since is None and finding.until is None:
        return finding.text
    zone = plan.schedules[0].zone if plan.schedules else ZoneInfo("UTC")
    begin = max(finding.since or since, since).astimezone(zone)
    lasts = f" for {durations.say(finding.until - begin)}" if finding.until else " on"
    again = f" ({finding.times} times in all)" if finding.times > 1 else ""
    return f"{finding.text.removesuffix('.')}: from {begin:%a %d %b %H:%M} ({zone.key}){lasts}{again}."
