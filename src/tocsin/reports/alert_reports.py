"""Reports how many alerts there were, and how quickly they were acknowledged, assigned and closed: MTTA and MTTR; which
kept their SLA, and which sources send the most.

A time is that from the opening until it happened first. An alert is acknowledged once somebody acknowledged it or was
assigned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tocsin.alerts import store
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import translatable
from tocsin.core.validation import inputs
from tocsin.reports import counted_alerts
from tocsin.reports.counted_alerts import NO_FILTER, AlertFilter, Bucket, GroupBy, GroupedReport, Measure, Period
from tocsin.workflows.definition import SlaMoment
from tocsin.workflows.run.run_store import TICKET_ZONE


@dataclass(frozen=True, slots=True)
class DurationStats:
    """The number of alerts with the event, and the 50th and 90th percentile of its duration."""

    count: int = 0
    p50: timedelta | None = None
    p90: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ResponseStats:
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
    return ResponseStats(
        *(
            DurationStats(row[f"{name}_count"], *(timedelta(seconds=seconds) for seconds in row[name] or ()))
            for name in _TIMES
        )
    )


_MEASURE = Measure(_MEASURED, _TIMES, _STATISTICS, _read, ResponseStats())


def load_response_times(
    connection: Connection, period: Period, by: GroupBy, bucket: Bucket, filters: AlertFilter = NO_FILTER
) -> ResponseReport:
    return counted_alerts.load(connection, _MEASURE, period, by, bucket, filters)


# ---------- sla
# Reports which alerts kept their SLA: until when somebody had to respond, and until when it had to be resolved.
# The due times are those of the alert list (`workflows.run.run_store.load_sla_moments`): the ticket's dates, or
# else the targets of the escalation policy. A response is the first acknowledgement or assignment; an alert that ends
# before needs none.


@dataclass(frozen=True, slots=True)
class SlaCounts:
    """How many alerts kept a target, breached it, or are not due yet."""

    kept: int = 0
    breached: int = 0
    pending: int = 0

    @property
    def kept_percent(self) -> float | None:
        """The share of those kept among those decided; None if none is decided."""
        decided = self.kept + self.breached
        return 100 * self.kept / decided if decided else None


@dataclass(frozen=True, slots=True)
class SlaStats:
    response: SlaCounts = SlaCounts()
    resolution: SlaCounts = SlaCounts()


@dataclass(frozen=True, slots=True)
class SlaBreach:
    """An alert that breached one target."""

    alert_id: int
    subject: str
    client: str
    priority: str
    moment: SlaMoment
    due_at: datetime
    #: When it was met, too late; None if it still is not.
    met_at: datetime | None

    @property
    def late_by(self) -> timedelta | None:
        return None if self.met_at is None else self.met_at - self.due_at


# ISO 8601 as ticket systems write it, with days that exist. The cast would raise an error for anything else.
_DAY = (
    r"(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|\d{4}-(0[13-9]|1[0-2])-(29|30)|\d{4}-(0[13578]|1[02])-31"
    r"|\d\d(0[48]|[2468][048]|[13579][26])-02-29)"
)
_TIME = r"[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?"
_OFFSET = r"(Z|[+-](0\d|1[0-4]):?[0-5]\d)"


def _moment(text: str) -> str:
    """The SQL of a ticket's date, as `workflows.run.engine.moment_of` reads it.

    A year's report reads hundreds of thousands, and a second regular expression would take half as long again: whether
    a valid time has an offset is seen from where its sign stands.
    """
    has_offset = f"""length({text}) > 10 AND (right({text}, 1) = 'Z' OR left(right({text}, 6), 1) IN ('+', '-')
           OR left(right({text}, 5), 1) IN ('+', '-'))"""
    return f"""CASE WHEN {text} ~ '^{_DAY}({_TIME}{_OFFSET}?)?$' AND left({text}, 4) > '1970' THEN
      CASE WHEN {has_offset} THEN {text}::timestamptz
           ELSE {text}::timestamp AT TIME ZONE {TICKET_ZONE} END END"""


def _outcome(due: str, met: str) -> str:
    """The SQL of `kept`, `breached`, `pending`, or NULL without a target."""
    return f"""CASE WHEN d.{due} IS NULL THEN NULL WHEN d.{met} <= d.{due} THEN 'kept'
         WHEN d.{met} IS NOT NULL OR d.{due} <= %(now)s THEN 'breached' ELSE 'pending' END"""


_COLUMNS = f""", a.subject, btrim(a.custom ->> '{SlaMoment.RESPOND_BY}') AS respond_text,
         btrim(a.custom ->> '{SlaMoment.FIX_BY}') AS fix_text"""

_DATED = f"""
, dated AS MATERIALIZED (
  SELECT c.*, least(r.responded_at, c.closed_at) AS answered_at,
         {_moment("c.respond_text")} AS respond_by, {_moment("c.fix_text")} AS fix_by
  FROM counted c LEFT JOIN responses r ON r.alert_id = c.id
  LEFT JOIN inbound_integration i ON i.id = c.integration_id
  LEFT JOIN outbound_outboundintegration o ON o.id = i.outbound_id
)"""

# The targets of the newest run's policy count where the ticket has no date.
_WITH_TARGETS = """
, due AS (
  SELECT d.*, coalesce(d.respond_by, d.opened_at + v.respond_within) AS respond_due,
         coalesce(d.fix_by, d.opened_at + v.fix_within) AS fix_due
  FROM dated d
  LEFT JOIN LATERAL (
    SELECT version_id FROM escalation_run
    WHERE alert_id = d.id AND (d.respond_by IS NULL OR d.fix_by IS NULL) ORDER BY id DESC LIMIT 1
  ) n ON true
  LEFT JOIN unnest(%(versions)s::bigint[], %(respond_within)s::interval[], %(fix_within)s::interval[])
    AS v(id, respond_within, fix_within) ON v.id = n.version_id
)"""
_WITHOUT_TARGETS = ", due AS (SELECT d.*, d.respond_by AS respond_due, d.fix_by AS fix_due FROM dated d)"

_JUDGED = f"""
, measured AS MATERIALIZED (
  SELECT d.*, {_outcome("respond_due", "answered_at")} AS response, {_outcome("fix_due", "closed_at")} AS resolution
  FROM due d WHERE d.respond_due IS NOT NULL OR d.fix_due IS NOT NULL
)"""

_TARGETS = ("response", "resolution")
_OUTCOMES = ("kept", "breached", "pending")
_SLA_STATISTICS = ", ".join(
    f"count(*) FILTER (WHERE {target} = '{outcome}')::int AS {target}_{outcome}"
    for target in _TARGETS
    for outcome in _OUTCOMES
)

_BREACHES = f"""
SELECT id AS alert_id, subject, client, priority, moment, due_at, met_at FROM (
  SELECT *, '{SlaMoment.RESPOND_BY}' AS moment, respond_due AS due_at, answered_at AS met_at FROM measured
  WHERE response = 'breached'
  UNION ALL
  SELECT *, '{SlaMoment.FIX_BY}', fix_due, closed_at FROM measured WHERE resolution = 'breached'
) b ORDER BY due_at DESC, id DESC LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class SlaReport:
    """The figures of a period, and its breaches, the latest due time first."""

    figures: GroupedReport[SlaStats]
    breaches: Sequence[SlaBreach]


def load_sla(
    connection: Connection,
    period: Period,
    by: GroupBy,
    bucket: Bucket,
    filters: AlertFilter = NO_FILTER,
    *,
    now: datetime,
    max_breaches: int = 0,
) -> SlaReport:
    """The report of the alerts with an SLA that were opened in a period (see `grouped_report.load`), with at most
    `max_breaches`."""
    tables, targets = _tables(connection)
    values = {**targets, "now": now, "limit": max_breaches}
    listing = _BREACHES if max_breaches else ""
    measure = Measure(tables, _TARGETS, _SLA_STATISTICS, _read_sla, SlaStats(), _COLUMNS, values, listing)
    report = counted_alerts.load(connection, measure, period, by, bucket, filters)
    return SlaReport(report, [_breach(row) for row in report.listing])


def load_breaches(
    connection: Connection, period: Period, filters: AlertFilter = NO_FILTER, *, now: datetime, limit: int
) -> list[SlaBreach]:
    """The breaches of the alerts opened in a period, the latest due time first, at most `limit`."""
    tables, targets = _tables(connection)
    statement = counted_alerts.with_counted_alerts(filters, _COLUMNS) + tables + _BREACHES
    values = {**counted_alerts.parameters(period, filters), **targets, "now": now, "limit": limit}
    return [_breach(row) for row in database.rows(connection, database.literal(statement), values)]


def _breach(row: Mapping[str, Any]) -> SlaBreach:
    due_at, met_at = (_at(row[name]) for name in ("due_at", "met_at"))
    assert due_at is not None
    return SlaBreach(**{**row, "moment": SlaMoment(row["moment"]), "due_at": due_at, "met_at": met_at})


def _at(value: datetime | str | None) -> datetime | None:
    """A time of the database, which JSON holds as text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _tables(connection: Connection) -> tuple[str, dict[str, Any]]:
    """The common table expressions of the report, and the SLA of every policy version that has one as parameters."""
    targets = [
        (row["id"], {name: inputs.parse_duration(str(text)) for name, text in row["sla"].items()})
        for row in database.rows(connection, _VERSIONS)
    ]
    if not targets:
        return _DATED + _WITHOUT_TARGETS + _JUDGED, {}
    return _DATED + _WITH_TARGETS + _JUDGED, {
        "versions": [version_id for version_id, _sla in targets],
        "respond_within": [sla.get(SlaMoment.RESPOND_BY) for _version_id, sla in targets],
        "fix_within": [sla.get(SlaMoment.FIX_BY) for _version_id, sla in targets],
    }


_VERSIONS = """
SELECT id, definition -> 'sla' AS sla FROM escalation_policyversion WHERE jsonb_typeof(definition -> 'sla') = 'object'
"""


def _read_sla(row: Mapping[str, Any]) -> SlaStats:
    return SlaStats(*(SlaCounts(*(row[f"{target}_{outcome}"] for outcome in _OUTCOMES)) for target in _TARGETS))


# ---------- noise
# Reports the sources of most alerts, and how many of them nobody had to answer.
# Alerts of one integration whose subjects differ in numbers alone come from one source.


#: The maximum number of sources, the noisiest first.
MAX_SOURCES = 50

#: An alert that its source closes within this time, before anybody responds, closed by itself.
AUTO_CLOSE_WINDOW = timedelta(minutes=5)


class NoiseBy(StrEnum):
    SUBJECT = "subject"
    CLIENT = "client"
    INTEGRATION = "integration"


@dataclass(frozen=True, slots=True)
class NoisySource:
    """The alerts of one integration with one subject or client."""

    integration_id: int | None
    integration: str
    #: The subject with `#` for each number, or the client; empty by integration.
    key: str
    alerts: int
    #: Closed by the source within AUTO_CLOSE_WINDOW, without a response.
    auto_closed: int
    acknowledged: int
    #: Whether all alerts have the same subject, and the same client.
    has_one_subject: bool
    has_one_client: bool

    @property
    def grouping(self) -> str:
        """The template of a grouping key that would join most of them."""
        if self.has_one_subject:
            return "<field:subject>" if self.has_one_client else "<field:client> <field:subject>"
        return "<field:client>"


@dataclass(frozen=True, slots=True)
class NoiseReport:
    alerts: int
    sources: Sequence[NoisySource]


_KEYS = {NoiseBy.SUBJECT: "pattern", NoiseBy.CLIENT: "client", NoiseBy.INTEGRATION: "''"}

_NOISE_COLUMNS = f", {store.pattern_sql('a.subject')} AS pattern, a.subject"

# Who closed an alert is looked up only if it may have closed by itself.
_NOISE_MEASURED = f"""
, measured AS MATERIALIZED (
  SELECT c.*, r.responded_at IS NOT NULL AS is_acknowledged,
         CASE WHEN c.status = '{AlertStatus.CLOSED}' AND r.responded_at IS NULL
                   AND c.closed_at < c.opened_at + %(window)s
              THEN NOT EXISTS (SELECT FROM alerts_alertevent WHERE alert_id = c.id AND kind = '{EventKind.CLOSED}'
                               AND actor_kind NOT IN ('{ActorKind.INTEGRATION}', '{ActorKind.SYSTEM}'))
              ELSE false END AS is_auto_closed
  FROM counted c LEFT JOIN responses r ON r.alert_id = c.id
)"""


def load_noise(
    connection: Connection, period: Period, by: NoiseBy = NoiseBy.SUBJECT, filters: AlertFilter = NO_FILTER
) -> NoiseReport:
    """The sources of the alerts opened in a period, the noisiest first, at most MAX_SOURCES."""
    statement = f"""
{counted_alerts.with_counted_alerts(filters, _NOISE_COLUMNS)}{_NOISE_MEASURED}
, sources AS (
  SELECT integration_id, {_KEYS[by]} AS key, count(*)::int AS alerts,
         count(*) FILTER (WHERE is_auto_closed)::int AS auto_closed,
         count(*) FILTER (WHERE is_acknowledged)::int AS acknowledged,
         min(subject COLLATE "C") = max(subject COLLATE "C") AS has_one_subject,
         min(client COLLATE "C") = max(client COLLATE "C") AS has_one_client
  FROM measured GROUP BY 1, 2 ORDER BY alerts DESC, key, integration_id LIMIT {MAX_SOURCES}
)
SELECT s.*, coalesce(i.name, '') AS integration, (SELECT count(*) FROM measured)::int AS all_alerts
FROM sources s LEFT JOIN inbound_integration i ON i.id = s.integration_id
ORDER BY s.alerts DESC, s.key, s.integration_id
"""
    values = counted_alerts.parameters(period, filters) | {"window": AUTO_CLOSE_WINDOW}
    rows = database.rows(connection, database.literal(statement), values)
    return NoiseReport(rows[0]["all_alerts"] if rows else 0, [_source(row) for row in rows])


def _source(row: Mapping[str, Any]) -> NoisySource:
    return NoisySource(**{key: value for key, value in row.items() if key != "all_alerts"})


# ---------- public timeline
# An alert's timeline for people outside of the organisation: what happened when, without names, texts and reasons.
# Pure.


#: The events that outsiders see, and the words for them. Everything else is internal.
PUBLIC_EVENTS: dict[str, str] = {
    EventKind.OPENED: translatable("Opened"),
    EventKind.REOPENED: translatable("Reopened"),
    EventKind.ACKNOWLEDGED: translatable("Acknowledged"),
    EventKind.ASSIGNED: translatable("Assigned"),
    EventKind.PUT_ON_HOLD: translatable("Snoozed"),
    EventKind.RESUMED: translatable("Resumed"),
    EventKind.CLOSED: translatable("Closed"),
    EventKind.CANCELLED: translatable("Cancelled"),
    EventKind.MERGED: translatable("Merged"),
}


@dataclass(frozen=True, slots=True)
class PublicEvent:
    """One line: when, and which of PUBLIC_EVENTS."""

    at: datetime
    kind: str
    label: str


def public_timeline(events: Iterable[tuple[datetime, str]]) -> list[PublicEvent]:
    """Returns the public ones of the events (time, kind), in their order. The same kind again at once is left out."""
    shown: list[PublicEvent] = []
    for at, kind in events:
        if kind in PUBLIC_EVENTS and not (shown and shown[-1].kind == kind):
            shown.append(PublicEvent(at, kind, PUBLIC_EVENTS[kind]))
    return shown
