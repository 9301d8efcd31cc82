"""The alerts that reports count, the first response to each, and the keys by which reports group them.

Alerts that nobody has to answer do not count: tests, dry-run alerts, and those merged into another, which stands for
them. The reports are SQL statements that begin with `with_counted_alerts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tocsin.access import boundary
from tocsin.alerts.states import RESPONSES, EventKind, Priority
from tocsin.reports.period import Period
from tocsin.resources import visibility


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
        """The parameters of the conditions."""
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
    GroupBy.PERSON: ("coalesce(u.username, r.responder_name, '')", "coalesce(nullif(u.name, ''), u.username)"),
    GroupBy.GROUP: ("coalesce(g.name, '')", "NULL"),
    GroupBy.CLIENT: ("a.client", "NULL"),
    GroupBy.INTEGRATION: ("coalesce(i.name, '')", "NULL"),
    GroupBy.PRIORITY: ("a.priority", "NULL"),
    GroupBy.SOURCE: ("a.source", "NULL"),
    GroupBy.HOUR: ("to_char(a.opened_at AT TIME ZONE %(zone)s, 'HH24')", "NULL"),
}
_JOINS = {
    GroupBy.PERSON: "LEFT JOIN responses r ON r.alert_id = a.id LEFT JOIN people_user u ON u.id = r.responder_id",
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
  FROM alerts_alert a
  WHERE a.opened_at >= %(since)s AND a.opened_at < %(until)s
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
    """Returns the parameters of `with_counted_alerts` and `keyed`."""
    return {"since": period.since, "until": period.until, "zone": period.zone.key, **filters.parameters()}


def complete_keys(by: GroupBy) -> Sequence[str] | None:
    """Returns all keys in order, where all are shown even without alerts; None for names."""
    match by:
        case GroupBy.HOUR:
            return [f"{hour:02}" for hour in range(24)]
        case GroupBy.PRIORITY:
            return [str(priority) for priority in Priority]
        case _:
            return None
