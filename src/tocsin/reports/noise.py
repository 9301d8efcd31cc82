"""Reports the sources of most alerts, and how many of them nobody had to answer.

Alerts of one integration whose subjects differ in numbers alone come from one source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tocsin.alerts.states import ActorKind, AlertStatus, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.reports import counted_alerts
from tocsin.reports.counted_alerts import NO_FILTER, AlertFilter
from tocsin.reports.period import Period

#: The maximum number of sources, the noisiest first.
MAX_SOURCES = 50

#: An alert that its source closes within this time, before anybody responds, closed by itself.
AUTO_CLOSE_WINDOW = timedelta(minutes=5)

#: The length at which subjects are compared.
_MAX_SUBJECT = 150


class NoiseBy(StrEnum):
    """What counts as one source."""

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
    """The noisiest sources of a period."""

    #: All alerts of the period.
    alerts: int
    sources: Sequence[NoisySource]


_KEYS = {
    NoiseBy.SUBJECT: "pattern",
    NoiseBy.CLIENT: "client",
    NoiseBy.INTEGRATION: "''",
}

_COLUMNS = f", regexp_replace(left(a.subject, {_MAX_SUBJECT}), '[0-9]+', '#', 'g') AS pattern, a.subject"

# Who closed an alert is looked up only if it may have closed by itself.
_MEASURED = f"""
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
{counted_alerts.with_counted_alerts(filters, _COLUMNS)}{_MEASURED}
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
