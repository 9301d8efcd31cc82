"""Rows of noise reduction: delayed alerts, joined keys and rate windows, read under their keys' locks, written in bulk.

Works on the connection passed in, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tocsin.alerts import store
from tocsin.alerts.new_alert import SOURCE_COLUMNS
from tocsin.alerts.states import ACTIVE, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json, bytes_in_json
from tocsin.core.reasons import reason_from
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    DelayedAlertState,
    DelayReason,
    GroupJoin,
    RateWindowState,
    WaitOutcome,
)

#: Pending messages, delayed alerts and joined keys of some keys, in one statement because most batches have none.
#: Delayed alerts are locked: a writer that does not lock their key, such as the end of a maintenance window, must come
#: before or after.
NOISE_ROWS = """
SELECT d.key_hash, NULL::bigint AS alert_id, NULL::text AS role, d.delay_reason, d.since, d.due_at,
       d.reason_code, d.reason_data, d.triggered_at, d.message_count, d.priority, d.scope, d.released, d.window_id,
       d.subject, d.source_id
FROM (SELECT * FROM inbound_delayedalert w WHERE w.key_hash = ANY({hashes})
      FOR NO KEY UPDATE) AS d
UNION ALL
SELECT j.key_hash, j.alert_id, j.role, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM inbound_groupmember j WHERE j.key_hash = ANY({hashes}) AND j.left_at IS NULL
UNION ALL
SELECT m.key_hash, NULL, 'pending', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM inbound_inboundmessage m WHERE m.status = 'Pending' AND m.key_hash = ANY({hashes})
"""

#: The role column of a key with a pending message.
PENDING = "pending"

_RATE_WINDOWS = """
SELECT w.hash, t.alert_id, t.until, t.tokens, t.at, t.times,
       (SELECT count(*) FROM inbound_delayedalert d
        WHERE d.scope = w.hash AND NOT d.released AND (d.due_at IS NULL OR d.due_at > %(now)s)) AS waiting
FROM unnest(%(scopes)s::bytea[]) AS w(hash) LEFT JOIN inbound_ratewindow t ON t.hash = w.hash
"""

#: Whether the escalation of alert `a` pages. An alert without one counts as paging, because none can start to.
PAGES = """coalesce((SELECT r.mode = 'page' FROM escalation_run r WHERE r.alert_id = a.id ORDER BY r.id DESC LIMIT 1),
                    true)"""

_ACTIVE_ALERTS = database.literal(f"""
SELECT a.id, a.key_hash, a.merged_into_id, a.dry_run, a.tags, a.custom,
       {", ".join(f"a.{name}" for name in SOURCE_COLUMNS)},
       (SELECT count(*) FROM inbound_groupmember j WHERE j.alert_id = a.id AND j.left_at IS NULL AND j.role <> 'child')
           AS members, {PAGES} AS pages
FROM alerts_alert a WHERE a.id = ANY(%s) AND (a.holds_key OR a.status = ANY(%s)) ORDER BY a.id FOR NO KEY UPDATE OF a
""")
_ACTIVE_ALERTS_SKIP_LOCKED = database.literal(_ACTIVE_ALERTS.rstrip() + " SKIP LOCKED")


def load_rate_windows(connection: Connection, scopes: Iterable[bytes], now: datetime) -> dict[bytes, RateWindowState]:
    """Loads the rate windows of some scopes, whose locks are held."""
    rows = database.rows(connection, _RATE_WINDOWS, {"scopes": sorted(scopes), "now": now})
    return {
        bytes(row["hash"]): RateWindowState(
            row["alert_id"], row["until"], row["tokens"], row["at"], tuple(row["times"] or ()), row["waiting"]
        )
        for row in rows
    }


def load_active_alerts(
    connection: Connection, ids: Iterable[int], *, wait: bool
) -> dict[int, tuple[bytes, ActiveAlert]]:
    """Loads and locks the active alerts among `ids`, with their keys and the alerts merged into them. Without `wait`,
    locked ones are omitted.

    They are locked after the alerts of the batch's own keys: a transaction that locks in the opposite order delays
    this one by at most the connection's `lock_timeout`.
    """
    alert_ids = sorted(set(ids))
    if not alert_ids:
        return {}
    rows = database.rows(
        connection, _ACTIVE_ALERTS if wait else _ACTIVE_ALERTS_SKIP_LOCKED, (alert_ids, sorted(ACTIVE))
    )
    states = store.load(connection, [row["id"] for row in rows])
    child_ids = [child for state in states.values() for child in state.children]
    if child_ids:
        store.lock(connection, child_ids)
    children = store.load(connection, child_ids) if child_ids else {}
    return {
        row["id"]: (
            bytes(row["key_hash"] or b""),
            ActiveAlert(
                states[row["id"]],
                {name: row[name] for name in (*SOURCE_COLUMNS, "tags", "custom")},
                row["merged_into_id"],
                {child_id: children[child_id] for child_id in states[row["id"]].children},
                row["members"],
                row["pages"],
                row["dry_run"],
            ),
        )
        for row in rows
    }


def delayed_of(row: Mapping[str, Any]) -> DelayedAlertState:
    """Converts a row to a delayed alert."""
    return DelayedAlertState(
        DelayReason(row["delay_reason"]),
        row["since"],
        row["due_at"],
        reason_from(row["reason_code"], row["reason_data"]),
        tuple(row["triggered_at"]),
        row["message_count"],
        Priority(row["priority"]) if row["priority"] else None,
        bytes(row["scope"]) if row["scope"] is not None else None,
        row["released"],
        row["window_id"],
        row["subject"],
        row["source_id"],
    )


_DELAY = """
INSERT INTO inbound_delayedalert (key_hash, integration_id, delay_reason, since, due_at, reason_code, reason_data,
       triggered_at, message_count, priority, scope, released, window_id, subject, source_id)
SELECT key_hash, integration_id, delay_reason, since, due_at, reason_code, reason_data, triggered_at, message_count,
       priority, scope, released, (SELECT w.id FROM inbound_maintenancewindow w WHERE w.id = n.window_id), subject,
       source_id
FROM json_to_recordset(%s) AS n(key_hash bytea, integration_id bigint, delay_reason text, since timestamptz,
     due_at timestamptz, reason_code text, reason_data jsonb, triggered_at timestamptz[], message_count int,
     priority text, scope bytea, released boolean, window_id bigint, subject text, source_id text)
ON CONFLICT (key_hash) DO UPDATE SET integration_id = excluded.integration_id, delay_reason = excluded.delay_reason,
   since = excluded.since, due_at = excluded.due_at, reason_code = excluded.reason_code,
   reason_data = excluded.reason_data, triggered_at = excluded.triggered_at,
   message_count = excluded.message_count, priority = excluded.priority, scope = excluded.scope,
   released = excluded.released, window_id = excluded.window_id, subject = excluded.subject,
   source_id = excluded.source_id
"""


def write_delayed(connection: Connection, delayed_by_key: Mapping[bytes, tuple[int, DelayedAlertState | None]]) -> None:
    """Writes delayed alerts by key with their integration; None: no longer delayed."""
    ended_keys = [key for key, (_, delayed) in delayed_by_key.items() if delayed is None]
    if ended_keys:
        connection.execute("DELETE FROM inbound_delayedalert WHERE key_hash = ANY(%s)", (ended_keys,))
    rows = [
        {
            "key_hash": bytes_in_json(key),
            "integration_id": integration_id,
            "delay_reason": state.delay_reason,
            "since": state.since,
            "due_at": state.due_at,
            "reason_code": state.reason.code,
            "reason_data": state.reason.data,
            "triggered_at": state.triggered_at,
            "message_count": state.message_count,
            "priority": state.priority,
            "scope": bytes_in_json(state.scope),
            "released": state.is_released,
            "window_id": state.window_id,
            "subject": state.subject,
            "source_id": state.source_id,
        }
        for key, (integration_id, state) in delayed_by_key.items()
        if state is not None
    ]
    if rows:
        connection.execute(_DELAY, (as_json(rows),))


def write_wait_outcomes(connection: Connection, outcomes: Mapping[bytes, WaitOutcome]) -> None:
    """Writes the outcome of stored delayed messages, by key."""
    if outcomes:
        rows = [
            {
                "key": bytes_in_json(key),
                "status": outcome.status,
                "reason_code": outcome.reason.code,
                "reason_data": outcome.reason.data,
                "alert_id": outcome.alert_id,
            }
            for key, outcome in outcomes.items()
        ]
        connection.execute(
            "UPDATE inbound_inboundmessage m SET status = n.status, reason_code = n.reason_code, "
            "reason_data = n.reason_data, alert_id = n.alert_id, key_hash = NULL FROM json_to_recordset(%s) "
            "AS n(key bytea, status text, reason_code text, reason_data jsonb, alert_id bigint) "
            "WHERE m.status = 'Mapped Delayed' AND m.key_hash = n.key",
            (as_json(rows),),
        )


_JOIN = """
INSERT INTO inbound_groupmember (key_hash, alert_id, role, subject, source_id, joined_at)
SELECT key_hash, alert_id, role, subject, source_id, joined_at FROM json_to_recordset(%s)
       AS n(key_hash bytea, alert_id bigint, role text, subject text, source_id text, joined_at timestamptz)
ON CONFLICT (key_hash) DO UPDATE SET alert_id = excluded.alert_id, role = excluded.role, subject = excluded.subject,
   source_id = excluded.source_id, joined_at = excluded.joined_at, left_at = NULL
"""


def write_joins(connection: Connection, joins: Mapping[bytes, GroupJoin], now: datetime) -> None:
    """Writes which keys joined an alert, and which are over."""
    ended_keys = [key for key, join in joins.items() if join.role is None]
    if ended_keys:
        connection.execute(
            "UPDATE inbound_groupmember SET left_at = %s WHERE key_hash = ANY(%s) AND left_at IS NULL",
            (now, ended_keys),
        )
    rows = [
        {
            "key_hash": bytes_in_json(key),
            "alert_id": join.alert_id,
            "role": join.role,
            "subject": join.subject,
            "source_id": join.source_id,
            "joined_at": now,
        }
        for key, join in joins.items()
        if join.role is not None
    ]
    if rows:
        connection.execute(_JOIN, (as_json(rows),))


_WRITE_RATE_WINDOWS = """
INSERT INTO inbound_ratewindow (hash, alert_id, until, tokens, at, times, touched_at)
SELECT hash, alert_id, until, tokens, at, times, %s FROM json_to_recordset(%s)
       AS n(hash bytea, alert_id bigint, until timestamptz, tokens float8, at timestamptz, times timestamptz[])
ON CONFLICT (hash) DO UPDATE SET alert_id = excluded.alert_id, until = excluded.until, tokens = excluded.tokens,
   at = excluded.at, times = excluded.times, touched_at = excluded.touched_at
"""


def write_rate_windows(connection: Connection, windows: Mapping[bytes, RateWindowState], now: datetime) -> None:
    """Writes rate windows, except their number of waiting keys, which is counted when loaded."""
    if windows:
        rows = [
            {
                "hash": bytes_in_json(scope),
                "alert_id": window.alert_id,
                "until": window.until,
                "tokens": window.tokens,
                "at": window.tokens_at,
                "times": window.opening_times,
            }
            for scope, window in windows.items()
        ]
        connection.execute(_WRITE_RATE_WINDOWS, (now, as_json(rows)))


def release(connection: Connection, scopes: Sequence[bytes], now: datetime) -> None:
    """Makes the alerts waiting in these rate windows due; the delayed alerts task opens each under its key's lock."""
    if scopes:
        connection.execute(
            "UPDATE inbound_delayedalert SET due_at = %s, released = true WHERE scope = ANY(%s)",
            (now, list(scopes)),
        )
        database.notify(connection, "delayed")
