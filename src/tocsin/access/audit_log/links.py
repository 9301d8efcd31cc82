"""Links the entries of the audit log to a hash chain, verifies it, and deletes the oldest entries of it.

A periodic task links entries a moment after their commit. A lock until the end of each transaction that records would
make sign-ins wait for configuration changes, and both for each other; and only committed entries, in one order, let a
cursor follow the log (`access.audit_log.forwarding`). Database triggers refuse every other change of an entry.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

from django.db import connection as django_connection

from tocsin.access.audit_log.chain import (
    GENESIS,
    SALT_BYTES,
    BrokenLink,
    ChainEntry,
    Damage,
    Link,
    erased_digest,
    find_damage,
    link_entry,
    read_erasures,
)
from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: Entries linked in one transaction.
BATCH = 500

#: Entries verified at once: a log of so many as a whole, a larger one in slices, round after round.
MAX_VERIFIED = 50_000

#: Entries that the task verifies, and how often: a million in half a day.
_VERIFIED_BY_TASK = 1_500
VERIFY_INTERVAL = timedelta(minutes=1)

#: How often the task looks for new entries.
LINK_INTERVAL = timedelta(seconds=2)

#: The action of an entry that names erased entries.
ERASE = "erase"

#: Tells the database's triggers why entries are changed, for the rest of the transaction.
_PURPOSE = "SELECT set_config('tocsin.audit_change', %s, true)"

_COLUMNS: LiteralString = (
    "id, at, actor_id, actor_name, action, object_type, object_id, object_name, group_id, before::text, after::text, "
    "via, host(address)"
)
_ANY_NEW = "SELECT 1 FROM access_auditentry WHERE sequence IS NULL LIMIT 1"
_NEW = f"SELECT {_COLUMNS} FROM access_auditentry WHERE sequence IS NULL ORDER BY id LIMIT %s FOR UPDATE"
_LINK = "UPDATE access_auditentry SET sequence = %s, hash = %s, content_hash = %s, salt = %s WHERE id = %s"
_CREATE_STATE = """
INSERT INTO access_auditchain (id, head, head_hash, anchor, anchor_hash) VALUES (1, 0, %s, 0, %s) ON CONFLICT DO NOTHING
"""
_STATE = "SELECT head, head_hash, anchor, anchor_hash FROM access_auditchain WHERE id = 1"
_VERIFY_STATE = """
SELECT head, head_hash, anchor, anchor_hash, verified, verified_hash FROM access_auditchain WHERE id = 1
"""
_LINKED = f"""
SELECT {_COLUMNS}, sequence, hash, content_hash, salt FROM access_auditentry
WHERE sequence > %s ORDER BY sequence LIMIT %s
"""
# Also those that are not linked yet: an erasure and its entry are committed together.
_ERASURES = f"SELECT after FROM access_auditentry WHERE action = '{ERASE}' ORDER BY id"

# Only the beginning of the chain: what comes after an entry that is kept is kept as well.
_LAST_EXPIRED = """
SELECT sequence, hash FROM (
  SELECT sequence, hash, bool_and(at < %s) OVER (ORDER BY sequence) AS is_expired
  FROM (
    SELECT sequence, hash, at FROM access_auditentry WHERE sequence IS NOT NULL ORDER BY sequence LIMIT %s
  ) AS oldest
) AS judged WHERE is_expired ORDER BY sequence DESC LIMIT 1
"""


def link_new() -> bool:
    """Links a batch of new entries. Returns whether there may be more."""
    with database.transaction() as connection:
        if connection.execute(_ANY_NEW).fetchone() is None:
            return False
        head, head_hash, *_anchor = _lock_state(connection)
        rows = connection.execute(_NEW, (BATCH,)).fetchall()
        connection.execute(_PURPOSE, ("link",))
        links = []
        for row in rows:
            link = link_entry(ChainEntry(*row), head + 1, head_hash, secrets.token_bytes(SALT_BYTES))
            links.append((link.sequence, link.hash, link.content_hash, link.salt, row[0]))
            head, head_hash = link.sequence, link.hash
        with connection.cursor() as cursor:
            cursor.executemany(_LINK, links)
        connection.execute("UPDATE access_auditchain SET head = %s, head_hash = %s WHERE id = 1", (head, head_hash))
    return len(rows) == BATCH


def delete_before(before: datetime, chunk: int) -> int:
    """Deletes at most `chunk` of the oldest entries, if they are older than `before`, and returns their number.

    The hash of the last one remains as the anchor of the chain.
    """
    with database.transaction() as connection:
        _lock_state(connection)
        last = connection.execute(_LAST_EXPIRED, (before, chunk)).fetchone()
        if last is None:
            return 0
        connection.execute(_PURPOSE, ("retention",))
        deleted = connection.execute("DELETE FROM access_auditentry WHERE sequence <= %s", (last[0],)).rowcount
        connection.execute("UPDATE access_auditchain SET anchor = %s, anchor_hash = %s WHERE id = 1", tuple(last))
    return deleted


def find_broken_link(connection: Connection, *, limit: int = MAX_VERIFIED, chunk: int = 5_000) -> BrokenLink | None:
    """Returns the first place at which the chain is broken; None if there is none.

    Reads the whole log if it has at most `limit` entries; of a larger one, as many as follow the last one that
    `verify_next` has verified.
    """
    return _verify(connection, limit, chunk)[0]


def verify_next(*, limit: int = _VERIFIED_BY_TASK) -> bool:
    """Verifies the next slice of the chain, and begins again at its end. Stays before a broken place, so that
    `find_broken_link` finds it. Returns False: there is time until the next slice."""
    with database.transaction() as connection:
        broken, *verified = _verify(connection, limit, limit)
        if broken is None:
            connection.execute("UPDATE access_auditchain SET verified = %s, verified_hash = %s WHERE id = 1", verified)
    return False


def _verify(connection: Connection, limit: int, chunk: int) -> tuple[BrokenLink | None, int, bytes]:
    """Returns what is broken, and the last entry that is not, with its hash."""
    state = connection.execute(_VERIFY_STATE).fetchone()
    if state is None:
        return None, 0, GENESIS
    head, head_hash, sequence, previous_hash, verified, verified_hash = state
    if head - sequence > limit and sequence < verified < head:
        sequence, previous_hash = verified, verified_hash
    end = sequence + limit
    erased = read_erasures(row[0] or {} for row in connection.execute(_ERASURES).fetchall())
    for entry, link in _linked(connection, sequence, chunk):
        # Later ones were linked since the state was read.
        if sequence == min(head, end):
            break
        if broken := find_damage(entry, link, sequence + 1, bytes(previous_hash), erased):
            return broken, sequence, bytes(previous_hash)
        sequence, previous_hash = link.sequence, link.hash
    if sequence < min(head, end) or (sequence == head and bytes(previous_hash) != bytes(head_hash)):
        return BrokenLink(sequence + 1, None, Damage.MISSING), sequence, bytes(previous_hash)
    return None, sequence, bytes(previous_hash)


def unlinked_since(connection: Connection) -> datetime | None:
    """Returns the time of the oldest entry that is not linked yet."""
    row = connection.execute("SELECT min(at) FROM access_auditentry WHERE sequence IS NULL").fetchone()
    return row[0] if row else None


def change_for_erasure(statement: str, parameters: Sequence[Any]) -> None:
    """Runs an UPDATE of entries that erases a person, on Django's connection, in the caller's transaction."""
    with django_connection.cursor() as cursor:
        cursor.execute(_PURPOSE, ("erasure",))
        cursor.execute(statement, parameters)
        cursor.execute(_PURPOSE, ("",))


def digests_after_erasure(ids: Sequence[int]) -> dict[str, str]:
    """Returns the digest of what is left of each erased entry, by its id, on Django's connection."""
    with django_connection.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS} FROM access_auditentry WHERE id = ANY(%s) ORDER BY id", (list(ids),))
        return {str(row[0]): erased_digest(ChainEntry(*row)) for row in cursor.fetchall()}


def _lock_state(connection: Connection) -> tuple[Any, ...]:
    connection.execute(_CREATE_STATE, (GENESIS, GENESIS))
    row = connection.execute(f"{_STATE} FOR UPDATE").fetchone()
    assert row is not None
    head, head_hash, anchor, anchor_hash = row
    return head, bytes(head_hash), anchor, bytes(anchor_hash)


def _linked(connection: Connection, after: int, chunk: int) -> Iterator[tuple[ChainEntry, Link]]:
    """Yields the linked entries in their order."""
    while rows := connection.execute(_LINKED, (after, chunk)).fetchall():
        for row in rows:
            *values, sequence, hashed, content_hash, salt = row
            link = Link(sequence, bytes(hashed), bytes(content_hash), None if salt is None else bytes(salt))
            yield ChainEntry(*values), link
        after = rows[-1][-4]
