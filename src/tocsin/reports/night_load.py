"""Reports how often each user was paged at night, to reveal an uneven load.

The setting `night_hours` says when it is night in the user's time zone. E-mails and sandbox messages wake nobody and do
not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tocsin.core import ids
from tocsin.core.config.night_hours import NightHours
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.providers.pool import SANDBOX
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.reports.period import Period

#: How long before its sending a page can have been planned; quiet hours and repeats take days at most.
_PLANNED_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class NightLoad:
    """One user's load. An alert that paged the user twice counts once."""

    username: str
    name: str
    #: The number of alerts about which the user was paged, by day or night.
    alerts: int
    #: How many of them at night, and in how many nights.
    at_night: int
    nights: int


_NIGHTS = f"""
WITH called AS (
  SELECT d.user_id, d.alert_id,
         d.sent_at AT TIME ZONE u.time_zone - %(start)s::time::interval AS since_start
  FROM notify_delivery d JOIN people_user u ON u.id = d.user_id
  WHERE d.id >= %(first)s AND d.sent_at >= %(since)s AND d.sent_at < %(until)s AND d.purpose = '{Purpose.PAGE}'
    AND d.status IN ('{DeliveryStatus.SENT}', '{DeliveryStatus.DELIVERED}')
    AND d.channel <> 'email' AND d.provider_name <> '{SANDBOX}' AND d.alert_id IS NOT NULL
    AND (%(group)s::bigint IS NULL OR EXISTS (
      SELECT FROM escalation_run r WHERE r.alert_id = d.alert_id AND r.recipient_groups @> to_jsonb(%(group)s::bigint)))
), timed AS (
  SELECT user_id, alert_id, since_start::date AS night,
         since_start::time < %(end)s::time - %(start)s::time::interval AS is_night
  FROM called
)
SELECT u.username, coalesce(nullif(u.name, ''), u.username) AS name, count(DISTINCT t.alert_id)::int AS alerts,
       count(DISTINCT t.alert_id) FILTER (WHERE t.is_night)::int AS at_night,
       count(DISTINCT t.night) FILTER (WHERE t.is_night)::int AS nights
FROM timed t JOIN people_user u ON u.id = t.user_id
GROUP BY u.id ORDER BY at_night DESC, alerts DESC, u.username
"""


def load_nights(
    connection: Connection, period: Period, night: NightHours, group_id: int | None = None
) -> list[NightLoad]:
    """Everybody paged in the period, those most often woken first. With a group only about its alerts."""
    first = ids.first_uuid7(period.since - _PLANNED_BEFORE)
    parameters = {
        "first": first, "since": period.since, "until": period.until, "start": night.start, "end": night.end,
        "group": group_id,
    }  # fmt: skip
    return [NightLoad(**row) for row in database.rows(connection, _NIGHTS, parameters)]
