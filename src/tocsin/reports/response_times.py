"""Reports how many alerts there were, and how quickly they were acknowledged, assigned and closed.

What people do not have to answer does not count: tests, dry-run alerts, and those merged into another,
which stands for them. A time is that from the opening until it happened first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tocsin.alerts.states import AlertStatus, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.reports.period import Period

#: The maximum number of rows, the most frequent first; a sender may have thousands of clients.
MAX_ROWS = 200


class GroupBy(StrEnum):
    """How alerts are grouped."""

    DAY = "day"
    HOUR = "hour"
    SOURCE = "source"
    INTEGRATION = "integration"
    GROUP = "group"
    CLIENT = "client"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class DurationStats:
    """The number of alerts with the event, and the 50th and 90th percentile of its duration."""

    count: int
    p50: timedelta | None
    p90: timedelta | None


@dataclass(frozen=True, slots=True)
class ResponseStats:
    """The alerts of one `key`: a day (2026-11-28), an hour of the day (08), or a name; empty for those without one."""

    key: str
    alerts: int
    acknowledged: DurationStats
    assigned: DurationStats
    closed: DurationStats


@dataclass(frozen=True, slots=True)
class ResponseReport:
    """All alerts of a period in total, and grouped."""

    total: ResponseStats
    rows: Sequence[ResponseStats]


# Each is an SQL expression for the column `key` of the alerts `a`.
_KEYS = {
    GroupBy.DAY: "to_char(a.opened_at AT TIME ZONE %(zone)s, 'YYYY-MM-DD')",
    GroupBy.HOUR: "to_char(a.opened_at AT TIME ZONE %(zone)s, 'HH24')",
    GroupBy.SOURCE: "a.source",
    GroupBy.INTEGRATION: "coalesce(i.name, '')",
    GroupBy.GROUP: "coalesce(g.name, '')",
    GroupBy.CLIENT: "a.client",
    GroupBy.PRIORITY: "a.priority",
}
_JOINS = {
    GroupBy.INTEGRATION: "LEFT JOIN inbound_integration i ON i.id = a.integration_id",
    # The groups of the alert's first run. An alert of two groups counts for both.
    GroupBy.GROUP: """
    LEFT JOIN LATERAL (
      SELECT recipient_groups FROM escalation_run WHERE alert_id = a.id ORDER BY id LIMIT 1
    ) r ON true
    LEFT JOIN LATERAL jsonb_array_elements_text(r.recipient_groups) n(id) ON true
    LEFT JOIN people_group g ON g.id = n.id::bigint""",
}


_STATISTICS = ", ".join(
    f"count({name})::int AS {name}_count,"
    f" percentile_cont(0.5) WITHIN GROUP (ORDER BY {name}) AS {name}_p50,"
    f" percentile_cont(0.9) WITHIN GROUP (ORDER BY {name}) AS {name}_p90"
    for name in ("acknowledged", "assigned", "closed")
)

# Alerts are read once, so the totals and the groups cover the same alerts.
_ANSWERS = f"""
WITH counted AS MATERIALIZED (
  SELECT a.id, a.source, a.client, a.priority, a.integration_id, a.opened_at,
         e.acknowledged_at - a.opened_at AS acknowledged, e.assigned_at - a.opened_at AS assigned,
         CASE WHEN a.status = '{AlertStatus.CLOSED}' THEN a.closed_at END - a.opened_at AS closed
  FROM alerts_alert a
  LEFT JOIN LATERAL (
    SELECT min(at) FILTER (WHERE kind = '{EventKind.ACKNOWLEDGED}') AS acknowledged_at,
           min(at) FILTER (WHERE kind = '{EventKind.ASSIGNED}') AS assigned_at
    FROM alerts_alertevent WHERE alert_id = a.id
  ) e ON true
  WHERE a.opened_at >= %(since)s AND a.opened_at < %(until)s
    AND NOT a.is_test AND NOT a.dry_run AND a.merged_into_id IS NULL
), keyed AS (
  SELECT {{key}} AS key, a.acknowledged, a.assigned, a.closed FROM counted a {{joins}}
)
(SELECT true AS is_all, '' AS key, count(*)::int AS alerts, {_STATISTICS} FROM counted)
UNION ALL
(SELECT false, key, count(*)::int AS alerts, {_STATISTICS} FROM keyed GROUP BY key ORDER BY alerts DESC, key
 LIMIT {MAX_ROWS})
"""


def load_response_times(connection: Connection, period: Period, by: GroupBy) -> ResponseReport:
    """The report of a period: totals with each alert counted once, and a row per key.

    Days and hours are in order and complete; priorities start with critical; other keys are sorted by frequency and
    limited to MAX_ROWS.
    """
    parameters = {"since": period.since, "until": period.until, "zone": period.zone.key}
    rows = database.rows(connection, _ANSWERS.format(key=_KEYS[by], joins=_JOINS.get(by, "")), parameters)
    (total,) = (_row(row) for row in rows if row["is_all"])
    return ResponseReport(total, _in_order([_row(row) for row in rows if not row["is_all"]], period, by))


def _in_order(stats: Sequence[ResponseStats], period: Period, by: GroupBy) -> Sequence[ResponseStats]:
    match by:
        case GroupBy.DAY:
            keys: Sequence[str] = _days(period)
        case GroupBy.HOUR:
            keys = [f"{hour:02}" for hour in range(24)]
        case GroupBy.PRIORITY:
            keys = [str(priority) for priority in Priority]
        case _:
            return stats
    rows = {row.key: row for row in stats}
    return [rows.get(key) or _empty_stats(key) for key in keys]


def _row(row: dict[str, Any]) -> ResponseStats:
    def times(name: str) -> DurationStats:
        return DurationStats(row[f"{name}_count"], row[f"{name}_p50"], row[f"{name}_p90"])

    return ResponseStats(row["key"], row["alerts"], times("acknowledged"), times("assigned"), times("closed"))


def _empty_stats(key: str) -> ResponseStats:
    never = DurationStats(0, None, None)
    return ResponseStats(key, 0, never, never, never)


def _days(period: Period) -> list[str]:
    first = period.since.astimezone(period.zone).date()
    last = (period.until - timedelta(microseconds=1)).astimezone(period.zone).date()
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
