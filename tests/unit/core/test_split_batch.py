"""A batch that fails is split, so that only its bad rows fail."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tocsin.core.db.split_batch import run_or_split


class Rows:
    """Rows of which some are bad: a batch with one of them fails."""

    def __init__(self, *bad: int, error: Exception | None = None) -> None:
        self.bad = bad
        self.error = error or ValueError("bad row")
        self.done: list[int] = []
        self.failed: list[int] = []

    def work(self, *rows: int) -> int:
        """Works on rows together."""
        if set(rows) & set(self.bad):
            raise self.error
        self.done += rows
        return len(rows)

    def run(self, caught: type[Exception] = Exception) -> int | None:
        """Works on the rows 1 to 4."""
        return run_or_split(
            "Four rows",
            lambda: self.work(1, 2, 3, 4),
            lambda: (1, 2, 3, 4),
            self.work,
            lambda row, error: self.failed.append(row),
            caught=caught,
        )


def test_a_good_batch_is_done_together() -> None:
    rows = Rows()
    assert rows.run() == 4
    assert rows.done == [1, 2, 3, 4]


def test_only_the_bad_rows_of_a_batch_fail() -> None:
    rows = Rows(2, 4)
    assert rows.run() is None
    assert (rows.done, rows.failed) == ([1, 3], [2, 4])


def test_an_unavailable_database_is_no_fault_of_a_row() -> None:
    rows = Rows(2, error=psycopg.OperationalError("the server is gone"))
    with pytest.raises(psycopg.OperationalError):
        rows.run()
    assert rows.failed == []


def test_an_error_that_is_not_caught_ends_the_batch() -> None:
    rows = Rows(2)
    with pytest.raises(ValueError, match="bad row"):
        rows.run(errors.DataError)
    assert (rows.done, rows.failed) == ([], [])


def test_a_lost_conflict_is_retried_together() -> None:
    rows = Rows(2, error=errors.DeadlockDetected())
    attempts = iter([(2,), ()])

    def batch() -> int:
        rows.bad = next(attempts)
        return rows.work(1, 2)

    assert run_or_split("Two rows", batch, lambda: (), rows.work, lambda row, error: None) == 2
