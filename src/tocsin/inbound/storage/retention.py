"""Retention: prunes messages, and the rows they left in the narrow tables beside them.

Drops messages by whole months. Single rows are deleted oldest first, in small transactions whose cost depends on the
rows removed, not on the size of a table. Never prunes undecided messages, or messages of an active alert.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID

from tocsin.alerts import store
from tocsin.alerts.store import IS_ACTIVE, is_about, key_holder
from tocsin.core.config import settings_store
from tocsin.core.db import database, partitions
from tocsin.core.db.database import Connection
from tocsin.core.db.partitions import PartitionedTable
from tocsin.core.db.queries import search_expression
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock
from tocsin.inbound.models import MessageText

MESSAGES = PartitionedTable("inbound_inboundmessage", "id")
MESSAGE_TEXTS = PartitionedTable("inbound_messagetext", "message_id")

#: Messages `t` that outlive their month.
_IS_KEPT: LiteralString = database.literal(
    f"t.status IN ('Pending', 'Mapped Delayed') OR {is_about('t.alert_id', IS_ACTIVE)}"
)
_IS_TEXT_KEPT: LiteralString = "EXISTS (SELECT FROM inbound_inboundmessage m WHERE m.id = t.message_id)"

#: The maximum number of messages, and of bytes, removed per run, to keep the transaction short.
MAX_MESSAGES_PER_RUN = 5_000
MAX_BYTES_PER_RUN = 256 * 1024 * 1024

#: A narrow table is scanned in this many runs, in slices of at least MIN_BLOCKS blocks.
RUNS_PER_SCAN = 120
MIN_BLOCKS = 200
#: PostgreSQL's block size, unless it was built with another: only the pace depends on it.
BLOCK_BYTES = 8192

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

#: The number of blocks from which the size of all messages is estimated.
SAMPLE_BLOCKS = 1_000
#: Estimated bytes per message besides its texts: row header, numbers, and index entries.
_ROW_OVERHEAD_BYTES = 300

#: The size of a message: its row, its long values as stored, and its index entries.
_SIZE = (
    "pg_column_size(m.raw) + pg_column_size(m.headers) + pg_column_size(m.verdict) + pg_column_size(m.subject) "
    f"+ pg_column_size(m.reason) + {_ROW_OVERHEAD_BYTES}"
)

# Ids are UUIDv7s: the primary key leads to the oldest messages, and the scan stops at the first younger one.
_MESSAGES = f"""
WITH oldest AS MATERIALIZED (SELECT m.id, {_SIZE} AS size FROM inbound_inboundmessage m
WHERE (%(over)s OR (m.id < %(first)s AND m.received_at < %(before)s)) AND m.status NOT IN ('Pending', 'Mapped Delayed')
AND NOT {is_about("m.alert_id", IS_ACTIVE)}
ORDER BY m.id LIMIT %(chunk)s
), old AS MATERIALIZED (
  SELECT id, size FROM (SELECT id, size, sum(size) OVER (ORDER BY id) - size AS before FROM oldest) AS o
  WHERE before < %(most)s
), words AS (DELETE FROM inbound_messagetext t USING old WHERE t.message_id = old.id
), gone AS (DELETE FROM inbound_inboundmessage m USING old WHERE m.id = old.id)
SELECT count(*), coalesce(sum(size), 0) FROM old
"""

_SLICE = "t.ctid >= format('(%%s,0)', %(begin)s::bigint)::tid AND t.ctid < format('(%%s,0)', %(end)s::bigint)::tid"

#: By table, the condition for obsolete rows `t`.
_SIDE_TABLES: dict[LiteralString, LiteralString] = {
    "inbound_processeddelivery": "NOT EXISTS (SELECT FROM inbound_inboundmessage m WHERE m.id = t.message)",
    "inbound_dedupkey": f"t.touched_at < %(before)s AND NOT EXISTS {key_holder('t.key_hash')}",
    "inbound_groupmember": f"t.joined_at < %(before)s AND NOT {is_about('t.alert_id', 'a.holds_key')}",
    "inbound_ratewindow": "t.touched_at < %(before)s AND (t.until IS NULL OR t.until < %(now)s)",
}


@dataclass(slots=True)
class RetentionTask:
    """A worker's retention task. Remembers by table the block at which the next scan starts; lost at a restart."""

    _next_blocks: dict[str, int] = field(default_factory=dict)

    def run_once(self, now: datetime, *, chunk: int = MAX_MESSAGES_PER_RUN) -> bool:
        """Removes expired messages, or the oldest ones above the size cap. Returns True if there may be more."""
        with database.transaction() as connection:
            settings = settings_store.load(connection)
            is_doubted = clock.is_clock_suspect(connection, now)
        cutoff = now - timedelta(days=settings[settings_store.MESSAGE_RETENTION_DAYS.name])
        if is_doubted:
            # The clock may be far ahead: nothing is removed by age.
            cutoff = _NEVER
        else:
            cutoff = partitions.maintain(MESSAGES, now, cutoff, _IS_KEPT)
            partitions.maintain(MESSAGE_TEXTS, now, cutoff, _IS_TEXT_KEPT)
        with database.transaction() as connection:
            excess_bytes = _estimate_excess_bytes(
                connection, settings[settings_store.MESSAGE_SIZE_CAP_MB.name] * 1024 * 1024
            )
            if excess_bytes and _drop_oldest_month(connection, now, excess_bytes):
                return True
            max_bytes = min(excess_bytes or MAX_BYTES_PER_RUN, MAX_BYTES_PER_RUN)
            if _remove_oldest(connection, cutoff, is_over_cap=excess_bytes > 0, max_bytes=max_bytes, chunk=chunk):
                return True
        if is_doubted:
            return False
        for table in _SIDE_TABLES:
            with database.transaction() as connection:
                self._prune_side_table(connection, table, cutoff, now)
        return False

    def _prune_side_table(self, connection: Connection, table: LiteralString, cutoff: datetime, now: datetime) -> None:
        """Scans the next slice of a table that has no index by age."""
        row = connection.execute("SELECT pg_relation_size(%s::regclass)", (table,)).fetchone()
        assert row is not None
        blocks = int(row[0]) // BLOCK_BYTES
        begin = self._next_blocks.get(table, 0)
        end = begin + max(MIN_BLOCKS, blocks // RUNS_PER_SCAN)
        connection.execute(
            database.literal(f"DELETE FROM {table} t WHERE {_SLICE} AND {_SIDE_TABLES[table]}"),
            {"begin": begin, "end": end, "before": cutoff, "now": now},
        )
        self._next_blocks[table] = end if end < blocks else 0


def _drop_oldest_month(connection: Connection, now: datetime, excess_bytes: int) -> bool:
    """Drops the oldest month if it is past and no larger than the excess. Returns whether it did."""
    months = partitions.existing_months(connection, MESSAGES)
    if not months or months[0].next.start > now or not partitions.claim(connection, MESSAGES):
        return False
    if partitions.size(connection, MESSAGES, months[0]).total > excess_bytes:
        return False
    if not partitions.drop(connection, MESSAGES, months[0], _IS_KEPT):
        return False
    if months[0] in partitions.existing_months(connection, MESSAGE_TEXTS):
        partitions.drop(connection, MESSAGE_TEXTS, months[0], _IS_TEXT_KEPT)
    return True


def _remove_oldest(connection: Connection, cutoff: datetime, *, is_over_cap: bool, max_bytes: int, chunk: int) -> bool:
    """Removes the oldest messages: those older than `cutoff`, or any if `is_over_cap` the cap, up to `max_bytes` bytes.
    Returns True if there may be more."""
    row = connection.execute(
        database.literal(_MESSAGES),
        {"over": is_over_cap, "first": first_uuid7(cutoff), "before": cutoff, "chunk": chunk, "most": max_bytes},
    ).fetchone()
    assert row is not None
    count, size = row
    return bool(count == chunk or size >= MAX_BYTES_PER_RUN)


def _estimate_excess_bytes(connection: Connection, cap_bytes: int) -> int:
    """Estimates by how many bytes the messages exceed `cap_bytes`; 0: not at all.

    Files do not shrink when rows are deleted, because free space is reused. So above the cap the file size says
    nothing, and the size of the rows is estimated from a sample.
    """
    size = partitions.size(connection, MESSAGES)
    if size.total <= cap_bytes:
        return 0
    percentage = min(100.0, 100.0 * SAMPLE_BLOCKS / max(1, size.rows // BLOCK_BYTES))
    sample = connection.execute(
        database.literal(
            f"SELECT coalesce(sum({_SIZE}), 0)::float FROM inbound_inboundmessage m TABLESAMPLE SYSTEM (%s)"
        ),
        (percentage,),
    ).fetchone()
    return max(0, int(sample[0] * 100 / percentage) - cap_bytes) if sample is not None else 0


# ---------- search index
# Fills the search index of messages and alerts in the background, without slowing down ingest.
# Works in the order of message ids, which is chronological. Rows that are not indexed yet are searched directly.

#: The maximum number of messages, and of alerts, per run. During a flood, ingest and paging have priority.
MAX_ROWS_PER_RUN = 500

INTERVAL = timedelta(seconds=1)

#: A message that is pending for longer does not hold up the others: it is then indexed without its later values.
MAX_PENDING_AGE = timedelta(minutes=10)

#: An advisory lock, so that only one node fills the index.
_LOCK = 0x746F635F776F7264

_NEXT = f"""m.id > coalesce(
    (SELECT message_id FROM inbound_messagetext ORDER BY message_id DESC LIMIT 1), '{UUID(int=0)}')"""

#: A condition: messages or alerts are not indexed yet.
HAS_UNINDEXED = database.literal(
    f"(EXISTS (SELECT FROM inbound_inboundmessage m WHERE {_NEXT}) OR {store.HAS_UNINDEXED})"
)

_FILL = f"""
WITH next AS (
  SELECT m.id, m.subject, m.source_id, m.alert_id, m.received_at, m.status FROM inbound_inboundmessage m
  WHERE {_NEXT}
  ORDER BY m.id LIMIT %(most)s
), unsettled AS (
  SELECT id FROM next WHERE received_at >= %(settled)s OR (status = 'Pending' AND received_at >= %(waits)s)
  ORDER BY id LIMIT 1
), done AS (
  INSERT INTO inbound_messagetext (message_id, subject, source_id)
  SELECT n.id, {search_expression("n.subject", "n.source_id")} FROM next n
  WHERE n.id < coalesce((SELECT id FROM unsettled), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  ON CONFLICT DO NOTHING RETURNING message_id
)
SELECT n.alert_id FROM next n JOIN done d ON d.message_id = n.id
"""

_FIRST = UUID(int=0)


def run_once(now: datetime, *, max_rows: int = MAX_ROWS_PER_RUN) -> bool:
    """Indexes the next alerts and messages. Always returns False, to run at the interval only: see MAX_ROWS_PER_RUN."""
    with database.transaction() as connection:
        lock_row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
        if lock_row is None or not lock_row[0]:
            return False
        store.fill(connection, now, max_rows)
        rows = connection.execute(
            _FILL,
            {
                "most": max_rows,
                "settled": now - store.SETTLE_AFTER,
                "waits": now - MAX_PENDING_AGE,
            },
        ).fetchall()
        store.refresh(connection, [row[0] for row in rows if row[0] is not None])
    return False


def newest_indexed_id() -> UUID:
    """Returns the id of the newest indexed message; all older ones are indexed too."""
    return MessageText.objects.order_by("-pk").values_list("pk", flat=True).first() or _FIRST
