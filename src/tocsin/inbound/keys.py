"""The dedup keys of a batch: locked, then read as they stand. Set-based, on the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg import Cursor
from psycopg.rows import DictRow, dict_row

from tocsin.alerts import rows as alert_rows
from tocsin.alerts.openings import SOURCE_COLUMNS
from tocsin.alerts.orders import Acknowledged, AlertState
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.core.ids import lock_number
from tocsin.inbound.decide import KeyState, LiveAlert, Seen

#: A delivery as it is looked up: the integration, and the SHA-256 of the sender's own id.
type DeliveryKey = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Keys:
    """What a batch stands on."""

    states: dict[bytes, KeyState]
    seen: dict[DeliveryKey, Seen]
    #: Keys that cannot be decided now: somebody holds their alert, or an undecided message is before them.
    held: frozenset[bytes]
    config_version: int


_LIVE = database.literal(f"""
SELECT a.id, a.key_hash, a.status, a.priority, a.opened_at, a.owner_id,
       coalesce(nullif(u.name, ''), u.username, a.owner_name) AS owner_name,
       a.hold_until, a.merged_into_id, a.tags, a.custom, {", ".join(f"a.{name}" for name in SOURCE_COLUMNS)}
FROM alerts_alert a LEFT JOIN people_user u ON u.id = a.owner_id
WHERE a.key_hash = ANY(%s) AND a.holds_key ORDER BY a.key_hash FOR NO KEY UPDATE OF a
""")

_ACKNOWLEDGED = """
SELECT k.alert_id, k.user_id, k.at, coalesce(nullif(u.name, ''), u.username) AS name
FROM alerts_alert a JOIN alerts_acknowledgement k ON k.alert_id = a.id JOIN people_user u ON u.id = k.user_id
WHERE a.key_hash = ANY(%s) AND a.holds_key
"""

_SEEN = """
SELECT s.integration_id, s.hash, s.message, m.alert_id
FROM unnest(%s::bigint[], %s::bytea[]) AS w(integration_id, hash)
JOIN inbound_seendelivery s ON s.integration_id = w.integration_id AND s.hash = w.hash
LEFT JOIN inbound_inboundmessage m ON m.id = s.message
"""


def take(
    connection: Connection,
    hashes: Iterable[bytes],
    deliveries: Sequence[DeliveryKey],
    *,
    wait: bool,
    replaying: bool = False,
) -> Keys:
    """Locks the keys and reads them, in one exchange with the database.

    With `wait`, whoever holds one of them is waited for, up to the connection's `lock_timeout` (LockNotAvailable);
    without, such keys come back as `held`. A drain of undecided messages is `replaying`: they are not behind
    themselves.
    """
    wanted = sorted(set(hashes))
    numbers = sorted({lock_number(one) for one in wanted})
    with connection.pipeline():
        if wait:
            locked = connection.execute(
                "SELECT pg_advisory_xact_lock(n), n FROM unnest(%s::bigint[]) AS n", (numbers,), binary=True
            )
        else:
            locked = connection.execute(
                "SELECT pg_try_advisory_xact_lock(n), n FROM unnest(%s::bigint[]) AS n", (numbers,), binary=True
            )
        live = _dicts(connection, _LIVE if wait else database.literal(_LIVE.rstrip() + " SKIP LOCKED"), (wanted,))
        acknowledged = _dicts(connection, _ACKNOWLEDGED, (wanted,))
        clocks = connection.execute(
            "SELECT key_hash, newest, last_alert FROM inbound_keyclock WHERE key_hash = ANY(%s)", (wanted,), binary=True
        )
        seen = connection.execute(_SEEN, ([d[0] for d in deliveries], [d[1] for d in deliveries]))
        waiting = connection.execute(
            "SELECT DISTINCT key_hash FROM inbound_inboundmessage WHERE status = 'Pending' AND key_hash = ANY(%s)",
            (wanted,),
        )
        version = connection.execute("SELECT version FROM core_configversion WHERE id = 1")
    held = set() if wait else _not_locked(connection, locked, live_rows := live.fetchall(), wanted)
    if wait:
        live_rows = live.fetchall()
    if not replaying:
        held |= {bytes(row[0]) for row in waiting}
    found_version = version.fetchone()
    return Keys(
        _states(connection, live_rows, acknowledged.fetchall(), clocks.fetchall()),
        {(row[0], bytes(row[1])): Seen(row[2], row[3]) for row in seen},
        frozenset(held),
        found_version[0] if found_version else 0,
    )


def _dicts(connection: Connection, query: Any, parameters: Sequence[object]) -> Cursor[DictRow]:
    return Cursor(connection, row_factory=dict_row).execute(query, parameters)


def _not_locked(
    connection: Connection, locked: Cursor[Any], live: Sequence[DictRow], wanted: Sequence[bytes]
) -> set[bytes]:
    """The keys whose own lock, or whose alert's row, somebody else holds."""
    free = {row[1] for row in locked if row[0]}
    held = {one for one in wanted if lock_number(one) not in free}
    mine = {bytes(row["key_hash"]) for row in live}
    alive = connection.execute("SELECT key_hash FROM alerts_alert WHERE key_hash = ANY(%s) AND holds_key", (wanted,))
    return held | {bytes(row[0]) for row in alive if bytes(row[0]) not in mine}


def _states(
    connection: Connection, live: Sequence[DictRow], acknowledged: Sequence[DictRow], clocks: Sequence[Any]
) -> dict[bytes, KeyState]:
    states = {bytes(key): KeyState(None, newest, last) for key, newest, last in clocks}
    if not live:
        return states
    acks: dict[int, dict[int, Acknowledged]] = {}
    for row in acknowledged:
        acks.setdefault(row["alert_id"], {})[row["user_id"]] = Acknowledged(row["at"], row["name"])
    children = _children(connection, [row["id"] for row in live])
    for row in live:
        own = children.get(row["id"], {})
        state = _state(row, acks.get(row["id"], {}), tuple(own))
        fields: dict[str, object] = {name: row[name] for name in (*SOURCE_COLUMNS, "tags", "custom")}
        alert = LiveAlert(state, fields, row["merged_into_id"], own)
        key = bytes(row["key_hash"])
        states[key] = replace(states.get(key, KeyState()), live=alert, last_alert=row["id"])
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


def _children(connection: Connection, parents: Sequence[int]) -> dict[int, dict[int, AlertState]]:
    """The alerts merged into `parents`, locked, by parent. They come after their parents in the order of locks."""
    found = connection.execute(
        "SELECT id, merged_into_id FROM alerts_alert WHERE merged_into_id = ANY(%s) AND status = 'merged' "
        "ORDER BY id FOR NO KEY UPDATE",
        (list(parents),),
    ).fetchall()
    if not found:
        return {}
    states = alert_rows.load(connection, [row[0] for row in found])
    children: dict[int, dict[int, AlertState]] = {}
    for number, parent in found:
        children.setdefault(parent, {})[number] = states[number]
    return children


def write_clocks(connection: Connection, states: Mapping[bytes, KeyState], now: datetime) -> None:
    """Writes the newest source time and the last alert of keys, in one statement."""
    if states:
        rows = sorted(states.items())
        connection.execute(
            "INSERT INTO inbound_keyclock (key_hash, newest, last_alert, touched_at) "
            "SELECT k, newest, last_alert, %s FROM unnest(%s::bytea[], %s::timestamptz[], %s::bigint[]) "
            "AS n(k, newest, last_alert) ON CONFLICT (key_hash) DO UPDATE SET newest = excluded.newest, "
            "last_alert = excluded.last_alert, touched_at = excluded.touched_at",
            (
                now,
                [key for key, _ in rows],
                [state.newest for _, state in rows],
                [state.last_alert for _, state in rows],
            ),
        )


def write_seen(connection: Connection, seen: Mapping[DeliveryKey, Seen]) -> None:
    """Remembers deliveries that were decided."""
    if seen:
        connection.execute(
            "INSERT INTO inbound_seendelivery (integration_id, hash, message) "
            "SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::uuid[]) ON CONFLICT DO NOTHING",
            ([key[0] for key in seen], [key[1] for key in seen], [one.message_id for one in seen.values()]),
        )
