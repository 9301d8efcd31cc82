"""Reports when each user was paged: by weekday and hour, and how often at night, to reveal an uneven load.

Hours are those of the user's time zone, and the setting `night_hours` says when it is night there. E-mails and sandbox
messages interrupt nobody and do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tocsin.core import ids
from tocsin.core.config.night_hours import NightHours
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.providers.pool import SANDBOX
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.reports.counted_alerts import NO_FILTER, AlertFilter
from tocsin.reports.period import Period

#: How long before its sending a page can have been planned; quiet hours and repeats take days at most.
_PLANNED_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Interruptions:
    """The pages of one user. An alert that paged the user twice counts once, and once in each hour."""

    username: str
    name: str
    #: The number of alerts about which the user was paged, by day or night.
    alerts: int
    #: How many of them at night, and in how many nights.
    at_night: int
    nights: int
    #: The number by (weekday, hour), Monday first: (0, 23) is Monday from 23:00. Hours without a page are absent.
    by_hour: Mapping[tuple[int, int], int]


_INTERRUPTIONS = """
WITH paged AS (
  SELECT d.user_id, d.alert_id, d.sent_at AT TIME ZONE u.time_zone AS local,
         d.sent_at AT TIME ZONE u.time_zone - %(start)s::time::interval AS since_start
  FROM notify_delivery d JOIN people_user u ON u.id = d.user_id
  WHERE d.id >= %(first)s AND d.sent_at >= %(since)s AND d.sent_at < %(until)s AND d.purpose = '{page}'
    AND d.status IN ('{sent}', '{delivered}') AND d.channel <> 'email' AND d.provider_name <> '{sandbox}'
    AND d.alert_id IS NOT NULL{filters}
), timed AS MATERIALIZED (
  SELECT user_id, alert_id, since_start::date AS night, date_trunc('hour', local) AS hour,
         since_start::time < %(end)s::time - %(start)s::time::interval AS is_night
  FROM paged
), people AS (
  SELECT user_id, count(*)::int AS alerts, count(*) FILTER (WHERE is_night)::int AS at_night FROM (
    SELECT user_id, alert_id, bool_or(is_night) AS is_night FROM timed GROUP BY 1, 2
  ) a GROUP BY 1
), nights AS (
  SELECT user_id, count(*)::int AS nights FROM (SELECT DISTINCT user_id, night FROM timed WHERE is_night) n GROUP BY 1
), hours AS (
  SELECT user_id, jsonb_agg(jsonb_build_array(weekday, hour, number)) AS by_hour FROM (
    SELECT user_id, extract(isodow FROM hour)::int - 1 AS weekday, extract(hour FROM hour)::int AS hour,
           count(*) AS number
    FROM (SELECT DISTINCT user_id, alert_id, hour FROM timed) d GROUP BY 1, 2, 3
  ) h GROUP BY 1
)
SELECT u.username, coalesce(nullif(u.name, ''), u.username) AS name, p.alerts, p.at_night,
       coalesce(n.nights, 0) AS nights, h.by_hour
FROM people p JOIN people_user u ON u.id = p.user_id JOIN hours h ON h.user_id = p.user_id
LEFT JOIN nights n ON n.user_id = p.user_id
ORDER BY at_night DESC, alerts DESC, u.username
"""


def load_interruptions(
    connection: Connection, period: Period, night: NightHours, filters: AlertFilter = NO_FILTER
) -> list[Interruptions]:
    """Everybody paged in the period about the filtered alerts, those most often woken first."""
    conditions = filters.conditions()
    statement = _INTERRUPTIONS.format(
        page=Purpose.PAGE,
        sent=DeliveryStatus.SENT,
        delivered=DeliveryStatus.DELIVERED,
        sandbox=SANDBOX,
        filters=f"\n    AND EXISTS (SELECT FROM alerts_alert a WHERE a.id = d.alert_id{conditions})"
        if conditions
        else "",
    )
    values = {
        "first": ids.first_uuid7(period.since - _PLANNED_BEFORE),
        "since": period.since,
        "until": period.until,
        "start": night.start,
        "end": night.end,
        **filters.parameters(),
    }
    return [
        Interruptions(**{**row, "by_hour": {(weekday, hour): number for weekday, hour, number in row["by_hour"]}})
        for row in database.rows(connection, database.literal(statement), values)
    ]


def total_by_hour(people: Sequence[Interruptions]) -> Mapping[tuple[int, int], int]:
    """The interruptions of all users by (weekday, hour)."""
    total: Counter[tuple[int, int]] = Counter()
    for person in people:
        total.update(person.by_hour)
    return total
