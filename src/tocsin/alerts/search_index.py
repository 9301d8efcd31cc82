"""Keeps the texts of alerts in a separate table for searching, filled by a periodic task in the order of alert ids.

Alerts not yet in it, and active alerts, whose fields still change, are searched in their own table, so that a search is
always complete. Changed texts are updated when the changing messages are processed, or with the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from tocsin.alerts.models import Alert, AlertText
from tocsin.core.db.database import Connection
from tocsin.core.db.trigram_index import search_expression

#: An alert younger than this may have a lower-numbered neighbour whose transaction is not committed yet.
SETTLE_AFTER = timedelta(seconds=30)

_TEXTS = search_expression("a.subject", "a.client", "a.source_id", "a.tags::text")

_FILL = f"""
WITH next AS (
  SELECT a.* FROM alerts_alert a WHERE a.id > (SELECT coalesce(max(alert_id), 0) FROM alerts_alerttext)
  ORDER BY a.id LIMIT %(most)s
)
INSERT INTO alerts_alerttext (alert_id, subject, client, source_id, tags)
SELECT a.id, {_TEXTS} FROM next a
WHERE a.id < coalesce((SELECT min(id) FROM next WHERE opened_at >= %(settled)s), 9223372036854775807)
ON CONFLICT DO NOTHING
"""

_OPENED = "SELECT id, opened_at FROM alerts_alert WHERE id >= %s ORDER BY id LIMIT 1"

_COMMIT_MARGIN = timedelta(hours=1)

#: Maximum ids of active alerts listed in one statement.
_MAX_LISTED_IDS = 5_000

#: Skips alerts that `fill` has not reached yet: the highest stored id says how far it is.
_REFRESH = f"""
INSERT INTO alerts_alerttext AS t (alert_id, subject, client, source_id, tags)
SELECT a.id, {_TEXTS} FROM alerts_alert a
WHERE a.id = ANY(%s) AND a.id <= (SELECT max(alert_id) FROM alerts_alerttext)
ON CONFLICT (alert_id) DO UPDATE SET subject = excluded.subject, client = excluded.client,
    source_id = excluded.source_id, tags = excluded.tags
WHERE (t.subject, t.client, t.source_id, t.tags)
    IS DISTINCT FROM (excluded.subject, excluded.client, excluded.source_id, excluded.tags)
"""


def newest_indexed_id() -> int:
    """Returns the highest alert id in the index. All lower ids are in it too."""
    newest = AlertText.objects.order_by("-pk").values_list("pk", flat=True).first()
    return newest or 0


def first_id_opened_since(connection: Connection, at: datetime) -> int:
    """Returns the smallest id that an alert opened at or after `at` can have.

    Ids are assigned in the order of creation, so this is a binary search, with an hour's margin for concurrent
    transactions.
    """
    low, high = 0, 2**63 - 1
    newest = connection.execute("SELECT max(id) FROM alerts_alert").fetchone()
    if newest is not None and newest[0] is not None:
        high = newest[0] + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(_OPENED, (middle,)).fetchone()
        if row is None or row[1] + _COMMIT_MARGIN >= at:
            high = middle
        else:
            low = row[0] + 1
    return low


def filter_active(rows: QuerySet[Alert], condition: Q) -> QuerySet[Alert]:
    """Filters `rows`, active alerts, by `condition`.

    The ids are queried first, without an order: with an order by id and a limit, PostgreSQL prefers to scan all alerts
    until it has found enough active ones. If very many match, that scan is short, and is used.
    """
    matching = rows.filter(condition)
    ids = list(matching.order_by().values_list("pk", flat=True)[: _MAX_LISTED_IDS + 1])
    return matching if len(ids) > _MAX_LISTED_IDS else rows.filter(pk__in=ids)


def filter_inactive(rows: QuerySet[Alert], condition: Q, index_condition: Q) -> list[QuerySet[Alert]]:
    """Filters `rows`, inactive alerts, and returns the parts of a list page.

    `index_condition` is the same condition on the index (`texts`). It applies to every alert that the index contains.
    """
    return [rows.filter(condition, pk__gt=newest_indexed_id()), rows.filter(index_condition)] if condition else [rows]


def fill(connection: Connection, now: datetime, limit: int) -> int:
    """Adds the next alerts to the index, at most `limit`. Returns their number."""
    return connection.execute(_FILL, {"most": limit, "settled": now - SETTLE_AFTER}).rowcount


def refresh(connection: Connection, alerts: Sequence[int]) -> None:
    """Updates the texts of these alerts in the index. It also adds an alert whose id was assigned long before it was
    committed, which `fill` has skipped."""
    if alerts:
        connection.execute(_REFRESH, (sorted(set(alerts)),))
