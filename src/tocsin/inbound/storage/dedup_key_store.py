"""Loads and locks the dedup keys of a batch, and writes them back. Set-based, in the caller's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import asdict, replace
from psycopg import Cursor
from psycopg.rows import DictRow, dict_row

from tocsin.alerts import store
from tocsin.alerts.commands import SOURCE_COLUMNS, Acknowledged, AlertState
from tocsin.alerts.states import ACTIVE, AlertStatus, Priority
from tocsin.alerts.store import OWNER_NAME, WITH_OWNER, key_holder
from tocsin.core.db import database
from tocsin.core.db.database import Connection, as_json, bytes_in_json
from tocsin.core.ids import advisory_lock_key
from tocsin.core.reasons import reason_as_json, reason_from_json
from tocsin.core.runtime.clock import Timers
from tocsin.inbound.deciding.decide import DeliveryKey
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    DedupKeyState,
    DelayedAlertState,
    DelayReason,
    DuplicateDelivery,
    GroupJoin,
    KeyRole,
    LockScopes,
    RateWindowState,
    WaitOutcome,
)
from tocsin.inbound.models import decompress
from tocsin.people.sql import join_user

# ---------- rows of noise reduction: delayed alerts, joined keys and rate windows

#: Pending messages, delayed alerts and joined keys of some keys, in one statement because most batches have none.
#: Delayed alerts are locked: a writer that does not lock their key, such as the end of a maintenance window, must come
#: before or after.
NOISE_ROWS = """
SELECT d.key_hash, NULL::bigint AS alert_id, NULL::text AS role, d.delay_reason, d.since, d.due_at,
       d.reason, d.triggered_at, d.message_count, d.priority, d.scope, d.released, d.window_id,
       d.subject, d.source_id
FROM (SELECT * FROM inbound_delayedalert w WHERE w.key_hash = ANY({hashes})
      FOR NO KEY UPDATE) AS d
UNION ALL
SELECT j.key_hash, j.alert_id, j.role, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM inbound_groupmember j WHERE j.key_hash = ANY({hashes}) AND j.left_at IS NULL
UNION ALL
SELECT m.key_hash, NULL, 'pending', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
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


def _delayed_of(row: Mapping[str, Any]) -> DelayedAlertState:
    return DelayedAlertState(
        DelayReason(row["delay_reason"]),
        row["since"],
        row["due_at"],
        reason_from_json(row["reason"]),
        tuple(row["triggered_at"]),
        row["message_count"],
        Priority(row["priority"]) if row["priority"] else None,
        bytes(row["scope"]) if row["scope"] is not None else None,
        row["released"],
        row["window_id"],
        row["subject"],
        row["source_id"],
    )


def _write(
    connection: Connection,
    table: str,
    key: str,
    rows: Sequence[Mapping[str, object]],
    *,
    replaced: Mapping[str, str] | None = None,
) -> None:
    """Writes rows, whose keys are the table's columns: inserts them, or updates those with the same `key`. `replaced`
    are SQL expressions of a row `n`, by column. Without a key, a row that exists raises UniqueViolation."""
    if not rows:
        return
    columns = ", ".join(rows[0])
    values = ", ".join((replaced or {}).get(column, column) for column in rows[0])
    updates = ", ".join(f"{column} = excluded.{column}" for column in rows[0])
    conflict = f"ON CONFLICT ({key}) DO UPDATE SET {updates}" if key else ""
    source = f"json_populate_recordset(NULL::{table}, %s) AS n"
    query = f"INSERT INTO {table} ({columns}) SELECT {values} FROM {source} {conflict}"
    json_rows = [
        {column: bytes_in_json(value) if isinstance(value, bytes) else value for column, value in row.items()}
        for row in rows
    ]
    connection.execute(database.literal(query), (as_json(json_rows),))


def write_delayed(connection: Connection, delayed_by_key: Mapping[bytes, tuple[int, DelayedAlertState | None]]) -> None:
    """Writes delayed alerts by key with their integration; None: no longer delayed."""
    ended_keys = [key for key, (_, delayed) in delayed_by_key.items() if delayed is None]
    if ended_keys:
        connection.execute("DELETE FROM inbound_delayedalert WHERE key_hash = ANY(%s)", (ended_keys,))
    rows = []
    for key, (integration_id, delayed) in delayed_by_key.items():
        if delayed is not None:
            row = {**asdict(delayed), "reason": reason_as_json(delayed.reason), "released": delayed.is_released}
            del row["is_released"]
            rows.append({"key_hash": key, "integration_id": integration_id, **row})
    window = "(SELECT w.id FROM inbound_maintenancewindow w WHERE w.id = n.window_id)"
    _write(connection, "inbound_delayedalert", "key_hash", rows, replaced={"window_id": window})


def write_wait_outcomes(connection: Connection, outcomes: Mapping[bytes, WaitOutcome]) -> None:
    """Writes the outcome of stored delayed messages, by key."""
    rows = [
        {"key": bytes_in_json(key), **asdict(outcome), "reason": reason_as_json(outcome.reason)}
        for key, outcome in outcomes.items()
    ]
    if rows:
        connection.execute(
            "UPDATE inbound_inboundmessage m SET status = n.status, reason = n.reason, alert_id = n.alert_id, "
            "key_hash = NULL FROM json_to_recordset(%s) "
            "AS n(key bytea, status text, reason jsonb, alert_id bigint) "
            "WHERE m.status = 'Mapped Delayed' AND m.key_hash = n.key",
            (as_json(rows),),
        )


def write_joins(connection: Connection, joins: Mapping[bytes, GroupJoin], now: datetime) -> None:
    """Writes which keys joined an alert, and which are over."""
    ended_keys = [key for key, join in joins.items() if join.role is None]
    if ended_keys:
        connection.execute(
            "UPDATE inbound_groupmember SET left_at = %s WHERE key_hash = ANY(%s) AND left_at IS NULL",
            (now, ended_keys),
        )
    rows = [
        {"key_hash": key, **asdict(join), "joined_at": now, "left_at": None}
        for key, join in joins.items()
        if join.role is not None
    ]
    _write(connection, "inbound_groupmember", "key_hash", rows)


def write_rate_windows(connection: Connection, windows: Mapping[bytes, RateWindowState], now: datetime) -> None:
    """Writes rate windows, except their number of waiting keys, which is counted when loaded."""
    rows = [
        {
            "hash": scope,
            "alert_id": window.alert_id,
            "until": window.until,
            "tokens": window.tokens,
            "at": window.tokens_at,
            "times": window.opening_times,
            "touched_at": now,
        }
        for scope, window in windows.items()
    ]
    _write(connection, "inbound_ratewindow", "hash", rows)


def release(connection: Connection, scopes: Sequence[bytes], now: datetime) -> None:
    """Makes the alerts waiting in these rate windows due; the delayed alerts task opens each under its key's lock."""
    if scopes:
        connection.execute(
            "UPDATE inbound_delayedalert SET due_at = %s, released = true WHERE scope = ANY(%s)",
            (now, list(scopes)),
        )
        database.notify(connection, "delayed")


def write_keys(connection: Connection, states: Mapping[bytes, DedupKeyState], now: datetime) -> None:
    """Writes the newest source time and last alert of keys."""
    rows = [
        {
            "key_hash": key,
            "latest_source_time": state.latest_source_time,
            "last_alert": state.last_alert_id,
            "touched_at": now,
        }
        for key, state in states.items()
    ]
    _write(connection, "inbound_dedupkey", "key_hash", rows)


def write_deliveries(connection: Connection, deliveries: Mapping[DeliveryKey, DuplicateDelivery]) -> None:
    """Records decided deliveries. If another node decides the same delivery now, its insert fails and it retries."""
    rows = [
        {"integration_id": integration_id, "hash": delivery_hash, "message": delivery.message_id}
        for (integration_id, delivery_hash), delivery in deliveries.items()
    ]
    _write(connection, "inbound_processeddelivery", "", rows)


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """The state that a batch depends on."""

    states: dict[bytes, DedupKeyState]
    deliveries: dict[DeliveryKey, DuplicateDelivery]
    #: Keys that cannot be decided now: their alert is locked, or a pending message comes before.
    blocked_keys: frozenset[bytes]
    config_version: int
    #: Rate windows by scope, and shared alerts by id.
    rate_windows: dict[bytes, RateWindowState] = field(default_factory=dict)
    active_alerts: dict[int, ActiveAlert] = field(default_factory=dict)


#: The alerts of an integration that a recovery is compared with: with more, it would be the only fitting one by chance.
MAX_COMPARED_ALERTS = 200
MAX_COMPARED_BYTES = 64 * 1024

#: Hashes are sent as one byte string, which is cheap to write, and split by the database.
_HASHES = "ARRAY(SELECT substring(%(hashes)s::bytea FROM i FOR 32) FROM generate_series(1, %(length)s::int, 32) AS i)"

_KEY_ALERTS = database.literal(f"""
SELECT a.id, a.key_hash, a.status, a.priority, a.opened_at, a.owner_id,
       {OWNER_NAME} AS owner_name,
       a.hold_until, a.merged_into_id, a.dry_run, a.tags, a.custom, {", ".join(f"a.{name}" for name in SOURCE_COLUMNS)},
       {PAGES} AS pages
FROM {WITH_OWNER}
WHERE a.key_hash = ANY({_HASHES}) AND a.holds_key ORDER BY a.key_hash FOR NO KEY UPDATE OF a
""")

_ACKNOWLEDGED = f"""
SELECT k.alert_id, k.user_id, k.at, u.display_name AS name
FROM alerts_acknowledgement k {join_user("k.user_id")} WHERE k.alert_id = ANY(%s)
"""

_MERGED = """
SELECT id, merged_into_id FROM alerts_alert WHERE merged_into_id = ANY(%s) AND status = 'merged'
ORDER BY id FOR NO KEY UPDATE
"""

_KEY_ALERTS_SKIP_LOCKED = database.literal(_KEY_ALERTS.rstrip() + " SKIP LOCKED")

#: An advisory lock that a batch shares, so that another transaction can exclude all of them.
_ALL_KEYS = int.from_bytes(b"keys")

#: Takes the locks in ascending order. Returns at least one row, with the configuration version.
_LOCK = """
SELECT (SELECT version FROM core_configversion WHERE id = 1), n, {how}
FROM (VALUES (1)) AS once LEFT JOIN unnest(%s::bigint[]) AS n ON true
"""
_WAIT_FOR = database.literal(_LOCK.format(how=f"pg_advisory_xact_lock_shared({_ALL_KEYS}), pg_advisory_xact_lock(n)"))
_TRY = database.literal(
    _LOCK.format(how=f"pg_try_advisory_xact_lock_shared({_ALL_KEYS}) AND pg_try_advisory_xact_lock(n)")
)

_STORED_KEYS = database.literal(
    f"SELECT key_hash, latest_source_time, last_alert FROM inbound_dedupkey WHERE key_hash = ANY({_HASHES})"
)

_NOISE_ROWS = database.literal(NOISE_ROWS.format(hashes=_HASHES))

#: Whether a key has an alert, or had one, by position; and the messages that opened the live alerts of integrations.
_KNOWN_KEYS = f"""
SELECT i FROM unnest(%s::bytea[]) WITH ORDINALITY AS n(key_hash, i)
WHERE EXISTS {key_holder("n.key_hash")}
   OR EXISTS (SELECT 1 FROM inbound_dedupkey k WHERE k.key_hash = n.key_hash AND k.last_alert IS NOT NULL)
   OR EXISTS (SELECT 1 FROM inbound_groupmember g WHERE g.key_hash = n.key_hash AND g.left_at IS NULL)
   OR EXISTS (SELECT 1 FROM inbound_delayedalert d WHERE d.key_hash = n.key_hash)
"""
_OPENING_MESSAGES = f"""
SELECT a.integration_id, a.key_hash, m.raw, m.content_type
FROM unnest(%s::bigint[]) AS n(id)
CROSS JOIN LATERAL (
    SELECT l.id, l.integration_id, l.key_hash FROM alerts_alert l
    WHERE l.integration_id = n.id AND l.status = ANY(%s) AND l.holds_key AND NOT l.is_test
    LIMIT {MAX_COMPARED_ALERTS + 1}
) AS a
CROSS JOIN LATERAL (
    SELECT o.raw, o.content_type FROM inbound_inboundmessage o WHERE o.alert_id = a.id
    ORDER BY o.id LIMIT 1
) AS m
WHERE octet_length(m.raw) <= {MAX_COMPARED_BYTES}
"""

_DELIVERIES = """
SELECT s.integration_id, s.hash, s.message, m.alert_id
FROM (SELECT i, substring(%(hashes)s::bytea FROM i * 32 - 31 FOR 32) AS hash, (%(ids)s::bigint[])[i] AS integration_id
      FROM generate_series(1, %(number)s::int) AS i) AS w
JOIN inbound_processeddelivery s ON s.integration_id = w.integration_id AND s.hash = w.hash
LEFT JOIN inbound_inboundmessage m ON m.id = s.message
"""


_NO_SCOPES: Mapping[bytes, LockScopes] = {}


class PendingKeyQuery(NamedTuple):
    """Queries about the keys of a batch whose results have not been read yet."""

    locks: Cursor[Any]
    active_alerts: Cursor[DictRow]
    stored_keys: Cursor[Any]
    deliveries: Cursor[Any]
    noise_rows: Cursor[DictRow]
    #: The keys, and the scopes that are locked and counted with them.
    key_hashes: Sequence[bytes]
    scopes: Mapping[bytes, LockScopes]
    rate_window_scopes: set[bytes]
    wait: bool


def lock_all_keys(connection: Connection, *_arguments: object) -> None:
    """Waits for the batches that have loaded keys, and holds off further ones until the transaction ends.

    Their messages are stored meanwhile and decided later, as those of any key that is locked.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ALL_KEYS,))


def find_unknown(connection: Connection, key_hashes: Sequence[bytes]) -> list[int]:
    """Returns the positions of keys that have no alert and never had one."""
    known = {row[0] - 1 for row in connection.execute(_KNOWN_KEYS, (list(key_hashes),))}
    return [position for position in range(len(key_hashes)) if position not in known]


def load_opening_messages(
    connection: Connection, integration_ids: Collection[int]
) -> list[tuple[int, bytes, bytes, str]]:
    """Returns integration, key, body and content type of the messages that opened the live alerts of integrations;
    nothing of those that have more than `MAX_COMPARED_ALERTS`."""
    rows = connection.execute(_OPENING_MESSAGES, (list(integration_ids), sorted(ACTIVE))).fetchall()
    counts = Counter(row[0] for row in rows)
    return [
        (integration_id, bytes(key_hash), decompress(bytes(raw)), content_type)
        for integration_id, key_hash, raw, content_type in rows
        if counts[integration_id] <= MAX_COMPARED_ALERTS
    ]


def query_keys(
    connection: Connection,
    hashes: Iterable[bytes],
    deliveries: Sequence[DeliveryKey],
    *,
    wait: bool,
    scopes: Mapping[bytes, LockScopes] = _NO_SCOPES,
) -> PendingKeyQuery:
    """Locks the keys and queries their state, inside a pipeline that must end before `load_states` reads the results.

    With `wait`, waits for locked keys up to the connection's `lock_timeout` (LockNotAvailable); without, such keys are
    returned as `blocked_keys`. `scopes` are the lock scopes of keys.
    """
    key_hashes = sorted({*hashes, *(item.parent for item in scopes.values() if item.parent is not None)})
    rate_window_scopes = {scope for item in scopes.values() for scope in item.rate_window_scopes}
    lock_numbers = _array(sorted({advisory_lock_key(item) for item in (*key_hashes, *rate_window_scopes)}))
    parameters = {"hashes": b"".join(key_hashes), "length": 32 * len(key_hashes)}
    delivery_parameters = {
        "hashes": b"".join([delivery_hash for _, delivery_hash in deliveries]),
        "ids": _array([integration_id for integration_id, _ in deliveries]),
        "number": len(deliveries),
    }
    return PendingKeyQuery(
        locks=connection.execute(_WAIT_FOR if wait else _TRY, (lock_numbers,), binary=True),
        active_alerts=_dicts(
            connection,
            _KEY_ALERTS if wait else _KEY_ALERTS_SKIP_LOCKED,
            parameters,
        ),
        stored_keys=connection.execute(_STORED_KEYS, parameters, binary=True),
        deliveries=connection.execute(_DELIVERIES, delivery_parameters, binary=True),
        noise_rows=_dicts(connection, _NOISE_ROWS, parameters),
        key_hashes=key_hashes,
        scopes=scopes,
        rate_window_scopes=rate_window_scopes,
        wait=wait,
    )


def load_states(
    connection: Connection, query: PendingKeyQuery, *, now: datetime, is_draining: bool = False
) -> LoadedKeys:
    """Returns the state of the keys; scopes cost two more round trips. With `is_draining`, for draining pending
    messages, those do not wait for themselves."""
    wait, scopes = query.wait, query.scopes
    blocked_keys: set[bytes] = set()
    active_rows = query.active_alerts.fetchall()
    lock_rows = query.locks.fetchall()
    if not wait:
        acquired_locks = {lock for _, lock, is_acquired in lock_rows if is_acquired}
        blocked_keys = _find_blocked_keys(connection, acquired_locks, active_rows, query.key_hashes)
        blocked_keys |= {
            key
            for key, key_scopes in scopes.items()
            if any(advisory_lock_key(scope) not in acquired_locks for scope in key_scopes.all_scopes)
        }
    noise_rows = query.noise_rows.fetchall()
    if noise_rows:
        if not is_draining:
            blocked_keys |= {bytes(row["key_hash"]) for row in noise_rows if row["role"] == PENDING}
        noise_rows = [row for row in noise_rows if row["role"] != PENDING]
    key_rows = query.stored_keys.fetchall()
    states = _load_key_states(connection, active_rows, key_rows)
    rate_windows: dict[bytes, RateWindowState] = {}
    active_alerts: dict[int, ActiveAlert] = {}
    parent_ids = {
        active_alert.parent_id
        for state in states.values()
        if (active_alert := state.active_alert) is not None and active_alert.parent_id
    }
    if noise_rows or query.rate_window_scopes or parent_ids:
        rate_windows = load_rate_windows(connection, query.rate_window_scopes, now) if query.rate_window_scopes else {}
        active_alerts = _load_shared_alerts(
            connection, states, noise_rows, rate_windows, parent_ids, blocked_keys, scopes, wait=wait
        )
    return LoadedKeys(
        states,
        {(row[0], bytes(row[1])): DuplicateDelivery(row[2], row[3]) for row in query.deliveries},
        frozenset(blocked_keys),
        lock_rows[0][0] or 0,
        rate_windows,
        active_alerts,
    )


def _load_shared_alerts(
    connection: Connection,
    states: dict[bytes, DedupKeyState],
    noise_rows: Sequence[DictRow],
    rate_windows: Mapping[bytes, RateWindowState],
    parent_ids: Collection[int],
    blocked_keys: set[bytes],
    scopes: Mapping[bytes, LockScopes],
    *,
    wait: bool,
) -> dict[int, ActiveAlert]:
    """Adds delays and joined alerts to the keys; locks and returns the shared alerts, and the `parent_ids` of merged
    ones. Keys whose shared alert or parent is locked elsewhere are added to `blocked_keys`."""
    member_rows: dict[bytes, DictRow] = {}
    for row in noise_rows:
        key = bytes(row["key_hash"])
        if row["alert_id"] is not None:
            member_rows[key] = row
        else:
            states[key] = replace(states.get(key, DedupKeyState()), delayed=_delayed_of(row))
    alert_ids = {rate_window.alert_id for rate_window in rate_windows.values() if rate_window.alert_id is not None}
    alert_ids |= {row["alert_id"] for row in member_rows.values()}
    alert_ids |= set(parent_ids)
    loaded = load_active_alerts(connection, alert_ids, wait=wait)
    # A shared alert may be merged as well.
    shared_parent_ids = {
        active_alert.parent_id for _, active_alert in loaded.values() if active_alert.parent_id is not None
    } - loaded.keys()
    loaded |= load_active_alerts(connection, shared_parent_ids, wait=wait)
    if not wait:
        locked_alert_ids = _find_active(connection, (alert_ids | shared_parent_ids) - loaded.keys())
        locked_alert_ids |= {
            alert_id for alert_id, (_, active_alert) in loaded.items() if active_alert.parent_id in locked_alert_ids
        }
        blocked_keys |= {key for key, row in member_rows.items() if row["alert_id"] in locked_alert_ids}
        blocked_keys |= {
            key
            for key, state in states.items()
            if state.active_alert is not None and state.active_alert.parent_id in locked_alert_ids
        }
        blocked_keys |= {
            key
            for key, key_scopes in scopes.items()
            if any(
                scope in rate_windows and rate_windows[scope].alert_id in locked_alert_ids
                for scope in key_scopes.rate_window_scopes
            )
        }
    for key, row in member_rows.items():
        # A key is free if its shared alert was closed.
        if (active_alert := loaded.get(row["alert_id"])) is not None and (
            key_state := states.get(key, DedupKeyState())
        ).active_alert is None:
            states[key] = replace(
                key_state, active_alert=active_alert[1], shared_alert_id=row["alert_id"], role=KeyRole(row["role"])
            )
    for alert_id, (key_hash, _) in loaded.items():
        if (
            (state := states.get(key_hash)) is not None
            and state.active_alert is not None
            and state.active_alert.state.id == alert_id
        ):
            states[key_hash] = replace(state, shared_alert_id=alert_id)
    return {alert_id: active_alert for alert_id, (_, active_alert) in loaded.items()}


def _find_active(connection: Connection, ids: set[int]) -> set[int]:
    if not ids:
        return set()
    rows = connection.execute(
        "SELECT id FROM alerts_alert WHERE id = ANY(%s) AND (holds_key OR status = ANY(%s))",
        (list(ids), sorted(ACTIVE)),
    )
    return {row[0] for row in rows}


def _array(numbers: Sequence[int]) -> str:
    """Formats a bigint[] as text, which is far cheaper than a list of parameters."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _dicts(connection: Connection, query: Any, parameters: Any) -> Cursor[DictRow]:
    return Cursor(connection, row_factory=dict_row).execute(query, parameters)


def _find_blocked_keys(
    connection: Connection, acquired_locks: set[int], active_rows: Sequence[DictRow], key_hashes: Sequence[bytes]
) -> set[bytes]:
    """Returns the keys whose lock, or whose alert's row, another transaction holds."""
    blocked_keys = {key for key in key_hashes if advisory_lock_key(key) not in acquired_locks}
    locked_keys = {bytes(row["key_hash"]) for row in active_rows}
    rows = connection.execute("SELECT key_hash FROM alerts_alert WHERE key_hash = ANY(%s) AND holds_key", (key_hashes,))
    return blocked_keys | {bytes(row[0]) for row in rows if bytes(row[0]) not in locked_keys}


def _load_key_states(
    connection: Connection, active_rows: Sequence[DictRow], key_rows: Sequence[Any]
) -> dict[bytes, DedupKeyState]:
    states = {
        bytes(key): DedupKeyState(None, latest_source_time, last_alert_id)
        for key, latest_source_time, last_alert_id in key_rows
    }
    if not active_rows:
        return states
    ids = [row["id"] for row in active_rows]
    # Only for active alerts: costs one more round trip, which messages that open new alerts avoid.
    with connection.pipeline():
        acknowledged = _dicts(connection, _ACKNOWLEDGED, (ids,))
        merged = connection.execute(_MERGED, (ids,))
    acks: dict[int, dict[int, Acknowledged]] = {}
    for row in acknowledged:
        acks.setdefault(row["alert_id"], {})[row["user_id"]] = Acknowledged(row["at"], row["name"])
    # In the lock order, merged alerts come after their parents.
    merged_rows = merged.fetchall()
    merged_states = store.load(connection, [row[0] for row in merged_rows]) if merged_rows else {}
    children: dict[int, dict[int, AlertState]] = {}
    for alert_id, parent_id in merged_rows:
        children.setdefault(parent_id, {})[alert_id] = merged_states[alert_id]
    for row in active_rows:
        alert_children = children.get(row["id"], {})
        state = AlertState(
            row["id"],
            AlertStatus(row["status"]),
            Priority(row["priority"]),
            row["opened_at"],
            owner_id=row["owner_id"],
            owner_name=row["owner_name"] or "",
            acknowledged=acks.get(row["id"], {}),
            hold_until=row["hold_until"],
            merged_into=row["merged_into_id"],
            children=tuple(alert_children),
        )
        active_alert = ActiveAlert(
            state,
            {name: row[name] for name in (*SOURCE_COLUMNS, "tags", "custom")},
            row["merged_into_id"],
            alert_children,
            is_paging=row["pages"],
            opened_in_dry_run=row["dry_run"],
        )
        key = bytes(row["key_hash"])
        states[key] = replace(states.get(key, DedupKeyState()), active_alert=active_alert, last_alert_id=row["id"])
    return states


#: Delays that count from their start. Support hours and maintenance windows end at real times, and an alert that waits
#: for a count must not be dropped earlier.
_RELATIVE_DELAYS = ", ".join(f"'{delay}'" for delay in (DelayReason.WAIT, DelayReason.EVERY, DelayReason.FLAPPING))

TIMERS = (
    Timers("inbound_delayedalert", ("due_at", "since"), f"delay_reason IN ({_RELATIVE_DELAYS})", key="key_hash"),
    Timers("inbound_ratewindow", ("until", "at"), key="hash", histories=("times",)),
)
