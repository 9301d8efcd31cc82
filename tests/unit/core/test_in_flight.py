"""What came of jobs is written many at once, hurts no other where it cannot be written, and is never lost unwritten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from psycopg.errors import DataError, OperationalError

from tocsin.core.in_flight import InFlight


class Written:
    """A table that takes what it is told, but for what is named as poison, and can be away."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.salvaged: list[str] = []
        self.is_away = False

    def write(self, results: Sequence[str]) -> None:
        if self.is_away:
            raise OperationalError("the server closed the connection")
        if "poison" in results:
            raise DataError("a character that cannot be stored")
        self.batches.append(sorted(results))

    def made(self, work: Callable[[str], str] = lambda job: job, slots: int = 4) -> InFlight[str, str, str]:
        return InFlight("test", slots, key=lambda job: job, work=work, write=self.write, salvage=self.salvaged.append)


def test_what_comes_back_while_another_write_runs_is_written_together() -> None:
    table, release, begun = Written(), threading.Event(), threading.Barrier(4)

    def work(job: str) -> str:
        begun.wait(10)
        assert release.wait(10)
        return job

    flight = table.made(work)
    flight.begin(["a", "b", "c"])
    assert flight.free() == 1
    begun.wait(10)
    with flight._writing:
        release.set()
        assert flight.wait_until(lambda jobs: len(flight._results) == 3, 10)
        assert flight.free() == 1  # nothing is done before it is written down
    flight.close(10)
    assert table.batches == [["a", "b", "c"]]
    assert flight.free() == 4


def test_one_result_that_cannot_be_written_costs_no_other() -> None:
    table = Written()
    flight = table.made()
    flight.begin(["a", "poison", "b"])
    flight.close(10)
    assert sorted(one for batch in table.batches for one in batch) == ["a", "b"]
    assert table.salvaged == ["poison"]
    assert flight.jobs() == []


def test_what_cannot_be_written_now_stays_on_its_way_and_is_written_later() -> None:
    table = Written()
    table.is_away = True
    flight = table.made()
    flight.begin(["a"])
    with pytest.raises(OperationalError):
        flight.settle(10)
    assert flight.jobs() == ["a"]
    table.is_away = False
    flight.settle(10)
    assert table.batches == [["a"]]
    assert flight.jobs() == []


def test_closing_waits_no_longer_than_it_was_told() -> None:
    table, release = Written(), threading.Event()
    flight = table.made(lambda job: job if release.wait(10) else "")
    flight.begin(["slow"])
    flight.close(0.01)
    assert flight.jobs() == ["slow"]
    assert table.batches == []
    release.set()


def test_a_job_whose_work_breaks_is_on_its_way_no_more() -> None:
    """Else its lease would be kept for ever, and nobody would try it again."""
    table = Written()

    def work(job: str) -> str:
        if job == "broken":
            raise RuntimeError("this should not be")
        return job

    flight = table.made(work)
    flight.begin(["a", "broken"])
    assert flight.wait_until(lambda jobs: not jobs, 10)
    flight.close(10)
    assert table.batches == [["a"]]
    assert flight.free() == 4
