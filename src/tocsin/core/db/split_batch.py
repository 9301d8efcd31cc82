"""Works on rows in batches, each a transaction of its own. A batch that fails is split, so that one bad row, or too
many rows for the processor at hand, stop no others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tocsin.core.db import database

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch[K]:
    """The rows of one transaction: those of `keys`; without any, as many due rows as `limit` allows.

    The transaction replaces `keys` by the rows that it has claimed: if it fails, only those are tried again.
    """

    limit: int
    keys: Sequence[K] = ()


class BatchRunner[K]:
    """Runs the batches of one task and remembers how many rows a batch may have.

    The number doubles with each full batch, up to `most`, and is halved after any failure: what looks like an outage of
    the database may be a session that the server ended, because the batch was too large for a busy machine.
    """

    def __init__(
        self, what: str, start: int, most: int, *, caught: type[Exception] | tuple[type[Exception], ...] = Exception
    ) -> None:
        """`what` names a batch in the log. A row is at fault only for errors of `caught`; others are raised."""
        self._what = what
        self._start = start
        self._most = most
        self._caught = caught
        self.size = start
        #: The row that was alone when the database was last unavailable.
        self._suspect: K | None = None

    def run(
        self, work: Callable[[Batch[K]], bool], failed: Callable[[K, Exception], object], keys: Sequence[K] = ()
    ) -> bool:
        """Runs `work`, a whole transaction, with the rows of `keys`, or with those that are due, and returns what it
        returns: whether more may be due right away. If it fails, its rows are tried by halves, each in a session of its
        own, and `failed` is called with those that fail alone.

        An unavailable database is no fault of a row: that error is raised, unless the same row causes it twice.
        """
        batch = Batch(self.size, keys)
        try:
            has_more = database.retry_once(partial(work, batch))
        except Exception as error:
            self.size = max(1, min(self.size, len(batch.keys) or self.size) // 2)
            if not self._is_to_split(batch.keys, error):
                raise
            if len(batch.keys) == 1:
                failed(batch.keys[0], error)
                return False
            log.exception("%s failed: its %d rows are tried by halves.", self._what, len(batch.keys))
            half = len(batch.keys) // 2
            for part in (batch.keys[:half], batch.keys[half:]):
                self.run(work, failed, part)
            return False
        if not keys:
            self.size = self._next_size(len(batch.keys)) if has_more else self._start
        return has_more

    def _next_size(self, count: int) -> int:
        if 2 * count > self.size:
            return min(self._most, 2 * self.size)
        # The transaction ended with fewer rows than it might have had.
        return min(self.size, max(self._start, self.size // 2))

    def _is_to_split(self, keys: Sequence[K], error: Exception) -> bool:
        if not keys or not isinstance(error, self._caught):
            return False
        if not database.is_unavailable(error):
            return True
        is_alone, is_repeated = len(keys) == 1, self._suspect == keys[0]
        self._suspect = keys[0] if is_alone else None
        return is_alone and is_repeated
