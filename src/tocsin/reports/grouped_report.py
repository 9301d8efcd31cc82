"""Loads a report: its statistics in total, of the period before, by bucket, and by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.reports import counted_alerts
from tocsin.reports.counted_alerts import AlertFilter, GroupBy
from tocsin.reports.period import Bucket, Period

#: The maximum number of rows, the most frequent first; a sender may have thousands of clients.
MAX_ROWS = 200


@dataclass(frozen=True, slots=True)
class Grouped[S]:
    """The alerts of one `key`: the first day of a bucket (2026-11-28), an hour of the day (08), a username, or a name;
    empty for those without one."""

    key: str
    #: The user's name for display; otherwise the key.
    label: str
    alerts: int
    stats: S


@dataclass(frozen=True, slots=True)
class GroupedReport[S]:
    """All alerts of a period and of the period before in total, by bucket and by key."""

    total: Grouped[S]
    before: Grouped[S]
    trend: Sequence[Grouped[S]]
    rows: Sequence[Grouped[S]]
    #: The rows of `Measure.listing`. Times are text there.
    listing: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Measure[S]:
    """What a report measures of each alert."""

    #: Common table expressions after those of `with_counted_alerts`. The last is `measured`, with a row per alert.
    tables: str
    #: Columns of `measured` that `statistics` aggregates.
    names: Sequence[str]
    statistics: str
    #: Reads the statistics of a row.
    read: Callable[[Mapping[str, Any]], S]
    #: The statistics of no alert.
    empty: S
    #: Further columns of the alert `a`.
    columns: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: A SELECT from `measured` for rows of single alerts, which saves a second statement over the whole period.
    listing: str = ""


def load[S](
    connection: Connection, measure: Measure[S], period: Period, by: GroupBy, bucket: Bucket, filters: AlertFilter
) -> GroupedReport[S]:
    """Totals with each alert counted once, a row per bucket, and a row per key.

    Buckets and hours are in order and complete; priorities start with critical; other keys are sorted by frequency and
    limited to MAX_ROWS.
    """
    total = (
        f"SELECT 'total' AS part, '' AS key, NULL AS label, count(*)::int AS alerts, {measure.statistics} FROM measured"
    )
    tables = counted_alerts.with_counted_alerts(filters, measure.columns) + measure.tables
    values = {**counted_alerts.parameters(period.before(), filters), **measure.parameters}
    (before,) = database.rows(connection, database.literal(tables + total), values)
    tables = counted_alerts.with_counted_alerts(filters, measure.columns, with_responders=by is GroupBy.PERSON)
    listing = f"(SELECT jsonb_agg(to_jsonb(l)) FROM ({measure.listing}) l)" if measure.listing else "NULL::jsonb"
    # Alerts are read once, so the totals and the groups cover the same alerts.
    statement = f"""
{tables}{measure.tables}
, keyed AS ({counted_alerts.keyed(by, "measured", ", ".join(f"a.{name}" for name in measure.names))})
(SELECT t.*, {listing} AS listing FROM ({total}) t)
UNION ALL
(SELECT 'trend', {counted_alerts.BUCKET_NUMBER}::text, NULL, count(*)::int, {measure.statistics}, NULL
 FROM measured a GROUP BY {counted_alerts.BUCKET_NUMBER})
UNION ALL
(SELECT 'row', key, max(label), count(*)::int AS alerts, {measure.statistics}, NULL FROM keyed GROUP BY key
 ORDER BY alerts DESC, key LIMIT {MAX_ROWS})
"""
    parts: dict[str, list[Grouped[S]]] = {"total": [], "trend": [], "row": []}
    listed: Sequence[Mapping[str, Any]] = ()
    days = period.bucket_starts(bucket)
    values |= counted_alerts.parameters(period, filters) | {"bucket_starts": [period.midnight(day) for day in days]}
    for row in database.rows(connection, database.literal(statement), values):
        if row["part"] == "trend":
            row["key"] = days[int(row["key"]) - 1].isoformat()
        parts[row["part"]].append(_grouped(measure, row))
        listed = row["listing"] or listed

    def complete(keys: Sequence[str] | None, rows: Sequence[Grouped[S]]) -> Sequence[Grouped[S]]:
        by_key = {row.key: row for row in rows}
        return rows if keys is None else [by_key.get(key) or Grouped(key, key, 0, measure.empty) for key in keys]

    return GroupedReport(
        total=parts["total"][0],
        before=_grouped(measure, before),
        trend=complete([day.isoformat() for day in days], parts["trend"]),
        rows=complete(counted_alerts.complete_keys(by), parts["row"]),
        listing=listed,
    )


def _grouped[S](measure: Measure[S], row: Mapping[str, Any]) -> Grouped[S]:
    return Grouped(row["key"], row["label"] or row["key"], row["alerts"], measure.read(row))
