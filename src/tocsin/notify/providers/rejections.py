"""What providers refused lately, in their own sentences: a number that is not registered, a recipient who opted out, a
country that is off. Counted from the deliveries themselves; reads only, over Django's connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from tocsin.core import ids

#: Looked at so far back.
REJECTION_WINDOW = timedelta(days=7)

#: So many different sentences of one provider are told, those of the most messages first.
MAX_PER_PROVIDER = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """One sentence, how many messages it was said of, when last, and of which alert then."""

    error: str
    count: int
    last_at: datetime
    alert_id: int | None = None


# Ids are UUIDv7s: the primary key leads to the newest rows, and no other index is needed.
_REFUSED = """
SELECT provider_name, error, count, last_at, alert_id FROM (
  SELECT provider_name, error, count(*) AS count, max(ended_at) AS last_at,
         (array_agg(alert_id ORDER BY id DESC) FILTER (WHERE alert_id IS NOT NULL))[1] AS alert_id,
         row_number() OVER (PARTITION BY provider_name ORDER BY count(*) DESC, error) AS place
  FROM notify_delivery WHERE id >= %s AND status = 'failed' AND is_permanent AND provider_name <> '' AND error <> ''
    AND ended_at > %s
  GROUP BY provider_name, error
) AS told WHERE place <= %s ORDER BY provider_name, place
"""


def lately(now: datetime) -> Mapping[str, tuple[Rejection, ...]]:
    """What each provider refused for good within a week, by its name; one that refused nothing is absent."""
    since = now - REJECTION_WINDOW
    with connection.cursor() as cursor:
        # The ids carry the machine's time; the rows' own time decides.
        cursor.execute(_REFUSED, [ids.first_uuid7(since - timedelta(days=1)), since, MAX_PER_PROVIDER])
        rows = cursor.fetchall()
    found: dict[str, tuple[Rejection, ...]] = {}
    for name, error, count, last_at, alert_id in rows:
        found[name] = (*found.get(name, ()), Rejection(error, count, last_at, alert_id))
    return found
