"""Loads and locks the dedup keys of a batch, and writes them back. Set-based, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import replace
from psycopg import Cursor
from psycopg.rows import DictRow, dict_row

from tocsin.alerts import store as alert_rows
from tocsin.alerts.commands import Acknowledged, AlertState
from tocsin.alerts.new_alert import SOURCE_COLUMNS
from tocsin.alerts.states import ACTIVE, AlertStatus, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.db.json_text import as_json, bytes_in_json
from tocsin.core.ids import lock_number
from tocsin.inbound.deciding.preprocessing import DeliveryKey
from tocsin.inbound.deciding.state import (
    ActiveAlert,
    DedupKeyState,
    DuplicateDelivery,
    KeyRole,
    LockScopes,
    RateWindowState,
)
from tocsin.inbound.storage import noise_store as shaped_rows


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """The state that a batch depends on."""

    states: dict[bytes, DedupKeyState]
    seen: dict[DeliveryKey, DuplicateDelivery]
    #: Keys that cannot be decided now: their alert is locked, or a pending message comes before.
    held: frozenset[bytes]
    #: Keys that have a row in the table of key clocks.
    clocked: frozenset[bytes]
    config_version: int
    #: Rate windows by scope, and shared alerts by id.
    rate_windows: dict[bytes, RateWindowState] = field(default_factory=dict)
    lives: dict[int, ActiveAlert] = field(default_factory=dict)


#: Hashes are sent as one byte string, which is cheap to write, and split by the database.
_HASHES = "ARRAY(SELECT substring(%(hashes)s::bytea FROM i FOR 32) FROM generate_series(1, %(length)s::int, 32) AS i)"

_LIVE = database.literal(f"""
SELECT a.id, a.key_hash, a.status, a.priority, a.opened_at, a.owner_id,
       coalesce(nullif(u.name, ''), u.username, a.owner_name) AS owner_name,
       a.hold_until, a.merged_into_id, a.dry_run, a.tags, a.custom, {", ".join(f"a.{name}" for name in SOURCE_COLUMNS)},
       {shaped_rows.PAGES} AS pages
FROM alerts_alert a LEFT JOIN people_user u ON u.id = a.owner_id
WHERE a.key_hash = ANY({_HASHES}) AND a.holds_key ORDER BY a.key_hash FOR NO KEY UPDATE OF a
""")

_ACKNOWLEDGED = """
SELECT k.alert_id, k.user_id, k.at, coalesce(nullif(u.name, ''), u.username) AS name
FROM alerts_acknowledgement k JOIN people_user u ON u.id = k.user_id WHERE k.alert_id = ANY(%s)
"""

_MERGED = """
SELECT id, merged_into_id FROM alerts_alert WHERE merged_into_id = ANY(%s) AND status = 'merged'
ORDER BY id FOR NO KEY UPDATE
"""

_LIVE_NOW = database.literal(_LIVE.rstrip() + " SKIP LOCKED")

#: Takes the locks in ascending order. Returns at least one row, with the configuration version.
_LOCK = """
SELECT (SELECT version FROM core_configversion WHERE id = 1), n, {how}(n)
FROM (VALUES (1)) AS once LEFT JOIN unnest(%s::bigint[]) AS n ON true
"""
_WAIT_FOR = database.literal(_LOCK.format(how="pg_advisory_xact_lock"))
_TRY = database.literal(_LOCK.format(how="pg_try_advisory_xact_lock"))

_CLOCKS = database.literal(
    f"SELECT key_hash, latest_source_time, last_alert FROM inbound_dedupkey WHERE key_hash = ANY({_HASHES})"
)

_SHAPED = database.literal(shaped_rows.STANDING.format(hashes=_HASHES))

_SEEN = """
SELECT s.integration_id, s.hash, s.message, m.alert_id
FROM (SELECT i, substring(%(hashes)s::bytea FROM i * 32 - 31 FOR 32) AS hash, (%(ids)s::bigint[])[i] AS integration_id
      FROM generate_series(1, %(number)s::int) AS i) AS w
JOIN inbound_processeddelivery s ON s.integration_id = w.integration_id AND s.hash = w.hash
LEFT JOIN inbound_inboundmessage m ON m.id = s.message
"""


_NO_SCOPES: Mapping[bytes, LockScopes] = {}


class PendingKeyQuery(NamedTuple):
    """Queries about the keys of a batch whose results have not been read yet."""

    locked: Cursor[Any]
    live: Cursor[DictRow]
    clocks: Cursor[Any]
    seen: Cursor[Any]
    shaped: Cursor[DictRow]
    #: The keys, and the scopes that are locked and counted with them.
    wanted: Sequence[bytes]
    scopes: Mapping[bytes, LockScopes]
    counted: set[bytes]
    wait: bool


def ask(
    connection: Connection,
    hashes: Iterable[bytes],
    deliveries: Sequence[DeliveryKey],
    *,
    wait: bool,
    scopes: Mapping[bytes, LockScopes] = _NO_SCOPES,
) -> PendingKeyQuery:
    """Locks the keys and queries their state, inside a pipeline that must end before `standing` reads the results.

    With `wait`, waits for locked keys up to the connection's `lock_timeout` (LockNotAvailable); without, such keys are
    returned as `held`. `scopes` are the lock scopes of keys.
    """
    wanted = sorted({*hashes, *(one.parent for one in scopes.values() if one.parent is not None)})
    counted = {scope for one in scopes.values() for scope in one.rate_windows}
    numbers = _array(sorted({lock_number(one) for one in (*wanted, *counted)}))
    packed = {"hashes": b"".join(wanted), "length": 32 * len(wanted)}
    deliveries_packed = {
        "hashes": b"".join([hashed for _, hashed in deliveries]),
        "ids": _array([number for number, _ in deliveries]),
        "number": len(deliveries),
    }
    return PendingKeyQuery(
        locked=connection.execute(_WAIT_FOR if wait else _TRY, (numbers,), binary=True),
        live=_dicts(connection, _LIVE if wait else _LIVE_NOW, packed),
        clocks=connection.execute(_CLOCKS, packed, binary=True),
        seen=connection.execute(_SEEN, deliveries_packed, binary=True),
        shaped=_dicts(connection, _SHAPED, packed),
        wanted=wanted,
        scopes=scopes,
        counted=counted,
        wait=wait,
    )


def load_states(
    connection: Connection, asked: PendingKeyQuery, *, now: datetime, replaying: bool = False
) -> LoadedKeys:
    """Returns the state of the keys; scopes cost two more round trips. With `replaying`, for draining pending messages,
    those do not wait for themselves."""
    wait, scopes = asked.wait, asked.scopes
    held: set[bytes] = set()
    live_rows = asked.live.fetchall()
    locked = asked.locked.fetchall()
    if not wait:
        free = {number for _, number, is_free in locked if is_free}
        held = _not_locked(connection, free, live_rows, asked.wanted)
        held |= {key for key, one in scopes.items() if any(lock_number(scope) not in free for scope in one.all)}
    shaped_found = asked.shaped.fetchall()
    if shaped_found:
        if not replaying:
            held |= {bytes(row["key_hash"]) for row in shaped_found if row["role"] == shaped_rows.PENDING}
        shaped_found = [row for row in shaped_found if row["role"] != shaped_rows.PENDING]
    clock_rows = asked.clocks.fetchall()
    states = _states(connection, live_rows, clock_rows)
    rate_windows: dict[bytes, RateWindowState] = {}
    lives: dict[int, ActiveAlert] = {}
    parents = {live.parent_id for state in states.values() if (live := state.live) is not None and live.parent_id}
    if shaped_found or asked.counted or parents:
        rate_windows = shaped_rows.rate_windows(connection, asked.counted, now) if asked.counted else {}
        lives = _shared(connection, states, shaped_found, rate_windows, parents, held, scopes, wait=wait)
    return LoadedKeys(
        states,
        {(row[0], bytes(row[1])): DuplicateDelivery(row[2], row[3]) for row in asked.seen},
        frozenset(held),
        frozenset(row[0] for row in clock_rows),
        locked[0][0] or 0,
        rate_windows,
        lives,
    )


def _shared(
    connection: Connection,
    states: dict[bytes, DedupKeyState],
    shaped: Sequence[DictRow],
    rate_windows: Mapping[bytes, RateWindowState],
    parents: Collection[int],
    held: set[bytes],
    scopes: Mapping[bytes, LockScopes],
    *,
    wait: bool,
) -> dict[int, ActiveAlert]:
    """Adds delays and joined alerts to the keys; locks and returns the shared alerts, and the `parents` of merged ones.
    Keys whose shared alert or parent is locked elsewhere are added to `held`."""
    joined: dict[bytes, DictRow] = {}
    for row in shaped:
        key = bytes(row["key_hash"])
        if row["alert_id"] is not None:
            joined[key] = row
        else:
            states[key] = replace(states.get(key, DedupKeyState()), delayed=shaped_rows.delayed_of(row))
    named = {rate_window.alert_id for rate_window in rate_windows.values() if rate_window.alert_id is not None}
    named |= {row["alert_id"] for row in joined.values()}
    named |= set(parents)
    found = shaped_rows.load_active_alerts(connection, named, wait=wait)
    # A shared alert may be merged as well.
    above = {live.parent_id for _, live in found.values() if live.parent_id is not None} - found.keys()
    found |= shaped_rows.load_active_alerts(connection, above, wait=wait)
    if not wait:
        missing = _alive(connection, (named | above) - found.keys())
        missing |= {number for number, (_, live) in found.items() if live.parent_id in missing}
        held |= {key for key, row in joined.items() if row["alert_id"] in missing}
        held |= {key for key, state in states.items() if state.live is not None and state.live.parent_id in missing}
        held |= {
            key
            for key, one in scopes.items()
            if any(scope in rate_windows and rate_windows[scope].alert_id in missing for scope in one.rate_windows)
        }
    for key, row in joined.items():
        # A key is free if its shared alert was closed.
        if (live := found.get(row["alert_id"])) is not None and (
            known := states.get(key, DedupKeyState())
        ).live is None:
            states[key] = replace(known, live=live[1], shared=row["alert_id"], role=KeyRole(row["role"]))
    for number, (own, _) in found.items():
        if (state := states.get(own)) is not None and state.live is not None and state.live.state.id == number:
            states[own] = replace(state, shared=number)
    return {number: live for number, (_, live) in found.items()}


def _alive(connection: Connection, ids: set[int]) -> set[int]:
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


def _dicts(connection: Connection, query: Any, parameters: Mapping[str, object]) -> Cursor[DictRow]:
    return Cursor(connection, row_factory=dict_row).execute(query, parameters)


def _not_locked(connection: Connection, free: set[int], live: Sequence[DictRow], wanted: Sequence[bytes]) -> set[bytes]:
    """Returns the keys whose lock, or whose alert's row, another transaction holds."""
    held = {one for one in wanted if lock_number(one) not in free}
    mine = {bytes(row["key_hash"]) for row in live}
    alive = connection.execute("SELECT key_hash FROM alerts_alert WHERE key_hash = ANY(%s) AND holds_key", (wanted,))
    return held | {bytes(row[0]) for row in alive if bytes(row[0]) not in mine}


def _states(connection: Connection, live: Sequence[DictRow], clocks: Sequence[Any]) -> dict[bytes, DedupKeyState]:
    states = {bytes(key): DedupKeyState(None, latest_source_time, last) for key, latest_source_time, last in clocks}
    if not live:
        return states
    ids = [row["id"] for row in live]
    # Only for active alerts: costs one more round trip, which messages that open new alerts avoid.
    with connection.pipeline():
        acknowledged = Cursor(connection, row_factory=dict_row).execute(_ACKNOWLEDGED, (ids,))
        merged = connection.execute(_MERGED, (ids,))
    acks: dict[int, dict[int, Acknowledged]] = {}
    for row in acknowledged:
        acks.setdefault(row["alert_id"], {})[row["user_id"]] = Acknowledged(row["at"], row["name"])
    children = _children(connection, merged.fetchall())
    for row in live:
        own = children.get(row["id"], {})
        state = _state(row, acks.get(row["id"], {}), tuple(own))
        fields: dict[str, object] = {name: row[name] for name in (*SOURCE_COLUMNS, "tags", "custom")}
        alert = ActiveAlert(state, fields, row["merged_into_id"], own, pages=row["pages"], dry_run=row["dry_run"])
        key = bytes(row["key_hash"])
        states[key] = replace(states.get(key, DedupKeyState()), live=alert, last_alert=row["id"])
    return states


def _state(row: Mapping[str, Any], acknowledged: Mapping[int, Acknowledged], children: tuple[int, ...]) -> AlertState:
    return AlertState(
        row["id"],
        AlertStatus(row["status"]),
        Priority(row["priority"]),
        row["opened_at"],
        owner_id=row["owner_id"],
        owner_name=row["owner_name"] or "",
        acknowledged=acknowledged,
        hold_until=row["hold_until"],
        merged_into=row["merged_into_id"],
        children=children,
    )


def _children(connection: Connection, merged: Sequence[Any]) -> dict[int, dict[int, AlertState]]:
    """Loads merged alerts by parent. In the lock order, they come after their parents."""
    if not merged:
        return {}
    states = alert_rows.load(connection, [row[0] for row in merged])
    children: dict[int, dict[int, AlertState]] = {}
    for number, parent in merged:
        children.setdefault(parent, {})[number] = states[number]
    return children


_NEW_CLOCKS = """
INSERT INTO inbound_dedupkey (key_hash, latest_source_time, last_alert, touched_at)
SELECT key_hash, latest_source_time, last_alert, %s
FROM json_to_recordset(%s) AS n(key_hash bytea, latest_source_time timestamptz, last_alert bigint)
"""

_NEW_SEEN = """
INSERT INTO inbound_processeddelivery (integration_id, hash, message)
SELECT * FROM json_to_recordset(%s) AS n(integration_id bigint, hash bytea, message uuid)
"""


def write_clocks(
    connection: Connection, states: Mapping[bytes, DedupKeyState], known: frozenset[bytes], now: datetime
) -> None:
    """Writes the newest source time and last alert of keys.

    `known` are the keys that had a row when read under the same locks. No other transaction can have inserted the rest.
    """
    new = [
        {"key_hash": bytes_in_json(key), "latest_source_time": state.latest_source_time, "last_alert": state.last_alert}
        for key, state in states.items()
        if key not in known
    ]
    if new:
        connection.execute(_NEW_CLOCKS, (now, as_json(new)))
    old = [(key, state) for key, state in states.items() if key in known]
    if old:
        connection.execute(
            "UPDATE inbound_dedupkey k SET latest_source_time = n.latest_source_time, last_alert = n.last_alert, "
            "touched_at = %s "
            "FROM unnest(%s::bytea[], %s::timestamptz[], %s::bigint[]) AS n(key_hash, latest_source_time, last_alert) "
            "WHERE k.key_hash = n.key_hash",
            (
                now,
                [key for key, _ in old],
                [state.latest_source_time for _, state in old],
                [state.last_alert for _, state in old],
            ),
        )


def write_seen(connection: Connection, seen: Mapping[DeliveryKey, DuplicateDelivery]) -> None:
    """Records decided deliveries. If another node decides the same delivery now, its insert fails and it retries."""
    if seen:
        rows = [
            {"integration_id": integration_id, "hash": bytes_in_json(hashed), "message": one.message_id}
            for (integration_id, hashed), one in seen.items()
        ]
        connection.execute(_NEW_SEEN, (as_json(rows),))
