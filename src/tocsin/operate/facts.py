"""Reads what an audit looks at: a few cheap statements, each on an index, in the caller's transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from tocsin.alerts.states import LIVE
from tocsin.core import clock_seen, database
from tocsin.core.database import Connection
from tocsin.escalation.loop import STUCK_AFTER
from tocsin.notify import pause
from tocsin.notify.retries import DELAYS
from tocsin.operate import presence
from tocsin.operate.audit import LATE, Facts, Several, Waiting

#: So many alerts are named in a problem.
NAMED = 5

_LIVE = sorted(LIVE)


def gather(connection: Connection, now: datetime) -> Facts:
    """The facts as of `now`."""
    return Facts(
        now=now,
        nodes=presence.nodes(connection),
        run=_waiting(connection, _RUN, {"now": now}),
        page=None if pause.current(connection, now) else _page(connection, now),
        message=_waiting(connection, _MESSAGE, {"now": now}),
        forgotten=_several(connection, _FORGOTTEN, {}),
        stuck=_several(connection, _STUCK, {"live": _LIVE, "stuck": STUCK_AFTER}),
        lost=_lost(connection),
        jump=clock_seen.last_jump(connection),
    )


_RUN = """
SELECT alert_id, due_at AS since, '' AS why FROM escalation_run WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1
"""

# A page that was tried is due again later, so its first moment is reckoned back. One that is being sent has not left
# either; its try counts already. What a pause held up counts from the pause's end. An alert about which another page
# has left is not waiting for its first. One arm for each partial index.
_PAGE = """
SELECT alert_id, since, CASE WHEN failed > 0 THEN error ELSE '' END AS why FROM (
  SELECT d.alert_id, d.failed, d.error, greatest(
           d.due_at - (%(tried)s::interval[])[1 + least(d.failed, %(most)s)],
           (SELECT max(least(coalesce(p.ended_at, p.until), %(now)s)) FROM notify_pause p WHERE p.started_at <= %(now)s)
         ) AS since
  FROM (
    SELECT alert_id, error, due_at, attempts AS failed FROM notify_delivery
    WHERE status = 'queued' AND is_first AND purpose = 'page'
    UNION ALL
    SELECT alert_id, error, due_at, greatest(attempts - 1, 0) FROM notify_delivery
    WHERE status = 'sending' AND is_first AND purpose = 'page'
  ) AS d
  WHERE NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page'
                    AND o.status IN ('sent', 'delivered'))
) AS waiting WHERE since <= %(now)s ORDER BY since LIMIT 1
"""

# An undecided message, or an opening that waited and is due.
_MESSAGE = """
SELECT NULL::bigint AS alert_id, since, '' AS why FROM (
  (SELECT received_at AS since FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT 1)
  UNION ALL
  (SELECT due_at FROM inbound_delayedopening WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1)
) AS waiting ORDER BY since LIMIT 1
"""

# The live ones first, by their own index, which knows them by these words only: in the order of their numbers all
# alerts that there ever were would be read.
_FORGOTTEN = f"""
WITH live AS MATERIALIZED (SELECT id FROM alerts_alert WHERE status IN ({", ".join(f"'{one}'" for one in _LIVE)}))
SELECT a.id FROM live a WHERE NOT EXISTS (
  SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.status <> 'ended'
  AND (r.due_at IS NOT NULL OR (r.reason <> '' AND r.status NOT IN ('active', 'paused'))))
ORDER BY a.id LIMIT 1000
"""

_STUCK = """
SELECT a.id FROM escalation_run r JOIN alerts_alert a ON a.id = r.alert_id
WHERE r.due_at IS NOT NULL AND r.failures >= %(stuck)s AND a.status = ANY(%(live)s) ORDER BY a.id LIMIT 1000
"""


def _waiting(connection: Connection, query: str, parameters: dict[str, Any]) -> Waiting | None:
    row = database.row(connection, database.literal(query), parameters)
    return None if row is None else Waiting(row["alert_id"], row["since"], row["why"])


def _page(connection: Connection, now: datetime) -> Waiting | None:
    tried = [timedelta(), *accumulate(DELAYS)]
    return _waiting(connection, _PAGE, {"now": now, "tried": tried, "most": len(DELAYS)})


def _several(connection: Connection, query: str, parameters: dict[str, Any]) -> Several:
    ids = [row["id"] for row in database.rows(connection, database.literal(query), parameters)]
    return Several(len(ids), tuple(ids[:NAMED]))


def _lost(connection: Connection) -> int:
    # A lease is set and compared by the database's clock.
    row = database.row(
        connection,
        "SELECT count(*) AS number FROM notify_delivery WHERE status = 'sending' "
        "AND lease_until < clock_timestamp() - %s",
        (LATE,),
    )
    return row["number"] if row else 0
