"""The words of alerts, kept beside them for searching: filled by a loop, in the order of the alerts' numbers.

What is not in it yet is searched where it is, so that everything is found at once. So are live alerts, whose fields
still change; what changes is brought up to date as the messages that changed it are read, and with a command's change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from tocsin.alerts.models import Alert, AlertText
from tocsin.core.db.database import Connection
from tocsin.core.db.trigram_index import kept

#: An alert younger than this may have an older one beside it whose transaction is not committed yet.
SETTLE_AFTER = timedelta(seconds=30)

_TEXTS = kept("a.subject", "a.client", "a.source_id", "a.tags::text")

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

_OVERTAKEN = timedelta(hours=1)

#: Of live alerts: so many numbers are named in a statement.
_MANY = 5_000

#: Not of those that `fill` has yet to come to: the newest number that is kept says how far it is.
_REFRESH = f"""
INSERT INTO alerts_alerttext AS t (alert_id, subject, client, source_id, tags)
SELECT a.id, {_TEXTS} FROM alerts_alert a
WHERE a.id = ANY(%s) AND a.id <= (SELECT max(alert_id) FROM alerts_alerttext)
ON CONFLICT (alert_id) DO UPDATE SET subject = excluded.subject, client = excluded.client,
    source_id = excluded.source_id, tags = excluded.tags
WHERE (t.subject, t.client, t.source_id, t.tags)
    IS DISTINCT FROM (excluded.subject, excluded.client, excluded.source_id, excluded.tags)
"""


def newest_kept() -> int:
    """The number of the newest alert whose words are kept; every older one's are, too."""
    newest = AlertText.objects.order_by("-pk").values_list("pk", flat=True).first()
    return newest or 0


def first_opened(connection: Connection, at: datetime) -> int:
    """The smallest number that an alert may have which was opened at that moment or later.

    Alerts get their numbers as they open, so it is found by halving; an hour is left for those that overtook others.
    """
    low, high = 0, 2**63 - 1
    found = connection.execute("SELECT max(id) FROM alerts_alert").fetchone()
    if found is not None and found[0] is not None:
        high = found[0] + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(_OPENED, (middle,)).fetchone()
        if row is None or row[1] + _OVERTAKEN >= at:
            high = middle
        else:
            low = row[0] + 1
    return low


def live(rows: QuerySet[Alert], wanted: Q) -> QuerySet[Alert]:
    """Those of `rows`, live alerts, that fit `wanted`.

    Asked for without an order first: in the order of the numbers, and with a limit, the database prefers to read all
    alerts that there ever were until it has found enough live ones. Where very many fit, it soon has.
    """
    fitting = rows.filter(wanted)
    numbers = list(fitting.order_by().values_list("pk", flat=True)[: _MANY + 1])
    return fitting if len(numbers) > _MANY else rows.filter(pk__in=numbers)


def parts(rows: QuerySet[Alert], wanted: Q, by_words: Q) -> list[QuerySet[Alert]]:
    """Those of `rows`, alerts that are over, that fit `wanted`: the parts of a page.

    `by_words` says the same by the kept words (`texts`); it is asked wherever those are there.
    """
    return [rows.filter(wanted, pk__gt=newest_kept()), rows.filter(by_words)] if wanted else [rows]


def fill(connection: Connection, now: datetime, most: int) -> int:
    """Keeps the words of the next alerts, at most so many. Returns of how many."""
    return connection.execute(_FILL, {"most": most, "settled": now - SETTLE_AFTER}).rowcount


def refresh(connection: Connection, alerts: Sequence[int]) -> None:
    """Brings the kept words of these alerts up to date: of those that changed, and of those whose number was given away
    earlier than it was used, which `fill` has passed by."""
    if alerts:
        connection.execute(_REFRESH, (sorted(set(alerts)),))
