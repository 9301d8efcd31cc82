"""Loads the inputs of a self-check: a few cheap, indexed queries in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tocsin.alerts.states import ACTIVE
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import reason_from
from tocsin.core.runtime import clock_jump
from tocsin.escalation.models import EXHAUSTED_RUNS_SQL
from tocsin.escalation.tasks import STUCK_AFTER
from tocsin.notify import pause
from tocsin.notify.dispatch import sandbox
from tocsin.operate import node_heartbeat
from tocsin.operate.self_check.rules import OVERDUE_AFTER, CountWithExamples, LongestWait, SelfCheckInputs

#: Alerts listed per problem: as many as a person can work through.
MAX_EXAMPLES = 50

_LIVE = sorted(ACTIVE)


def load_inputs(connection: Connection, now: datetime) -> SelfCheckInputs:
    """The inputs as of `now`."""
    return SelfCheckInputs(
        now=now,
        nodes=node_heartbeat.load_nodes(connection),
        run=_longest_wait(connection, _RUN, {"now": now}),
        page=None if pause.current_pause(connection, now) else _page(connection, now),
        unreached_alerts=unreached(connection, now),
        without_provider=sandbox.unreachable(connection),
        message=_longest_wait(connection, _MESSAGE, {"now": now}),
        forgotten_alerts=_count_with_examples(connection, _FORGOTTEN, {}),
        stuck_alerts=_count_with_examples(connection, _STUCK, {"live": _LIVE, "stuck": STUCK_AFTER}),
        lost_deliveries=_lost(connection),
        jump=clock_jump.last_jump(connection),
    )


_RUN = """
SELECT alert_id, due_at AS since, '' AS why_code, '{}'::jsonb AS why_data FROM escalation_run
WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1
"""

# A retried page is due later, but late since it was first due; a page being sent is not sent yet either. After a pause,
# lateness counts from the pause's end. An alert about which another page was sent is not waiting for its first one. One
# branch per partial index.
_PAGE = """
SELECT alert_id, since, why_code, why_data FROM (
  SELECT d.alert_id, CASE WHEN d.late_since IS NULL THEN '' ELSE d.error_code END AS why_code,
         CASE WHEN d.late_since IS NULL THEN '{}' ELSE d.error_data END AS why_data, greatest(
           coalesce(d.late_since, d.due_at),
           (SELECT max(least(coalesce(p.ended_at, p.until), %(now)s)) FROM notify_pause p WHERE p.started_at <= %(now)s)
         ) AS since
  FROM (
    SELECT alert_id, error_code, error_data, due_at, late_since FROM notify_delivery
    WHERE status = 'queued' AND is_first AND purpose = 'page'
    UNION ALL
    SELECT alert_id, error_code, error_data, due_at, late_since FROM notify_delivery
    WHERE status = 'sending' AND is_first AND purpose = 'page'
  ) AS d
  WHERE NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page'
                    AND o.status IN ('sent', 'delivered'))
) AS waiting WHERE since <= %(now)s ORDER BY since LIMIT 1
"""

# Starts from the few pages that are late or failed, with one branch per partial index, and from the few runs that have
# paged no one, so little is read in a quiet hour, however many alerts are open. Of a run only pages sent since its
# start count (clocks may differ by two seconds), because an earlier run paged other people. A page that waits for its
# time, for the end of quiet hours, or for the user's hourly limit is due later, and until then nothing is wrong. Pages
# delayed by a pause are late a minute after its end. OFFSET 0 keeps PostgreSQL from reading all deliveries at once.
_UNREACHED = f"""
WITH late AS MATERIALIZED (
  SELECT alert_id FROM notify_delivery WHERE status = 'queued' AND purpose = 'page' AND due_at <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'queued' AND purpose = 'page' AND late_since IS NOT NULL AND late_since <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'sending' AND purpose = 'page' AND coalesce(late_since, due_at) <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'failed' AND purpose = 'page' AND coalesce(late_since, due_at) <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'sandboxed' AND purpose = 'page' AND coalesce(late_since, due_at) <= %(before)s
), without_page AS MATERIALIZED (
  SELECT alert_id, started_at FROM escalation_run r WHERE status <> 'ended' AND mode = 'page'
    AND progress -> 'any_notified' IS DISTINCT FROM 'true'
    AND (progress -> 'is_waiting' = 'true' OR (progress ->> 'last_step_at')::timestamptz <= %(before)s)
  UNION SELECT alert_id, started_at FROM escalation_run r WHERE mode = 'page' AND ({EXHAUSTED_RUNS_SQL})
), candidate AS (
  SELECT alert_id, '-infinity'::timestamptz AS since FROM late
  UNION SELECT alert_id, started_at - interval '2 seconds' FROM without_page w WHERE NOT EXISTS (
    SELECT FROM notify_delivery o WHERE o.alert_id = w.alert_id AND o.purpose = 'page'
    AND o.status IN ('queued', 'sending') AND coalesce(o.late_since, o.due_at) > %(before)s OFFSET 0)
), unreached AS (
  SELECT DISTINCT a.id FROM candidate c JOIN alerts_alert a ON a.id = c.alert_id
  WHERE a.status = 'open' AND NOT a.dry_run AND NOT a.is_test
    AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id)
    AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = a.id AND o.purpose = 'page'
                    AND o.status IN ('sent', 'delivered') AND coalesce(o.sent_at, o.due_at) >= c.since OFFSET 0)
    AND NOT EXISTS (SELECT FROM notify_pause p
                    WHERE p.started_at <= %(now)s AND coalesce(p.ended_at, p.until) > %(before)s)
)
SELECT count(*) AS number, coalesce((array_agg(id ORDER BY id))[1:{MAX_EXAMPLES}], '{{}}') AS some FROM unreached
"""

# An undecided message, or a delayed alert that is due.
_MESSAGE = """
SELECT NULL::bigint AS alert_id, since, '' AS why_code, '{}'::jsonb AS why_data FROM (
  (SELECT received_at AS since FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT 1)
  UNION ALL
  (SELECT due_at FROM inbound_delayedalert WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1)
) AS waiting ORDER BY since LIMIT 1
"""

# Active alerts first, through their own partial index, which matches only these literal values: ordered by id, all
# alerts ever created would be read.
_FORGOTTEN = f"""
WITH live AS MATERIALIZED (SELECT id FROM alerts_alert WHERE status IN ({", ".join(f"'{status}'" for status in _LIVE)}))
SELECT a.id FROM live a WHERE NOT EXISTS (
  SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.status <> 'ended'
  AND (r.due_at IS NOT NULL OR (r.reason_code <> '' AND r.status NOT IN ('active', 'paused'))))
ORDER BY a.id LIMIT 1000
"""

_STUCK = """
SELECT a.id FROM escalation_run r JOIN alerts_alert a ON a.id = r.alert_id
WHERE r.due_at IS NOT NULL AND r.failures >= %(stuck)s AND a.status = ANY(%(live)s) ORDER BY a.id LIMIT 1000
"""


def _longest_wait(connection: Connection, query: str, parameters: dict[str, Any]) -> LongestWait | None:
    row = database.row(connection, database.literal(query), parameters)
    if row is None:
        return None
    return LongestWait(row["alert_id"], row["since"], reason_from(row["why_code"], row["why_data"]))


def _page(connection: Connection, now: datetime) -> LongestWait | None:
    return _longest_wait(connection, _PAGE, {"now": now})


def unreached(connection: Connection, now: datetime) -> CountWithExamples:
    """Open alerts that have reached no one, oldest first.

    Their pages failed or wait for a retry, or the steps of their run found nobody to page: no one has the role, the
    step waits, or the policy is exhausted. The alerts are not acknowledged, and neither a pause nor a dry run nor a
    test explains it.
    """
    row = database.row(connection, _UNREACHED, {"now": now, "before": now - OVERDUE_AFTER})
    return CountWithExamples(row["number"], tuple(row["some"])) if row else CountWithExamples()


def _count_with_examples(connection: Connection, query: str, parameters: dict[str, Any]) -> CountWithExamples:
    ids = [row["id"] for row in database.rows(connection, database.literal(query), parameters)]
    return CountWithExamples(len(ids), tuple(ids[:MAX_EXAMPLES]))


def _lost(connection: Connection) -> int:
    # Leases are set and compared by the database's clock.
    row = database.row(
        connection,
        "SELECT count(*) AS number FROM notify_delivery WHERE status = 'sending' "
        "AND lease_until < clock_timestamp() - %s",
        (OVERDUE_AFTER,),
    )
    return row["number"] if row else 0
