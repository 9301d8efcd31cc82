"""Job results are written in batches; an unwritable result is isolated and kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import pytest
from psycopg.errors import DataError, OperationalError

from tocsin.core.delivery.job_pool import Deadline, JobPool, LeaseLost


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

    def made(self, work: Callable[[str], str] = lambda job: job, slots: int = 4) -> JobPool[str, str, str]:
        return JobPool("test", slots, key=lambda job: job, work=work, write=self.write, salvage=self.salvaged.append)


def test_what_comes_back_while_another_write_runs_is_written_together() -> None:
    table, release, barrier = Written(), threading.Event(), threading.Barrier(4)

    def work(job: str) -> str:
        barrier.wait(10)
        assert release.wait(10)
        return job

    flight = table.made(work)
    flight.start(["a", "b", "c"])
    assert flight.free_slots() == 1
    barrier.wait(10)
    with flight._writing:
        release.set()
        assert flight.wait_until(lambda jobs: len(flight._results) == 3, 10)
        assert flight.free_slots() == 1  # nothing is done before it is written down
    flight.close(10)
    assert table.batches == [["a", "b", "c"]]
    assert flight.free_slots() == 4


def test_one_result_that_cannot_be_written_costs_no_other() -> None:
    table = Written()
    flight = table.made()
    flight.start(["a", "poison", "b"])
    flight.close(10)
    assert sorted(one for batch in table.batches for one in batch) == ["a", "b"]
    assert table.salvaged == ["poison"]
    assert flight.jobs() == []


def test_unwritable_result_stays_in_flight_and_is_written_later() -> None:
    table = Written()
    table.is_away = True
    flight = table.made()
    flight.start(["a"])
    with pytest.raises(OperationalError):
        flight.settle(10)
    assert flight.jobs() == ["a"]
    table.is_away = False
    flight.settle(10)
    assert table.batches == [["a"]]
    assert flight.jobs() == []


def test_closing_waits_no_longer_than_its_timeout() -> None:
    table, release = Written(), threading.Event()
    flight = table.made(lambda job: job if release.wait(10) else "")
    flight.start(["slow"])
    flight.close(0.01)
    assert flight.jobs() == ["slow"]
    assert table.batches == []
    release.set()


@pytest.mark.parametrize("error", [RuntimeError("this should not be"), LeaseLost()])
def test_failed_job_leaves_the_pool(error: Exception) -> None:
    """Else its lease would be kept for ever, and nobody would try it again."""
    table = Written()

    def work(job: str) -> str:
        if job == "broken":
            raise error
        return job

    flight = table.made(work)
    flight.start(["a", "broken"])
    assert flight.wait_until(lambda jobs: not jobs, 10)
    flight.close(10)
    assert table.batches == [["a"]]
    assert flight.free_slots() == 4


class Elapsed:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def hanging(
    table: Written, elapsed: Elapsed, slots: int
) -> tuple[JobPool[str, str, str], threading.Event, threading.Semaphore]:
    """A pool whose job "hangs…" waits for the event; the semaphore is released by each that has begun."""
    release, begun = threading.Event(), threading.Semaphore(0)

    def work(job: str) -> str:
        if job.startswith("hangs"):
            begun.release()
            assert release.wait(10)
        return job

    late = Deadline[str, str](lambda job: 90, lambda job: f"{job} is lost", elapsed)
    return (
        JobPool(
            "test",
            slots,
            key=lambda job: job,
            work=work,
            write=table.write,
            salvage=table.salvaged.append,
            deadline=late,
        ),
        release,
        begun,
    )


def test_jobs_past_their_deadline_are_lost_and_free_their_slots() -> None:
    table, elapsed = Written(), Elapsed()
    flight, release, begun = hanging(table, elapsed, slots=2)
    flight.start(["hangs-1", "hangs-2"])
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    elapsed.seconds = 89
    flight.end_overdue()
    assert (flight.free_slots(), flight.stuck()) == (0, [])
    elapsed.seconds = 90
    flight.end_overdue()
    flight.store_results()
    assert table.batches == [["hangs-1 is lost", "hangs-2 is lost"]]
    assert (flight.free_slots(), sorted(flight.stuck())) == (2, ["hangs-1", "hangs-2"])
    # Every thread hangs; others take their place.
    flight.start(["a", "b"])
    flight.settle(10)
    assert sorted(one for batch in table.batches[1:] for one in batch) == ["a", "b"]
    release.set()
    assert flight.wait_until(lambda jobs: not flight.stuck(), 10)
    flight.close(10)
    assert sorted(table.salvaged) == ["hangs-1", "hangs-2"]


def test_a_job_started_again_keeps_its_own_result() -> None:
    table, elapsed = Written(), Elapsed()
    flight, release, begun = hanging(table, elapsed, slots=1)
    flight.start(["hangs"])
    assert begun.acquire(timeout=10)
    elapsed.seconds = 90
    flight.end_overdue()
    flight.store_results()
    flight.start(["hangs"])
    assert begun.acquire(timeout=10)
    assert flight.jobs() == ["hangs"]
    release.set()
    flight.settle(10)
    assert table.batches == [["hangs is lost"], ["hangs"]]
    assert flight.wait_until(lambda jobs: table.salvaged == ["hangs"], 10)


def test_a_hanging_thread_keeps_no_process_from_ending() -> None:
    script = (
        "import threading\n"
        "from tocsin.core.runtime.periodic_tasks import DaemonThreads\n"
        "begun = threading.Event()\n"
        "pool = DaemonThreads(1, 'hangs')\n"
        "pool.submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "assert begun.wait(10)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=20, check=False).returncode == 0
