"""A batch that fails is split, so that only its bad rows fail, and the next one is smaller."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest
from psycopg import errors

from tocsin.core.db.database import SLOW_BATCH, Batch, BatchRunner


class Rows:
    """Due rows of which some are bad: a batch with one of them fails. `capacity` is what a session can take."""

    def __init__(
        self, number: int, *bad: int, error: Exception | None = None, caught: type[Exception] = Exception
    ) -> None:
        self.due = list(range(1, number + 1))
        self.bad = bad
        self.error = error or ValueError("bad row")
        self.capacity = number
        self.attempts: list[int] = []
        self.failed: list[int] = []
        self.batches = BatchRunner[int]("A batch of rows", 4, 8, caught=caught)

    def work(self, batch: Batch[int]) -> bool:
        """Works on rows together."""
        is_full = not batch.keys and len(self.due) >= batch.limit
        batch.keys = batch.keys or self.due[: batch.limit]
        self.attempts.append(len(batch.keys))
        if set(batch.keys) & set(self.bad):
            raise self.error
        if len(batch.keys) > self.capacity:
            raise errors.IdleInTransactionSessionTimeout("the session is over")
        self.due = [row for row in self.due if row not in batch.keys]
        return is_full

    def fail(self, row: int, error: Exception) -> None:
        self.failed.append(row)
        self.due.remove(row)

    def run(self, keys: Sequence[int] = ()) -> bool:
        return self.batches.run(self.work, self.fail, keys)


def test_full_batches_grow_and_the_last_ends_that() -> None:
    rows = Rows(21)
    while rows.run():
        pass
    assert rows.attempts == [4, 8, 8, 1]
    assert rows.batches.size == 4


def test_next_batch_has_room_for_twice_what_fitted() -> None:
    batches = BatchRunner[int]("A batch of rows", 100, 500)
    claimed: list[int] = []

    def work(batch: Batch[int]) -> bool:
        claimed.append(batch.limit)
        batch.keys = [1, 2] if len(claimed) < 3 else list(range(batch.limit))
        return True

    for _batch in range(4):
        batches.run(work, lambda row, error: None)
    assert claimed == [100, 16, 16, 32]


def test_slow_batches_are_halved_until_they_are_quick() -> None:
    seconds = [0.0]
    batches = BatchRunner[int]("A batch of rows", 100, 500, elapsed=lambda: seconds[0])
    claimed: list[int] = []

    def work(batch: Batch[int]) -> bool:
        claimed.append(batch.limit)
        batch.keys = list(range(batch.limit))
        seconds[0] += batch.limit * SLOW_BATCH / 20
        return True

    for _batch in range(6):
        batches.run(work, lambda row, error: None)
    assert claimed == [100, 50, 25, 16, 32, 16]


def test_only_the_bad_rows_of_a_batch_fail() -> None:
    rows = Rows(4, 2, 4)
    assert not rows.run(), "what failed is not tried again at once"
    assert (rows.due, rows.failed) == ([], [2, 4])


def test_batch_too_large_for_its_session_is_halved() -> None:
    rows = Rows(9)
    rows.capacity = 1
    for _outage in range(2):
        with pytest.raises(errors.IdleInTransactionSessionTimeout):
            rows.run()
    assert rows.run()
    assert (rows.attempts, rows.failed) == ([4, 2, 1], [])


def test_row_that_ends_each_session_alone_is_at_fault() -> None:
    rows = Rows(2, 1, error=errors.IdleInTransactionSessionTimeout())
    for _outage in range(2):
        with pytest.raises(errors.IdleInTransactionSessionTimeout):
            rows.run()
    for _batch in range(2):
        rows.run()
    assert (rows.due, rows.failed) == ([], [1])


def test_an_unavailable_database_is_no_fault_of_a_row() -> None:
    rows = Rows(4, 2, error=psycopg.OperationalError("the server is gone"))
    with pytest.raises(psycopg.OperationalError):
        rows.run()
    assert rows.failed == []


def test_an_error_that_is_not_caught_ends_the_batch() -> None:
    rows = Rows(4, 2, caught=errors.DataError)
    with pytest.raises(ValueError, match="bad row"):
        rows.run()
    assert (len(rows.due), rows.failed, rows.batches.size) == (4, [], 2)


def test_a_lost_conflict_is_retried_together() -> None:
    rows = Rows(2, 2, error=errors.DeadlockDetected())
    bad = iter([(2,), ()])

    def work(batch: Batch[int]) -> bool:
        rows.bad = next(bad)
        return rows.work(batch)

    assert not rows.batches.run(work, rows.fail)
    assert (rows.attempts, rows.due, rows.failed) == ([2, 2], [], [])
