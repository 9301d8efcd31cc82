"""Recent rejections by provider: an unregistered number, a recipient who opted out, a disabled country, a quota.
Counted from the deliveries; reads only, over Django's connection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from tocsin.core import ids
from tocsin.core.reasons import Reason, reason_from

#: How far back rejections are counted.
REJECTION_WINDOW = timedelta(days=7)

#: The maximum number of different errors per provider, most frequent first.
MAX_PER_PROVIDER = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """One error: its number of messages, its latest time, and the latest alert it affected."""

    error: Reason
    count: int
    last_at: datetime
    alert_id: int | None = None


# Ids are UUIDv7s: the primary key leads to the newest rows, and no other index is needed.
_REJECTIONS = """
SELECT provider_name, error_code, error_data, count, last_at, alert_id FROM (
  SELECT provider_name, error_code, error_data, count(*) AS count, max(coalesce(ended_at, late_since)) AS last_at,
         (array_agg(alert_id ORDER BY id DESC) FILTER (WHERE alert_id IS NOT NULL))[1] AS alert_id,
         row_number() OVER (PARTITION BY provider_name ORDER BY count(*) DESC, error_code, error_data) AS place
  FROM notify_delivery WHERE id >= %s AND is_permanent AND provider_name <> '' AND error_code <> ''
    AND coalesce(ended_at, late_since) > %s
  GROUP BY provider_name, error_code, error_data
) AS ranked WHERE place <= %s ORDER BY provider_name, place
"""


def recent_rejections(now: datetime) -> Mapping[str, tuple[Rejection, ...]]:
    """Returns the rejections of the last week by provider name. A provider without any is absent. What was refused and
    sent later is not counted.
    """
    since = now - REJECTION_WINDOW
    with connection.cursor() as cursor:
        # Ids carry the machine's clock, which may have jumped: search a day more and compare the row's own time.
        cursor.execute(_REJECTIONS, [ids.first_uuid7(since - timedelta(days=1)), since, MAX_PER_PROVIDER])
        rows = cursor.fetchall()
    rejections: dict[str, tuple[Rejection, ...]] = {}
    for name, code, data, count, last_at, alert_id in rows:
        # A raw cursor returns jsonb as text.
        error = reason_from(code, json.loads(data))
        rejections[name] = (*rejections.get(name, ()), Rejection(error, count, last_at, alert_id))
    return rejections
