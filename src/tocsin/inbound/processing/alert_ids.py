"""Ids of new alerts, fetched from the sequence in bulk."""

from __future__ import annotations

import logging

import psycopg
from psycopg import Cursor

from tocsin.alerts import store
from tocsin.core.db.database import Connection

log = logging.getLogger(__name__)


class AlertIdAllocator:
    """Ids for new alerts, fetched from the sequence as needed; the next batch uses what one leaves over."""

    def __init__(self) -> None:
        self._free_ids: list[int] = []
        self._used_count = 0
        #: A query for ids whose result has not been read yet.
        self._id_query: Cursor[tuple[int]] | None = None

    def reserve(self, connection: Connection, count: int) -> None:
        """Requests the ids missing for `count` alerts. In a pipeline, this costs no round trip."""
        try:
            self._collect()
        except psycopg.Error:
            # An earlier batch requested them, and its transaction or connection failed: those ids are lost.
            log.info("The numbers that a failed batch asked for are skipped.")
        self._used_count = 0
        if (missing := count - len(self._free_ids)) > 0:
            self._id_query = store.request_ids(connection, missing)

    def next_id(self) -> int:
        """Returns the id of the next alert that opens; 0 if none is left of those requested."""
        self._collect()
        return self._free_ids[self._used_count] if self._used_count < len(self._free_ids) else 0

    def use(self) -> None:
        """Marks the next id as used by an alert of this batch."""
        self._used_count += 1

    def _collect(self) -> None:
        if self._id_query is not None:
            cursor, self._id_query = self._id_query, None
            self._free_ids.extend([row[0] for row in cursor])

    def mark_committed(self) -> None:
        """Marks the batch's ids as used. Without this call (the batch was rolled back), they are handed out again."""
        del self._free_ids[: self._used_count]
        self._used_count = 0

    def discard(self) -> None:
        """Drops all ids, because it is unknown whether the last batch was committed."""
        self._free_ids.clear()
        self._id_query = None
        self._used_count = 0
