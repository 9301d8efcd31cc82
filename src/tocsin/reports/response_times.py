"""Reports how many alerts there were, and how quickly they were acknowledged, assigned and closed: MTTA and MTTR.

A time is that from the opening until it happened first. An alert is acknowledged once somebody acknowledged it or was
assigned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tocsin.alerts.states import AlertStatus
from tocsin.core.db.database import Connection
from tocsin.reports import grouped_report
from tocsin.reports.counted_alerts import NO_FILTER, AlertFilter, GroupBy
from tocsin.reports.grouped_report import GroupedReport, Measure
from tocsin.reports.period import Bucket, Period


@dataclass(frozen=True, slots=True)
class DurationStats:
    """The number of alerts with the event, and the 50th and 90th percentile of its duration."""

    count: int = 0
    p50: timedelta | None = None
    p90: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ResponseStats:
    """How quickly alerts were answered."""

    acknowledged: DurationStats = DurationStats()
    assigned: DurationStats = DurationStats()
    closed: DurationStats = DurationStats()


type ResponseReport = GroupedReport[ResponseStats]

_TIMES = ("acknowledged", "assigned", "closed")


def _seconds(at: str) -> str:
    """The SQL of the time from the opening until `at`. Numbers are sorted several times as quickly as intervals."""
    return f"date_part('epoch', {at} - c.opened_at)"


_MEASURED = f"""
, measured AS MATERIALIZED (
  SELECT c.*, {_seconds("r.responded_at")} AS acknowledged, {_seconds("r.assigned_at")} AS assigned,
         {_seconds(f"CASE WHEN c.status = '{AlertStatus.CLOSED}' THEN c.closed_at END")} AS closed
  FROM counted c LEFT JOIN responses r ON r.alert_id = c.id
)"""

_STATISTICS = ", ".join(
    f"count({name})::int AS {name}_count, percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY {name}) AS {name}"
    for name in _TIMES
)


def _read(row: Mapping[str, Any]) -> ResponseStats:
    return ResponseStats(*(_duration_stats(row[f"{name}_count"], row[name]) for name in _TIMES))


def _duration_stats(count: int, percentiles: Sequence[float] | None) -> DurationStats:
    return DurationStats(count, *(timedelta(seconds=seconds) for seconds in percentiles or ()))


_MEASURE = Measure(_MEASURED, _TIMES, _STATISTICS, _read, ResponseStats())


def load_response_times(
    connection: Connection, period: Period, by: GroupBy, bucket: Bucket, filters: AlertFilter = NO_FILTER
) -> ResponseReport:
    """The report of the alerts opened in a period; see `grouped_report.load`."""
    return grouped_report.load(connection, _MEASURE, period, by, bucket, filters)
