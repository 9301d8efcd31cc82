"""The alerts that reports count, the first response to each, and the keys by which reports group them.

Alerts that nobody has to answer do not count: tests, dry-run alerts, and those merged into another, which stands for
them. The reports are SQL statements that begin with `with_counted_alerts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.access import boundary
from tocsin.alerts.states import RESPONSES, EventKind, Priority
from tocsin.alerts.store import OPENED_BETWEEN
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Text
from tocsin.core.validation.inputs import NOT_AFTER_FROM, rejected_at
from tocsin.people.sql import join_user
from tocsin.resources import visibility

# ---------- period


_TOO_LONG = Text("a report covers at most {maximum}.")

#: The longest period; longer reports have to be requested year by year.
MAX_PERIOD = timedelta(days=366)

_DAY = timedelta(days=1)

#: The longest periods whose trend is by day and by week.
_MAX_BY_DAY, _MAX_BY_WEEK = timedelta(days=32), timedelta(days=190)


class Bucket(StrEnum):
    """The unit of a trend. A week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` (inclusive) until `until` (exclusive). Days and hours are those of `zone`."""

    since: datetime
    until: datetime
    zone: ZoneInfo

    @classmethod
    def between(cls, since: datetime, until: datetime, zone: ZoneInfo) -> Period:
        """Creates a period. Raises Rejected with the field if it ends before it begins or is longer than a year."""
        if until <= since:
            raise rejected_at("to", NOT_AFTER_FROM())
        if until.astimezone(UTC) - since.astimezone(UTC) > MAX_PERIOD:
            raise rejected_at("to", _TOO_LONG(maximum=MAX_PERIOD))
        return cls(since, until, zone)

    @classmethod
    def last_days(cls, days: int, now: datetime, zone: ZoneInfo) -> Period:
        """The last `days` days in `zone`, including today so far."""
        return cls(_midnight(now.astimezone(zone).date() - (days - 1) * _DAY, zone), now, zone)

    @classmethod
    def last_month(cls, now: datetime, zone: ZoneInfo) -> Period:
        """The calendar month before the current one in `zone`."""
        return cls.month(_add_months(now.astimezone(zone).date().replace(day=1), -1), zone)

    @classmethod
    def month(cls, first: date, zone: ZoneInfo) -> Period:
        """The calendar month that begins on `first` in `zone`."""
        return cls(_midnight(first, zone), _midnight(_add_months(first, 1), zone), zone)

    @classmethod
    def days(cls, first: date, last: date, zone: ZoneInfo) -> Period:
        """The days from `first` to `last`, both included. Raises Rejected like `between`."""
        return cls.between(_midnight(first, zone), _midnight(last + _DAY, zone), zone)

    def before(self) -> Period:
        """The period of the same length that ends where this one begins; for whole months as many months."""
        since, until = (at.astimezone(self.zone).replace(tzinfo=None) for at in (self.since, self.until))
        if _begins_month(since) and _begins_month(until):
            months = 12 * (until.year - since.year) + until.month - since.month
            return Period(_midnight(_add_months(since.date(), -months), self.zone), self.since, self.zone)
        # By local time, so that whole days stay whole when the clocks change.
        return Period((since - (until - since)).replace(tzinfo=self.zone), self.since, self.zone)

    @property
    def first_day(self) -> date:
        return self.since.astimezone(self.zone).date()

    @property
    def last_day(self) -> date:
        """The last day of which it covers a part in `zone`."""
        return (self.until.astimezone(UTC) - timedelta(microseconds=1)).astimezone(self.zone).date()

    @property
    def bucket(self) -> Bucket:
        """The unit that suits its length: days of a month, weeks of half a year, else months."""
        length = self.until.astimezone(UTC) - self.since.astimezone(UTC)
        return Bucket.DAY if length <= _MAX_BY_DAY else Bucket.WEEK if length <= _MAX_BY_WEEK else Bucket.MONTH

    def bucket_starts(self, bucket: Bucket) -> list[date]:
        """The first day of every bucket that overlaps the period, in order. The first may begin before the period."""
        day = self.first_day
        if bucket is Bucket.WEEK:
            day -= day.weekday() * _DAY
        elif bucket is Bucket.MONTH:
            day = day.replace(day=1)
        starts = []
        while day <= self.last_day:
            starts.append(day)
            day = _add_months(day, 1) if bucket is Bucket.MONTH else day + (7 if bucket is Bucket.WEEK else 1) * _DAY
        return starts


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _begins_month(local: datetime) -> bool:
    return local.day == 1 and local.time() == datetime.min.time()


def _add_months(first_of_month: date, months: int) -> date:
    number = 12 * first_of_month.year + first_of_month.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


class GroupBy(StrEnum):
    """How alerts are grouped. The person is the one who responded first."""

    PERSON = "person"
    GROUP = "group"
    CLIENT = "client"
    INTEGRATION = "integration"
    PRIORITY = "priority"
    SOURCE = "source"
    HOUR = "hour"


#: The groupings that name nobody and nothing of the organisation, for client observers.
PUBLIC_GROUPINGS = frozenset({GroupBy.CLIENT, GroupBy.PRIORITY, GroupBy.HOUR})


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts a report covers; everything unset covers all."""

    #: A group that one of the alert's escalations notified.
    group_id: int | None = None
    #: The exact name, ignoring case.
    client: str = ""
    integration_id: int | None = None
    priority: Priority | None = None

    def conditions(self) -> str:
        """The SQL conditions for an alert `a`, beginning with AND; "" if nothing is set. The boundary is one."""
        conditions = (
            (self.integration_id, "a.integration_id = %(integration_id)s"),
            (self.priority, "a.priority = %(priority)s"),
            (self.client, "upper(a.client) = upper(%(client)s)"),
            (self.group_id, _NOTIFIED_GROUP),
        )
        return "".join(f" AND {condition}" for value, condition in conditions if value) + visibility.alerts_sql()

    def parameters(self) -> dict[str, object]:
        return {
            "group_id": self.group_id,
            "client": self.client,
            "integration_id": self.integration_id,
            "priority": self.priority,
            **visibility.alerts_parameters(),
        }


NO_FILTER = AlertFilter()

_NOTIFIED_GROUP = """EXISTS (
      SELECT FROM escalation_run n WHERE n.alert_id = a.id AND n.recipient_groups @> to_jsonb(%(group_id)s::bigint))"""
_FIRST_GROUPS = "SELECT recipient_groups FROM escalation_run WHERE alert_id = a.id ORDER BY id LIMIT 1"

#: The SQL expression of each key for an alert `a` with `responses` as `r`, and of its label for display.
_KEYS = {
    GroupBy.PERSON: ("coalesce(u.username, r.responder_name, '')", "u.display_name"),
    GroupBy.GROUP: ("coalesce(g.name, '')", "NULL"),
    GroupBy.CLIENT: ("a.client", "NULL"),
    GroupBy.INTEGRATION: ("coalesce(i.name, '')", "NULL"),
    GroupBy.PRIORITY: ("a.priority", "NULL"),
    GroupBy.SOURCE: ("a.source", "NULL"),
    GroupBy.HOUR: ("to_char(a.opened_at AT TIME ZONE %(zone)s, 'HH24')", "NULL"),
}
_JOINS = {
    GroupBy.PERSON: f"LEFT JOIN responses r ON r.alert_id = a.id LEFT {join_user('r.responder_id')}",
    # An alert of two groups counts for both.
    GroupBy.GROUP: f"""
    LEFT JOIN LATERAL ({_FIRST_GROUPS}) f ON true
    LEFT JOIN LATERAL jsonb_array_elements_text(f.recipient_groups) n(id) ON true
    LEFT JOIN people_group g ON g.id = n.id::bigint""",
    GroupBy.INTEGRATION: "LEFT JOIN inbound_integration i ON i.id = a.integration_id",
}

_RESPONDERS = """,
         (array_agg(CASE WHEN kind = 'assigned' THEN (data ->> 'user_id')::bigint ELSE actor_id END
                    ORDER BY at, id))[1] AS responder_id,
         (array_agg(CASE WHEN kind = 'assigned' THEN data ->> 'name' ELSE actor_name END
                    ORDER BY at, id))[1] AS responder_name"""

_EVENTS_BETWEEN = "alert_id >= (SELECT first FROM bounds) AND alert_id <= (SELECT last FROM bounds)"
_EVENTS_OF_COUNTED = "alert_id IN (SELECT id FROM counted)"


def with_counted_alerts(filters: AlertFilter, columns: str = "", *, with_responders: bool = False) -> str:
    """Begins a statement with three common table expressions.

    `counted` has the alerts of the period with further `columns` of `a`. `responses` has when somebody first
    acknowledged or was assigned each of them (`responded_at`), when somebody was first assigned (`assigned_at`), and
    `with_responders` the user or name of the first (`responder_id`, `responder_name`).
    """
    # Within a boundary, PostgreSQL checks each event that is read, which costs more than finding those that count.
    events = _EVENTS_OF_COUNTED if boundary.current() is not None else _EVENTS_BETWEEN
    return f"""
WITH counted AS MATERIALIZED (
  SELECT a.id, a.source, a.client, a.priority, a.integration_id, a.opened_at, a.status, a.closed_at{columns}
  FROM {OPENED_BETWEEN}
    AND NOT a.is_test AND NOT a.dry_run AND a.merged_into_id IS NULL{filters.conditions()}
), bounds AS (
  SELECT min(id) AS first, max(id) AS last FROM counted
), responses AS (
  SELECT alert_id, min(at) AS responded_at, min(at) FILTER (WHERE kind = '{EventKind.ASSIGNED}') AS assigned_at
  {_RESPONDERS if with_responders else ""}
  FROM alerts_alertevent
  WHERE kind IN ({", ".join(f"'{kind}'" for kind in RESPONSES)})
    AND {events}
  GROUP BY alert_id
)"""


def keyed(by: GroupBy, table: str, columns: str) -> str:
    """Returns a SELECT of `key`, `label` and `columns` from `table`, whose rows are alerts `a`."""
    key, label = _KEYS[by]
    return f"SELECT {key} AS key, {label} AS label, {columns} FROM {table} a {_JOINS.get(by, '')}"


#: The SQL expression of the number of an alert's bucket, from 1 on. A year's report computes it a million times.
BUCKET_NUMBER = "width_bucket(a.opened_at, %(bucket_starts)s::timestamptz[])"


def parameters(period: Period, filters: AlertFilter) -> dict[str, Any]:
    return {"since": period.since, "until": period.until, "zone": period.zone.key, **filters.parameters()}


#: The keys, in order, of groupings that show all even without alerts.
_COMPLETE_KEYS = {
    GroupBy.HOUR: [f"{hour:02}" for hour in range(24)],
    GroupBy.PRIORITY: [str(priority) for priority in Priority],
}


# ---------- grouped report


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
    tables = with_counted_alerts(filters, measure.columns) + measure.tables
    values = {**parameters(period.before(), filters), **measure.parameters}
    (before,) = database.rows(connection, database.literal(tables + total), values)
    tables = with_counted_alerts(filters, measure.columns, with_responders=by is GroupBy.PERSON)
    listing = f"(SELECT jsonb_agg(to_jsonb(l)) FROM ({measure.listing}) l)" if measure.listing else "NULL::jsonb"
    # Alerts are read once, so the totals and the groups cover the same alerts.
    statement = f"""
{tables}{measure.tables}
, keyed AS ({keyed(by, "measured", ", ".join(f"a.{name}" for name in measure.names))})
(SELECT t.*, {listing} AS listing FROM ({total}) t)
UNION ALL
(SELECT 'trend', {BUCKET_NUMBER}::text, NULL, count(*)::int, {measure.statistics}, NULL
 FROM measured a GROUP BY {BUCKET_NUMBER})
UNION ALL
(SELECT 'row', key, max(label), count(*)::int AS alerts, {measure.statistics}, NULL FROM keyed GROUP BY key
 ORDER BY alerts DESC, key LIMIT {MAX_ROWS})
"""
    parts: dict[str, list[Grouped[S]]] = {"total": [], "trend": [], "row": []}
    listed: Sequence[Mapping[str, Any]] = ()
    days = period.bucket_starts(bucket)
    values |= parameters(period, filters) | {"bucket_starts": [_midnight(day, period.zone) for day in days]}
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
        rows=complete(_COMPLETE_KEYS.get(by), parts["row"]),
        listing=listed,
    )


def _grouped[S](measure: Measure[S], row: Mapping[str, Any]) -> Grouped[S]:
    return Grouped(row["key"], row["label"] or row["key"], row["alerts"], measure.read(row))
