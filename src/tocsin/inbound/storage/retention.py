"""The loop that removes what is kept only so long: messages, and what they left in the narrow tables beside them.

Oldest first, in small transactions, each as dear as what it removes and never as the tables are long. Never what waits
to be decided, nor the messages of a live alert.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock, clock_jump
from tocsin.core.runtime.periodic_tasks import PeriodicTask

#: So many messages are removed in one turn, and of large ones so many bytes: a transaction must be short.
CHUNK = 5_000
MAX_BYTES_PER_RUN = 256 * 1024 * 1024

#: A narrow table is looked through in so many turns, and not in slices smaller than that.
TURNS = 120
MIN_BLOCKS = 200

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

#: Of so many of the table's blocks the size of the messages is known well enough.
SAMPLE = 1_000
#: What a message takes besides its texts: its row's head and numbers, and its places in the indexes.
_BESIDES = 300

#: What the row of a message takes, its long values where they are kept, and its places in the indexes.
_SIZE = (
    "pg_column_size(m.raw) + pg_column_size(m.headers) + pg_column_size(m.verdict) + pg_column_size(m.subject) "
    f"+ pg_column_size(m.reason) + {_BESIDES}"
)

# Ids are UUIDv7s: the primary key leads to the oldest, and ends the walk where the younger ones begin.
_MESSAGES = f"""
WITH oldest AS MATERIALIZED (SELECT m.id, {_SIZE} AS size FROM inbound_inboundmessage m
WHERE (%(over)s OR (m.id < %(first)s AND m.received_at < %(before)s)) AND m.status NOT IN ('Pending', 'Mapped Delayed')
AND NOT EXISTS (SELECT 1 FROM alerts_alert a WHERE a.id = m.alert_id AND a.status IN ('open', 'assigned', 'on_hold'))
ORDER BY m.id LIMIT %(chunk)s
), old AS MATERIALIZED (
  SELECT id, size FROM (SELECT id, size, sum(size) OVER (ORDER BY id) - size AS before FROM oldest) AS o
  WHERE before < %(most)s
), words AS (DELETE FROM inbound_messagetext t USING old WHERE t.message_id = old.id
), gone AS (DELETE FROM inbound_inboundmessage m USING old WHERE m.id = old.id)
SELECT count(*), coalesce(sum(size), 0) FROM old
"""

_SLICE = "t.ctid >= format('(%%s,0)', %(begin)s::bigint)::tid AND t.ctid < format('(%%s,0)', %(end)s::bigint)::tid"

#: By table: which of its rows, `t`, are of no use any more.
_BESIDE: dict[LiteralString, LiteralString] = {
    "inbound_processeddelivery": "NOT EXISTS (SELECT FROM inbound_inboundmessage m WHERE m.id = t.message)",
    "inbound_messagetext": "NOT EXISTS (SELECT FROM inbound_inboundmessage m WHERE m.id = t.message_id)",
    "inbound_dedupkey": "t.touched_at < %(before)s AND NOT EXISTS ("
    "SELECT FROM alerts_alert a WHERE a.key_hash = t.key_hash AND a.holds_key)",
    "inbound_groupmember": "t.joined_at < %(before)s AND NOT EXISTS ("
    "SELECT FROM alerts_alert a WHERE a.id = t.alert_id AND a.holds_key)",
    "inbound_ratewindow": "t.touched_at < %(before)s AND (t.until IS NULL OR t.until < %(now)s)",
}


def loop() -> PeriodicTask:
    """The loop for a worker."""
    keeper = RetentionTask()
    return PeriodicTask("inbound prune", lambda: keeper.turn(clock.now()), timedelta(minutes=1))


@dataclass(slots=True)
class RetentionTask:
    """One worker's loop. It remembers, by table, at which block its next look begins: after a restart, anywhere."""

    _places: dict[str, int] = field(default_factory=dict)

    def turn(self, now: datetime, *, chunk: int = CHUNK) -> bool:
        """Removes messages past their retention, or the oldest over the size cap. True when there may be more."""
        with database.transaction() as connection:
            settings = settings_store.load(connection)
            is_doubted = clock_jump.is_doubted(connection, now)
        before = now - timedelta(days=settings[settings_store.MESSAGE_RETENTION_DAYS.name])
        if is_doubted:
            # The clock may be far ahead: nothing is so old that it would go for that.
            before = _NEVER
        with database.transaction() as connection:
            over = _over(connection, settings[settings_store.MESSAGE_SIZE_CAP_MB.name] * 1024 * 1024)
            most = min(over or MAX_BYTES_PER_RUN, MAX_BYTES_PER_RUN)
            if _remove(connection, before, over=over > 0, most=most, chunk=chunk):
                return True
        if is_doubted:
            return False
        for table in _BESIDE:
            with database.transaction() as connection:
                self._prune_beside(connection, table, before, now)
        return False

    def _prune_beside(self, connection: Connection, table: LiteralString, before: datetime, now: datetime) -> None:
        """Looks through the next slice of a table that has no order in which its oldest rows could be found."""
        blocks = _blocks(connection, table)
        begin = self._places.get(table, 0)
        end = begin + max(MIN_BLOCKS, blocks // TURNS)
        connection.execute(
            database.literal(f"DELETE FROM {table} t WHERE {_SLICE} AND {_BESIDE[table]}"),
            {"begin": begin, "end": end, "before": before, "now": now},
        )
        self._places[table] = end if end < blocks else 0


def _remove(connection: Connection, before: datetime, *, over: bool, most: int, chunk: int) -> bool:
    """Removes the oldest messages: those before, or any where there are too many, but no more than come to `most`
    bytes. True when there may be more."""
    found = connection.execute(
        database.literal(_MESSAGES),
        {"over": over, "first": first_uuid7(before), "before": before, "chunk": chunk, "most": most},
    ).fetchone()
    assert found is not None
    number, size = found
    return bool(number == chunk or size >= MAX_BYTES_PER_RUN)


def _over(connection: Connection, cap: int) -> int:
    """How many bytes more than `cap` the messages take that there are, reckoned; 0: no more.

    Files do not shrink where rows go: what is free in them is used again. So beyond the cap their size says nothing,
    and what the rows take is reckoned from some of them.
    """
    found = connection.execute("SELECT pg_total_relation_size('inbound_inboundmessage')").fetchone()
    if found is None or found[0] <= cap:
        return 0
    share = min(100.0, 100.0 * SAMPLE / max(1, _blocks(connection, "inbound_inboundmessage")))
    sample = connection.execute(
        database.literal(
            f"SELECT coalesce(sum({_SIZE}), 0)::float FROM inbound_inboundmessage m TABLESAMPLE SYSTEM (%s)"
        ),
        (share,),
    ).fetchone()
    return max(0, int(sample[0] * 100 / share) - cap) if sample is not None else 0


def _blocks(connection: Connection, table: LiteralString) -> int:
    """How many blocks the table has, its indexes and long values aside."""
    found = connection.execute(
        "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int", (table,)
    ).fetchone()
    assert found is not None
    return int(found[0])
